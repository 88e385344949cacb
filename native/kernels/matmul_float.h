// Weights of 16 or 32 bits by f32 activations, f32 sums in the order of k.
#pragma once

#include "matmul.h"

namespace tl {
namespace TL_ISA {

struct F32 {
  static constexpr int kBytes = 4;
  TL_ALWAYS F get(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
};
struct F16 {
  static constexpr int kBytes = 2;
  TL_ALWAYS F get(const uint8_t* p) { return load_f16(p); }
};
struct BF16 {
  static constexpr int kBytes = 2;
  TL_ALWAYS F get(const uint8_t* p) { return load_bf16(p); }
};

template <class W>
struct FloatTile {
  static constexpr int kPanels = kFloatPanels, kRows = kFloatRows;
  static constexpr int64_t kChunk = 128;  // 256 inputs
  static constexpr bool kExpands = false;
  static constexpr int64_t kLine = kPanel * W::kBytes;

  template <int P, int N, bool Expanded>
  TL_ALWAYS void run(const Matmul& m, const Weights& w, int64_t row, F (&acc)[P][N], Ahead ahead) {
    const int64_t end = 2 * w.end < m.w->cols ? 2 * w.end : m.w->cols;
    const float* x = m.x + row * m.ld_x;
    const uint8_t* line = w.p;
    int64_t next = 0;
    for (int64_t k = 2 * w.begin; k < end; ++k, line += kLine, next += ahead.step / 2) {
      TL_UNROLL for (int p = 0; p < P; ++p) prefetch(ahead.p + p * ahead.stride + next);
      F weights[P];
      TL_UNROLL for (int p = 0; p < P; ++p) weights[p] = W::get(line + p * w.stride);
      TL_UNROLL for (int i = 0; i < N; ++i) {
        const F one = set1(x[i * m.ld_x + k]);
        TL_UNROLL for (int p = 0; p < P; ++p) acc[p][i] = fma(weights[p], one, acc[p][i]);
      }
    }
  }
};

}  // namespace TL_ISA
}  // namespace tl

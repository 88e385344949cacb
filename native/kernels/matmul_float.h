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
  static constexpr int kPanels = kFloatPanels, kRows = kFloatRows, kTallRows = 0;
  static constexpr int64_t kChunk = 128;  // 256 inputs
  static constexpr bool kCopies = true, kExpands = false;
  static constexpr int64_t kLine = kPanel * W::kBytes;
  static constexpr int64_t kStride = 2 * kChunk + 16;
  static_assert(4 * kMostRowsAtOnce * (kBlockPanels * kPanel + kStride) <=
                static_cast<int64_t>(kMatmulScratch));

  static inline int64_t end_of(const Matmul& m, const Weights& w) {
    return 2 * w.end < m.w->cols ? 2 * w.end : m.w->cols;
  }

  static Inputs inputs(const Matmul& m, int64_t row, int64_t n, const Weights& w, float* to) {
    if (n <= kManyRows) return {m.x, m.ld_x, 0, 0};
    const int64_t k = 2 * w.begin, count = end_of(m, w) - k;
    for (int64_t i = 0; i < n; ++i) {
      memcpy(to + i * kStride, m.x + (row + i) * m.ld_x + k, static_cast<size_t>(count) * 4);
    }
    return {to, kStride, row, k};
  }

  template <int P, int N, bool Expanded>
  TL_ALWAYS void run(const Matmul& m, const Weights& w, const Inputs& in, int64_t row,
                     F (&acc)[P][N], Ahead ahead) {
    const int64_t end = end_of(m, w), ld = in.ld;
    const float* x = in.x + (row - in.row) * ld + 2 * w.begin - in.k;
    const uint8_t* line = w.p;
    int64_t next = 0;
    for (int64_t k = 2 * w.begin; k < end; ++k, ++x, line += kLine, next += ahead.step / 2) {
      TL_UNROLL for (int p = 0; p < P; ++p) prefetch(ahead.p + p * ahead.stride + next);
      F weights[P];
      TL_UNROLL for (int p = 0; p < P; ++p) weights[p] = W::get(line + p * w.stride);
      TL_UNROLL for (int i = 0; i < N; ++i) {
        const F one = set1(x[i * ld]);
        TL_UNROLL for (int p = 0; p < P; ++p) acc[p][i] = fma(weights[p], one, acc[p][i]);
      }
    }
  }
};

}  // namespace TL_ISA
}  // namespace tl

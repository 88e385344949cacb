// AVX-512 BF16: products with bf16 weights, 32 multiplications an instruction. The rest is avx512vnni's.
//
// Activations are rounded to bf16, as llama.cpp does for such weights, and the instruction rounds in
// its own order: so here, and only here, a result differs from that of other variants. A row's bits
// still do not depend on the rows beside it.
#include "matmul.h"

namespace tl {

namespace avx512vnni {
extern const Kernels table;
}

namespace TL_ISA {

// A unit of weights is 2 inputs of 16 outputs: [2][16]; the instruction wants them side by side.
TL_ALWAYS __m512bh weights_of(const uint8_t* unit) {
  const __m512i upper = _mm512_slli_epi32(_mm512_set1_epi32(1), 20);  // 16 to the odd lanes
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i twice = _mm512_or_si512(lanes, _mm512_slli_epi32(lanes, 16));
  return (__m512bh)_mm512_permutexvar_epi16(_mm512_or_si512(twice, upper), _mm512_loadu_si512(unit));
}

struct Bf16Tile {
  static constexpr int kPanels = kFloatPanels, kRows = kFloatRows, kTallRows = 0;
  static constexpr int64_t kChunk = 128;  // 256 inputs
  static constexpr bool kCopies = true, kExpands = false;
  static constexpr int64_t kStride = kChunk + 16;
  static_assert(4 * kMostRowsAtOnce * (kBlockPanels * kPanel + kStride) <=
                static_cast<int64_t>(kMatmulScratch));

  // The inputs of units [begin, end) of one row as pairs, to whole lines.
  static void to_pairs(const Matmul& m, int64_t row, int64_t begin, int64_t end, uint32_t* to) {
    const float* x = m.x + row * m.ld_x;
    for (int64_t k = 2 * begin; k < 2 * end; k += 32, to += 16) {
      const int64_t left = m.w->cols - k;
      const F low = left >= 16 ? load(x + k) : load_n(x + k, static_cast<int>(left));
      const F high = left >= 32   ? load(x + k + 16)
                     : left <= 16 ? zero()
                                  : load_n(x + k + 16, static_cast<int>(left - 16));
      _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  }

  // Many rows are made pairs once for all panels of a block; few by each tile.
  static Inputs inputs(const Matmul& m, int64_t row, int64_t n, const Weights& w, float* to) {
    if (n <= kManyRows) return {m.x, m.ld_x, 0, 0};
    uint32_t* pairs = reinterpret_cast<uint32_t*>(to);
    for (int64_t i = 0; i < n; ++i) to_pairs(m, row + i, w.begin, w.end, pairs + i * kStride);
    return {to, kStride, row, 2 * w.begin};
  }

  template <int P, int N, bool Expanded>
  TL_ALWAYS void run(const Matmul& m, const Weights& w, const Inputs& in, int64_t row,
                     F (&acc)[P][N], Ahead ahead) {
    alignas(64) uint32_t own[N * kStride];
    const uint8_t* line = w.p;
    for (int64_t begin = w.begin; begin < w.end; begin += kChunk) {
      const int64_t end = begin + kChunk < w.end ? begin + kChunk : w.end;
      const uint32_t* x = own;
      if (in.x != m.x) {
        x = reinterpret_cast<const uint32_t*>(in.x) + (row - in.row) * kStride;
      } else {
        for (int i = 0; i < N; ++i) to_pairs(m, row + i, begin, end, own + i * kStride);
      }
      for (int64_t u = begin; u < end; ++u, ++x, line += 64, ahead.p += ahead.step) {
        TL_UNROLL for (int p = 0; p < P; ++p) prefetch(ahead.p + p * ahead.stride);
        __m512bh weights[P];
        TL_UNROLL for (int p = 0; p < P; ++p) weights[p] = weights_of(line + p * w.stride);
        TL_UNROLL for (int i = 0; i < N; ++i) {
          const __m512bh two = (__m512bh)_mm512_set1_epi32(static_cast<int>(x[i * kStride]));
          TL_UNROLL for (int p = 0; p < P; ++p)
              acc[p][i] = _mm512_dpbf16_ps(acc[p][i], weights[p], two);
        }
      }
    }
  }
};

int matmul(const Matmul& m, int64_t row_begin, int64_t row_end, void* scratch) {
  const int status = check(m, row_begin, row_end, scratch);
  if (status == kOk && m.w->type == Type::bf16 && m.n > 0) {
    product<Bf16Tile>(m, row_begin, row_end, scratch);
    return kOk;
  }
  return status == kOk ? avx512vnni::table.matmul(m, row_begin, row_end, scratch) : status;
}

}  // namespace TL_ISA
}  // namespace tl

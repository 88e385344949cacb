// AMX: products of bytes with more than 16 rows in tiles, 16 rows by 16 outputs by 32 inputs an
// instruction. Few rows, and the rest, are avx512bf16's: every CPU with AMX has that.
//
// A line of quants is what a row of a tile has to be (layout.h), and sums of bytes are exact: the bits
// are those of every other variant.
#include "matmul_int.h"

namespace tl {

namespace avx512bf16 {
int matmul(const Matmul& m, int64_t row_begin, int64_t row_end, void* scratch);
}

namespace TL_ISA {

// What ldtilecfg reads (Intel's manual, volume 1, 18.1): shapes of the eight tiles.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};  // of a row
  uint8_t rows[16] = {};
};

// Tiles by number: sums of two panels, activations, weights of two panels.
enum { kSums = 0, kInputs = 2, kWeights = 3 };

template <int N, int Halves>
TL_ALWAYS void shape_tiles() {
  TileShapes shapes;
  for (int p = 0; p < 2; ++p) {
    shapes.bytes[kSums + p] = shapes.bytes[kWeights + p] = 64;
    shapes.rows[kSums + p] = N;
    shapes.rows[kWeights + p] = 8 / Halves;
  }
  shapes.bytes[kInputs] = 32 / Halves;
  shapes.rows[kInputs] = N;
  _tile_loadconfig(&shapes);
}

// Sums of 16 or 32 inputs, N rows by two panels; `step` is between rows, in bytes.
TL_ALWAYS void tile_sums(const uint8_t* first, const uint8_t* second, const int8_t* x, int64_t step,
                         int32_t (*sums)[16][16]) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_loadd(2, x, step);
  _tile_loadd(3, first, 64);
  _tile_loadd(4, second, 64);
  _tile_dpbsud(0, 2, 3);
  _tile_dpbsud(1, 2, 4);
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
}

template <class W>
struct AmxTile : IntTile<W> {
  using Narrow = IntTile<W>;
  static constexpr int kPanels = 2, kRows = 16;

  template <int P, int N, class V>
  TL_ALWAYS void block(const uint8_t* unit, int64_t stride, int b, const ActBlock* x, int64_t ld,
                       F (&acc)[P][N]) {
    static_assert(P == 2 && N <= 16);
    constexpr int kGroups = 8 / V::kHalves;
    alignas(64) int32_t sums[2][16][16];
    for (int h = 0; h < V::kHalves; ++h) {
      const uint8_t* lines = V::lines(unit, b) + 64 * kGroups * h;
      tile_sums(lines, lines + stride, x->q + 4 * kGroups * h, ld * 64, sums);
      for (int p = 0; p < P; ++p) {
        const F scale = V::scale(unit + p * stride, b, h);
        for (int i = 0; i < N; ++i) {
          const ActBlock& a = x[i * ld];
          const I sum = _mm512_add_epi32(_mm512_load_si512(sums[p][i]), iset1(V::init(a, h)));
          acc[p][i] = fma(fma(as_float(sum), set1(a.d), set1(a.c)), scale, acc[p][i]);
        }
      }
    }
    if constexpr (V::kMins) {
      for (int p = 0; p < P; ++p) {
        const F minimum = V::minimum(unit + p * stride, b);
        for (int i = 0; i < N; ++i) acc[p][i] = fnma(minimum, set1(x[i * ld].ds), acc[p][i]);
      }
    }
  }

  template <int P, int N, bool Expanded>
  static void run(const Matmul& m, const Weights& w, const Inputs&, int64_t row, F (&acc)[P][N],
                  Ahead ahead) {
    shape_tiles<N, W::kHalves>();
    const int64_t ld = act_blocks(m.w->cols);
    const ActBlock* x = m.xq + row * ld + w.begin * W::kBlocks;
    const uint8_t* unit = w.p;
    for (int64_t u = w.begin; u < w.end; ++u) {
      ask<P>(ahead);
      if constexpr (Expanded) {
        for (int b = 0; b < W::kBlocks; ++b, ++x, unit += Wide<W>::kBytes)
          block<P, N, Wide<W>>(unit, w.stride, 0, x, ld, acc);
      } else {
        for (int b = 0; b < W::kBlocks; ++b, ++x) block<P, N, W>(unit, w.stride, b, x, ld, acc);
        unit += Narrow::kUnitBytes;
      }
    }
  }
};

template <class W>
static void tiled(const Matmul& m, int64_t row_begin, int64_t row_end, void* scratch) {
  const Format f = format_of(W::kType);
  blocks<AmxTile<W>>(m, static_cast<const uint8_t*>(m.w->data), units_of(f, m.w->cols), f.unit_bytes,
                     row_begin / kPanel, panels_of(row_end), static_cast<uint8_t*>(scratch));
  _tile_release();
}

int matmul(const Matmul& m, int64_t row_begin, int64_t row_end, void* scratch) {
  const int status = check(m, row_begin, row_end, scratch);
  if (status != kOk) return status;
  if (m.n > AmxTile<Q8_0>::kRows) {
    switch (m.w->type) {
      case Type::q8_0: tiled<Q8_0>(m, row_begin, row_end, scratch); return kOk;
      case Type::q4_0: tiled<Q4_0>(m, row_begin, row_end, scratch); return kOk;
      case Type::q4_k: tiled<Q4_K>(m, row_begin, row_end, scratch); return kOk;
      case Type::q5_k: tiled<Q5_K>(m, row_begin, row_end, scratch); return kOk;
      case Type::q6_k: tiled<Q6_K>(m, row_begin, row_end, scratch); return kOk;
      default: break;
    }
  }
  return avx512bf16::matmul(m, row_begin, row_end, scratch);
}

}  // namespace TL_ISA
}  // namespace tl

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

TL_ALWAYS void shape_tiles(int n, int halves) {
  TileShapes shapes;
  for (int p = 0; p < 2; ++p) {
    shapes.bytes[kSums + p] = shapes.bytes[kWeights + p] = 64;
    shapes.rows[kSums + p] = static_cast<uint8_t>(n);
    shapes.rows[kWeights + p] = static_cast<uint8_t>(8 / halves);
  }
  shapes.bytes[kInputs] = static_cast<uint16_t>(32 / halves);
  shapes.rows[kInputs] = static_cast<uint8_t>(n);
  _tile_loadconfig(&shapes);
}

// Sums of 16 or 32 inputs, all rows by two panels; `step` is between rows, in bytes.
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
  static constexpr int kPanels = 2, kRows = 16;

  // One block of n rows by two panels; acc: [2][n].
  template <class V>
  TL_ALWAYS void block(const uint8_t* unit, int64_t stride, int b, const ActBlock* x, int64_t ld,
                       int n, F* acc) {
    constexpr int kGroups = 8 / V::kHalves;
    alignas(64) int32_t sums[2][16][16];
    for (int h = 0; h < V::kHalves; ++h) {
      const uint8_t* lines = V::lines(unit, b) + 64 * kGroups * h;
      tile_sums(lines, lines + stride, x->q + 4 * kGroups * h, ld * 64, sums);
      for (int p = 0; p < 2; ++p) {
        const F scale = V::scale(unit + p * stride, b, h);
        for (int i = 0; i < n; ++i) {
          const ActBlock& a = x[i * ld];
          const I sum = _mm512_add_epi32(_mm512_load_si512(sums[p][i]), iset1(V::init(a, h)));
          F& to = acc[p * n + i];
          to = fma(fma(as_float(sum), set1(a.d), set1(a.c)), scale, to);
        }
      }
    }
    if constexpr (V::kMins) {
      for (int p = 0; p < 2; ++p) {
        const F minimum = V::minimum(unit + p * stride, b);
        for (int i = 0; i < n; ++i) acc[p * n + i] = fnma(minimum, set1(x[i * ld].ds), acc[p * n + i]);
      }
    }
  }

  template <bool Expanded>
  static void run_rows(const Matmul& m, const Weights& w, int64_t row, int n, F* acc, Ahead ahead) {
    shape_tiles(n, W::kHalves);
    const int64_t ld = act_blocks(m.w->cols);
    const ActBlock* x = m.xq + row * ld + w.begin * W::kBlocks;
    const uint8_t* unit = w.p;
    for (int64_t u = w.begin; u < w.end; ++u) {
      ask<2>(ahead);
      if constexpr (Expanded) {
        for (int b = 0; b < W::kBlocks; ++b, ++x, unit += Wide<W>::kBytes)
          block<Wide<W>>(unit, w.stride, 0, x, ld, n, acc);
      } else {
        for (int b = 0; b < W::kBlocks; ++b, ++x) block<W>(unit, w.stride, b, x, ld, n, acc);
        unit += IntTile<W>::kUnitBytes;
      }
    }
  }

  template <int P, int N, bool Expanded>
  static void run(const Matmul& m, const Weights& w, const Inputs&, int64_t row, F (&acc)[P][N],
                  const Ahead& ahead) {
    static_assert(P == 2 && N <= 16);
    run_rows<Expanded>(m, w, row, N, &acc[0][0], ahead);
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

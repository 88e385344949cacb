// Weights of 4 to 8 bits by int8 activations.
//
// For each block of 32 inputs: an exact integer sum, then two fused multiply-adds (see quantize.h),
// one with the activations' scale, one with the weights' and the running sum; a third for formats
// with a minimum.
#pragma once

#include "matmul.h"
#include "quantize.h"

namespace tl {
namespace TL_ISA {

// ---- formats: where the quants and scales of block b of a unit are (layout.h) ------------------

struct Q8_0 {
  static constexpr Type kType = Type::q8_0;
  static constexpr int kBlocks = 2, kHalves = 1, kMost = 255;
  static constexpr bool kMins = false;
  TL_ALWAYS int32_t init(const ActBlock& x, int) { return kOffset8 ? x.init8 : kMagicBits; }
  TL_ALWAYS const uint8_t* lines(const uint8_t* u, int b) { return u + 64 + 512 * b; }
  TL_ALWAYS B quants(const uint8_t* u, int b, int g) { return load_b(lines(u, b) + 64 * g); }
  TL_ALWAYS F scale(const uint8_t* u, int b, int) { return load_f16(u + 32 * b); }
};

TL_ALWAYS B nibbles(const uint8_t* lines, int g) {
  return g < 4 ? low_nibbles(load_b(lines + 64 * g)) : high_nibbles(load_b(lines + 64 * (g - 4)));
}

struct Q4_0 {
  static constexpr Type kType = Type::q4_0;
  static constexpr int kBlocks = 2, kHalves = 1, kMost = 15;
  static constexpr bool kMins = false;
  TL_ALWAYS int32_t init(const ActBlock& x, int) { return x.init4; }
  TL_ALWAYS B quants(const uint8_t* u, int b, int g) { return nibbles(u + 64 + 256 * b, g); }
  TL_ALWAYS F scale(const uint8_t* u, int b, int) { return load_f16(u + 32 * b); }
};

struct Q4_K {
  static constexpr Type kType = Type::q4_k;
  static constexpr int kBlocks = 8, kHalves = 1, kMost = 15;
  static constexpr bool kMins = true;
  TL_ALWAYS int32_t init(const ActBlock&, int) { return kMagicBits; }
  TL_ALWAYS B quants(const uint8_t* u, int b, int g) { return nibbles(u + 320 + 256 * b, g); }
  TL_ALWAYS F scale(const uint8_t* u, int b, int) {
    return mul(load_f16(u), load_u8(u + 64 + 16 * b));
  }
  TL_ALWAYS F minimum(const uint8_t* u, int b) {
    return mul(load_f16(u + 32), load_u8(u + 192 + 16 * b));
  }
};

struct Q5_K : Q4_K {
  static constexpr Type kType = Type::q5_k;
  static constexpr int kMost = 31;
  TL_ALWAYS B quants(const uint8_t* u, int b, int g) {
    const uint8_t* lines = u + 320 + 320 * b;
    return add_fifth_bit(nibbles(lines, g), load_b(lines + 256), g);
  }
};

struct Q6_K {
  static constexpr Type kType = Type::q6_k;
  static constexpr int kBlocks = 8, kHalves = 2, kMost = 63;
  static constexpr bool kMins = false;
  TL_ALWAYS int32_t init(const ActBlock& x, int h) { return x.init6[h]; }
  TL_ALWAYS B quants(const uint8_t* u, int b, int g) {
    const uint8_t* lines = u + 320 + 384 * b;
    return add_upper_bits(nibbles(lines, g), load_b(lines + 256 + 64 * (g / 4)), g % 4);
  }
  TL_ALWAYS F scale(const uint8_t* u, int b, int h) {
    return mul(load_f16(u), load_i8(u + 64 + 16 * (2 * b + h)));
  }
};

// Any of them unpacked: f32 scales (one line per half), f32 minimums, 8 lines of bytes.
template <class W>
struct Wide {
  static constexpr int kBlocks = 1, kHalves = W::kHalves, kMost = W::kMost;
  static constexpr bool kMins = W::kMins;
  static constexpr int kHead = 64 * (kHalves + kMins);
  static constexpr int kBytes = kHead + 512;
  TL_ALWAYS int32_t init(const ActBlock& x, int h) { return W::init(x, h); }
  TL_ALWAYS const uint8_t* lines(const uint8_t* u, int) { return u + kHead; }
  TL_ALWAYS B quants(const uint8_t* u, int b, int g) { return load_b(lines(u, b) + 64 * g); }
  TL_ALWAYS F scale(const uint8_t* u, int, int h) {
    return load(reinterpret_cast<const float*>(u + 64 * h));
  }
  TL_ALWAYS F minimum(const uint8_t* u, int) {
    return load(reinterpret_cast<const float*>(u + 64 * kHalves));
  }
};

// ---- the tile ----------------------------------------------------------------------------------

// The integer sums of half h of one block, P panels by N rows: `w` is the unit of the first panel, `x`
// the block of the first row.
template <class W, int P, int N>
TL_ALWAYS void row_sums(const uint8_t* w, int64_t stride, int b, int h, const ActBlock* x, int64_t ld,
                        I (&sums)[P][N]) {
  constexpr int kGroups = 8 / W::kHalves;
  Dot<W::kMost> dot[P][N];
  TL_UNROLL for (int i = 0; i < N; ++i) TL_UNROLL for (int p = 0; p < P; ++p)
      dot[p][i].begin(W::init(x[i * ld], h));
  TL_UNROLL for (int g = h * kGroups; g < (h + 1) * kGroups; ++g) {
    B quants[P];
    TL_UNROLL for (int p = 0; p < P; ++p) quants[p] = W::quants(w + p * stride, b, g);
    TL_UNROLL for (int i = 0; i < N; ++i) {
      const auto four = Dot<W::kMost>::spread(x[i * ld].q + 4 * g);
      TL_UNROLL for (int p = 0; p < P; ++p) dot[p][i].add(quants[p], four);
    }
  }
  TL_UNROLL for (int p = 0; p < P; ++p) TL_UNROLL for (int i = 0; i < N; ++i)
      sums[p][i] = dot[p][i].end();
}

#if defined(TL_ROW_PAIRS)
// The same, for a variant that multiplies two rows at once; N is even.
template <class W, int P, int N>
TL_ALWAYS void pair_sums(const uint8_t* w, int64_t stride, int b, int h, const ActBlock* x, int64_t ld,
                         I (&sums)[P][N]) {
  using Pair = DotPair<W::kMost>;
  constexpr int kGroups = 8 / W::kHalves;
  Pair pair[P][N / 2];
  TL_UNROLL for (int i = 0; i < N; i += 2) TL_UNROLL for (int p = 0; p < P; ++p)
      pair[p][i / 2].begin(W::init(x[i * ld], h), W::init(x[(i + 1) * ld], h));
  TL_UNROLL for (int g = h * kGroups; g < (h + 1) * kGroups; g += 2) {
    B quants[P], next[P];
    TL_UNROLL for (int p = 0; p < P; ++p) {
      quants[p] = W::quants(w + p * stride, b, g);
      next[p] = W::quants(w + p * stride, b, g + 1);
    }
    TL_UNROLL for (int i = 0; i < N; i += 2) {
      const auto eight = Pair::spread(x[i * ld].q + 4 * g, x[(i + 1) * ld].q + 4 * g);
      TL_UNROLL for (int p = 0; p < P; ++p) pair[p][i / 2].add(quants[p], next[p], eight);
    }
  }
  TL_UNROLL for (int p = 0; p < P; ++p) TL_UNROLL for (int i = 0; i < N; i += 2) {
    sums[p][i] = pair[p][i / 2].first();
    sums[p][i + 1] = pair[p][i / 2].second();
  }
}
#endif

template <class W, int P, int N>
TL_ALWAYS void block_sums(const uint8_t* w, int64_t stride, int b, int h, const ActBlock* x, int64_t ld,
                          I (&sums)[P][N]) {
#if defined(TL_ROW_PAIRS)
  if constexpr (N % 2 == 0) {
    pair_sums<W, P, N>(w, stride, b, h, x, ld, sums);
    return;
  }
#endif
  row_sums<W, P, N>(w, stride, b, h, x, ld, sums);
}

// Adds one block's share to the sums.
template <class W, int P, int N>
TL_ALWAYS void block_step(const uint8_t* w, int64_t stride, int b, const ActBlock* x, int64_t ld,
                              F (&acc)[P][N]) {
  TL_UNROLL for (int h = 0; h < W::kHalves; ++h) {
    I sums[P][N];
    block_sums<W, P, N>(w, stride, b, h, x, ld, sums);
    TL_UNROLL for (int p = 0; p < P; ++p) {
      const F scale = W::scale(w + p * stride, b, h);
      TL_UNROLL for (int i = 0; i < N; ++i) {
        const F value = fma(as_float(sums[p][i]), set1(x[i * ld].d), set1(x[i * ld].c));
        acc[p][i] = fma(value, scale, acc[p][i]);
      }
    }
  }
  if constexpr (W::kMins) {
    TL_UNROLL for (int p = 0; p < P; ++p) {
      const F minimum = W::minimum(w + p * stride, b);
      TL_UNROLL for (int i = 0; i < N; ++i)
          acc[p][i] = fnma(minimum, set1(x[i * ld].ds), acc[p][i]);
    }
  }
}

template <int P>
TL_ALWAYS void ask(Ahead& a) {
  for (int64_t at = 0; at < a.step; at += 64) {
    TL_UNROLL for (int p = 0; p < P; ++p) prefetch(a.p + p * a.stride + at);
  }
  a.p += a.step;
}

template <class W>
struct IntTile {
  static constexpr int kPanels = kIntPanels, kRows = kIntRows;
  // Quants that must be unpacked are unpacked once for that many rows, in registers. (Bytes gain
  // nothing: a second pass over them, in the cache, is as fast.)
  static constexpr int kTallRows = W::kMost == 255 ? 0 : kIntTallRows;
  static constexpr int64_t kChunk = 32 / W::kBlocks;  // 1024 inputs
  static constexpr bool kCopies = false, kExpands = W::kMost != 255;
  static constexpr int64_t kUnitBytes = format_of(W::kType).unit_bytes;
  static constexpr int64_t kWideBytes = Wide<W>::kBytes * W::kBlocks;
  static_assert(kMostRowsAtOnce * kBlockPanels * kPanel * 4 +
                    kBlockPanels * kChunk * kWideBytes <= static_cast<int64_t>(kMatmulScratch));

  template <int P, int N, bool Expanded>
  TL_ALWAYS void run(const Matmul& m, const Weights& w, const Inputs&, int64_t row, F (&acc)[P][N],
                     Ahead ahead) {
    const int64_t ld = act_blocks(m.w->cols);
    const ActBlock* x = m.xq + row * ld + w.begin * W::kBlocks;
    constexpr int64_t unit_bytes = Expanded ? kWideBytes : kUnitBytes;
    const uint8_t* unit = w.p;
    for (int64_t u = w.begin; u < w.end; ++u, unit += unit_bytes) {
      ask<P>(ahead);
      if constexpr (Expanded) {
        for (int b = 0; b < W::kBlocks; ++b, ++x)
          block_step<Wide<W>, P, N>(unit + b * Wide<W>::kBytes, w.stride, 0, x, ld, acc);
      } else {
        for (int b = 0; b < W::kBlocks; ++b, ++x) block_step<W, P, N>(unit, w.stride, b, x, ld, acc);
      }
    }
  }

  static Inputs inputs(const Matmul&, int64_t, int64_t, const Weights&, float*) { return {}; }

  static void expand(const uint8_t* unit, int64_t units, uint8_t* to) {
    for (int64_t u = 0; u < units; ++u, unit += kUnitBytes) {
      for (int b = 0; b < W::kBlocks; ++b, to += Wide<W>::kBytes) {
        float* head = reinterpret_cast<float*>(to);
        for (int h = 0; h < W::kHalves; ++h) store(head + 16 * h, W::scale(unit, b, h));
        if constexpr (W::kMins) store(head + 16 * W::kHalves, W::minimum(unit, b));
        TL_UNROLL for (int g = 0; g < 8; ++g)
            store_b(to + Wide<W>::kHead + 64 * g, W::quants(unit, b, g));
      }
    }
  }
};

}  // namespace TL_ISA
}  // namespace tl

// Drives a register tile over a matrix product.
//
// Few rows: the weights come from memory once, straight into the tile. More rows: blocks of weights
// stay in the cache while all rows pass, and the next block comes from memory meanwhile; formats whose
// quants must be unpacked are unpacked once per block. Sums that span several blocks along k wait as
// floats in the scratch, which changes nothing about their value.
//
// The last panel of an odd number goes through the tile for two, both times as itself (stride 0), and
// is stored once: tiles of half the width would take a third of the time that all this compiles in.
//
// A tile T has: kPanels, kRows (its register block), kTallRows (of one with a single panel, or 0),
//   kChunk (units along k per block), kCopies (its inputs), kExpands, kWideBytes (of a unit when
//   expanded), run<P, N, Expanded>(...), expand(...), inputs(...).
#pragma once

#include "layout.h"
#include "simd.h"

namespace tl {
namespace TL_ISA {

// Rows that pass at once, panels in a block when there are many rows; these bound the scratch.
constexpr int64_t kMostRowsAtOnce = 512;
constexpr int64_t kBlockPanels = 16;
constexpr int64_t kManyRows = 64;

// What a tile asks for ahead of its use: `step` bytes per unit and panel, at `p`.
struct Ahead {
  const uint8_t* p;
  int64_t stride;  // between panels
  int64_t step;
};

// Where a run of units of one or more panels lies.
struct Weights {
  const uint8_t* p;
  int64_t stride;  // between panels
  int64_t begin, end;  // units
};

// Float inputs: x[0] is that of (row, k). Many rows are copied to the scratch first: rows that lie a
// power of two apart would fall on the same lines of the first-level cache.
struct Inputs {
  const float* x;
  int64_t ld, row, k;
};

// Stores the first `panels` of P.
template <int P, int N>
TL_ALWAYS void finish(const Matmul& m, int64_t panel, int64_t panels, int64_t row,
                      const F (&acc)[P][N]) {
  for (int p = 0; p < P; ++p) {
    if (p >= panels) return;
    const int64_t r = (panel + p) * kPanel;
    const int lanes = static_cast<int>(m.w->rows - r < kPanel ? m.w->rows - r : kPanel);
    const bool full = lanes == kPanel;
    for (int i = 0; i < N; ++i) {
      float* out = m.out + (row + i) * m.ld_out + r;
      F v = acc[p][i];
      if (m.bias) v = add(v, full ? load(m.bias + r) : load_n(m.bias + r, lanes));
      if (m.add) v = add(full ? load(out) : load_n(out, lanes), v);
      if (full) {
        store(out, v);
      } else {
        store_n(out, v, lanes);
      }
    }
  }
}

template <class T, int P, int N>
static void stream_panels(const Matmul& m, const uint8_t* w, int64_t units, int64_t unit_bytes,
                          int64_t panel, int64_t end) {
  static_assert(P <= 2);
  const int64_t panel_bytes = units * unit_bytes;
  for (; panel < end; panel += P) {
    F acc[P][N];
    TL_UNROLL for (int p = 0; p < P; ++p) TL_UNROLL for (int i = 0; i < N; ++i) acc[p][i] = zero();
    const uint8_t* from = w + panel * panel_bytes;
    const int64_t stride = end - panel < P ? 0 : panel_bytes;
    T::template run<P, N, false>(m, {from, stride, 0, units}, {m.x, m.ld_x, 0, 0}, 0, acc,
                                 {from + kStreamAhead, stride, unit_bytes});
    finish<P, N>(m, panel, end - panel, 0, acc);
  }
}

// One chunk of P panels (or of the last), all rows [row0, row0 + n); n > T::kRows.
template <class T, int P, bool Expanded>
static void pass_rows(const Matmul& m, const Weights& w, const Inputs& x, int64_t panel,
                      int64_t end, int64_t row0, int64_t n, int64_t total, float* partial,
                      const Ahead& next) {
  const int64_t tiles = (n + T::kRows - 1) / T::kRows;
  Ahead ahead = next;
  ahead.step = (next.step / tiles + 63) / 64 * 64;
  int64_t row = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t size = n / tiles + (t < n % tiles);
    with_rows<T::kRows, (T::kRows + 1) / 2>(size, [&]<int N>() {
      F acc[P][N];
      float* waiting = partial + row * kPanel;
      const int64_t between = n * kPanel;
      TL_UNROLL for (int p = 0; p < P; ++p) TL_UNROLL for (int i = 0; i < N; ++i)
          acc[p][i] = w.begin ? load(waiting + p * between + i * kPanel) : zero();
      T::template run<P, N, Expanded>(m, w, x, row0 + row, acc, ahead);
      if (w.end == total) {
        finish<P, N>(m, panel, end - panel, row0 + row, acc);
      } else {
        TL_UNROLL for (int p = 0; p < P; ++p) TL_UNROLL for (int i = 0; i < N; ++i)
            store(waiting + p * between + i * kPanel, acc[p][i]);
      }
    });
    row += size;
    ahead.p += ahead.step * (w.end - w.begin);
    if (ahead.p >= next.p + next.step * (w.end - w.begin)) ahead.step = 0;
  }
}

template <class T, int P, bool Expanded>
static void pass_panels(const Matmul& m, Weights w, const Inputs& x, int64_t panel, int64_t end, int64_t row0,
                        int64_t n, int64_t total, float* partial, Ahead next) {
  static_assert(P <= 2 && kBlockPanels % P == 0);
  const int64_t stride = w.stride;
  for (; panel < end; panel += P) {
    if (end - panel < P) w.stride = next.stride = 0;
    pass_rows<T, P, Expanded>(m, w, x, panel, end, row0, n, total, partial, next);
    partial += P * n * kPanel;
    w.p += P * stride;
  }
}

template <class T>
static void blocks(const Matmul& m, const uint8_t* data, int64_t units, int64_t unit_bytes,
                   int64_t begin, int64_t end, uint8_t* scratch) {
  float* partial = reinterpret_cast<float*>(scratch);
  uint8_t* wide = scratch + kMostRowsAtOnce * kBlockPanels * kPanel * 4;
  const int64_t stride = units * unit_bytes;
  for (int64_t row = 0, n = 0; row < m.n; row += n) {
    const int64_t left = m.n - row;  // never few of them at the end: tiles are for more than half of kRows
    n = left <= kMostRowsAtOnce ? left : left < 2 * kMostRowsAtOnce ? left / 2 : kMostRowsAtOnce;
    // The panels of one tile at a time, those of the next asked for meanwhile; many rows of floats
    // are copied once for many panels.
    const bool single = !T::kCopies || n <= kManyRows;
    const int64_t step = single ? T::kPanels : kBlockPanels;
    for (int64_t panel = begin; panel < end; panel += step) {
      const int64_t stop = panel + step < end ? panel + step : end;
      for (int64_t u = 0; u < units; u += T::kChunk) {
        const int64_t u_end = u + T::kChunk < units ? u + T::kChunk : units;
        const uint8_t* from = data + panel * stride + u * unit_bytes;
        Ahead next{from, stride, 0};  // never a null pointer: looking its page up takes long
        if (single) {
          next.p = u_end < units ? data + panel * stride + u_end * unit_bytes : data + stop * stride;
          next.step = unit_bytes;
        }
        if constexpr (T::kExpands) {
          for (int64_t p = panel; p < stop; ++p) {
            T::expand(from + (p - panel) * stride, u_end - u, wide + (p - panel) * T::kChunk * T::kWideBytes);
          }
          const Weights w{wide, T::kChunk * T::kWideBytes, u, u_end};
          pass_panels<T, T::kPanels, true>(m, w, {}, panel, stop, row, n, units, partial, next);
        } else {
          const Weights w{from, stride, u, u_end};
          const Inputs x = T::inputs(m, row, n, w, reinterpret_cast<float*>(wide));
          pass_panels<T, T::kPanels, false>(m, w, x, panel, stop, row, n, units, partial, next);
        }
      }
    }
  }
}

static inline int check(const Matmul& m, int64_t row_begin, int64_t row_end, const void* scratch) {
  if (!m.w) return kBadPointer;
  const size_t need = packed_bytes(m.w->type, m.w->rows, m.w->cols);
  if (!need || m.n < 0 || m.ld_out < m.w->rows) return kBadShape;
  const bool blocks = takes_act_blocks(m.w->type);
  if (!blocks && m.ld_x < m.w->cols) return kBadShape;
  if (m.w->bytes < need) return kTooSmall;
  if (!m.w->data || !m.out || !scratch || (blocks ? !m.xq : !m.x)) return kBadPointer;
  if (reinterpret_cast<uintptr_t>(m.w->data) % 64 || reinterpret_cast<uintptr_t>(scratch) % 64) {
    return kBadPointer;
  }
  if (row_begin < 0 || row_begin > row_end || row_end > m.w->rows || row_begin % kPanel ||
      (row_end % kPanel && row_end != m.w->rows)) {
    return kBadRange;
  }
  return kOk;
}

template <class T>
static void product(const Matmul& m, int64_t row_begin, int64_t row_end, void* scratch) {
  const Format f = format_of(m.w->type);
  const int64_t units = units_of(f, m.w->cols);
  const int64_t begin = row_begin / kPanel, end = panels_of(row_end);
  const uint8_t* data = static_cast<const uint8_t*>(m.w->data);
  if constexpr (T::kTallRows > T::kRows) {
    if (m.n > T::kRows && m.n <= T::kTallRows) {
      with_rows<T::kTallRows, T::kRows + 1>(m.n, [&]<int N>() {
        stream_panels<T, 1, N>(m, data, units, f.unit_bytes, begin, end);
      });
      return;
    }
  }
  if (m.n > T::kRows) {
    blocks<T>(m, data, units, f.unit_bytes, begin, end, static_cast<uint8_t*>(scratch));
    return;
  }
  with_rows<T::kRows>(m.n, [&]<int N>() {
    stream_panels<T, T::kPanels, N>(m, data, units, f.unit_bytes, begin, end);
  });
}

}  // namespace TL_ISA
}  // namespace tl

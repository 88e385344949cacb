// What happens between the products, one row at a time.
#pragma once

#include "simd.h"
#include "trunkline_kernels.h"

namespace tl {
namespace TL_ISA {

// Calls body(offset, lanes) for each 16 of n values.
template <class Body>
static inline void by_lanes(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) body(i, 16);
  if (i < n) body(i, static_cast<int>(n - i));
}

static inline F get(const float* p, int lanes) { return lanes == 16 ? load(p) : load_n(p, lanes); }
static inline void put(float* p, F v, int lanes) {
  if (lanes == 16) {
    store(p, v);
  } else {
    store_n(p, v, lanes);
  }
}

static void rms_norm(const float* x, const float* w, float eps, int64_t n, float* out) {
  // Four sums, or each addition would wait for the one before.
  F squares[4] = {zero(), zero(), zero(), zero()};
  int64_t done = 0;
  for (; done + 64 <= n; done += 64) {
    TL_UNROLL for (int j = 0; j < 4; ++j) {
      const F v = load(x + done + 16 * j);
      squares[j] = fma(v, v, squares[j]);
    }
  }
  by_lanes(n - done, [&](int64_t i, int lanes) {
    const F v = get(x + done + i, lanes);
    squares[0] = fma(v, v, squares[0]);
  });
  const F all = add(add(squares[0], squares[1]), add(squares[2], squares[3]));
  const float mean = reduce_add(all) / static_cast<float>(n);
  const F factor = set1(1.0f / __builtin_sqrtf(mean + eps));
  by_lanes(n, [&](int64_t i, int lanes) {
    F v = mul(get(x + i, lanes), factor);
    if (w) v = mul(v, get(w + i, lanes));
    put(out + i, v, lanes);
  });
}

static void rope(Rope style, float* x, int64_t heads, int64_t dim, int64_t rot, const float* cos,
                 const float* sin) {
  const int64_t half = rot / 2;
  for (int64_t h = 0; h < heads; ++h, x += dim) {
    if (style == Rope::halves) {
      by_lanes(half, [&](int64_t i, int lanes) {
        const F a = get(x + i, lanes), b = get(x + half + i, lanes);
        const F c = get(cos + i, lanes), s = get(sin + i, lanes);
        put(x + i, fnma(b, s, mul(a, c)), lanes);
        put(x + half + i, fma(a, s, mul(b, c)), lanes);
      });
    } else {
      for (int64_t i = 0; i < half; ++i) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = __builtin_fmaf(-b, sin[i], a * cos[i]);
        x[2 * i + 1] = __builtin_fmaf(a, sin[i], b * cos[i]);
      }
    }
  }
}

static void swiglu(const float* gate, const float* up, int64_t n, float* out) {
  by_lanes(n, [&](int64_t i, int lanes) {
    const F g = get(gate + i, lanes);
    const F silu = div(g, add(set1(1.0f), exp(sub(zero(), g))));
    put(out + i, mul(silu, get(up + i, lanes)), lanes);
  });
}

// gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) = x / (1 + e^(-2 ...))
static void geglu(const float* gate, const float* up, int64_t n, float* out) {
  by_lanes(n, [&](int64_t i, int lanes) {
    const F g = get(gate + i, lanes);
    const F inner = mul(g, fma(mul(g, g), set1(0.044715f), set1(1.0f)));
    const F gelu = div(g, add(set1(1.0f), exp(mul(inner, set1(-1.5957691216057308f)))));
    put(out + i, mul(gelu, get(up + i, lanes)), lanes);
  });
}

static void add_rows(const float* a, const float* b, int64_t n, float* out) {
  by_lanes(n, [&](int64_t i, int lanes) {
    put(out + i, add(get(a + i, lanes), get(b + i, lanes)), lanes);
  });
}

static void scale_row(float* x, float s, int64_t n) {
  by_lanes(n, [&](int64_t i, int lanes) { put(x + i, mul(get(x + i, lanes), set1(s)), lanes); });
}

static void add_scaled(const float* x, float s, int64_t n, float* out) {
  by_lanes(n, [&](int64_t i, int lanes) {
    put(out + i, fma(get(x + i, lanes), set1(s), get(out + i, lanes)), lanes);
  });
}

static inline F soft_cap(F x, F cap) { return mul(cap, tanh(div(x, cap))); }

static void softcap(float* x, float cap, int64_t n) {
  by_lanes(n, [&](int64_t i, int lanes) {
    put(x + i, soft_cap(get(x + i, lanes), set1(cap)), lanes);
  });
}

static float softmax(float* x, int64_t n) {
  const F lowest = set1(-__builtin_inff());
  F top = lowest;
  by_lanes(n, [&](int64_t i, int lanes) {
    top = max(top, select_lanes(0, lanes, get(x + i, lanes), lowest));
  });
  const F most = set1(reduce_max(top));
  F sums = zero();
  by_lanes(n, [&](int64_t i, int lanes) {
    const F e = select_lanes(0, lanes, exp(sub(get(x + i, lanes), most)), zero());
    put(x + i, e, lanes);
    sums = add(sums, e);
  });
  const float sum = reduce_add(sums);
  by_lanes(n, [&](int64_t i, int lanes) { put(x + i, div(get(x + i, lanes), set1(sum)), lanes); });
  return __builtin_logf(sum) + reduce_max(top);
}

// ---- drawing: sums of kDrawBlock elements at a time, each in one order ---------------------------

// Calls body(begin, end, block) for each kDrawBlock of n elements.
template <class Body>
static inline void by_blocks(int64_t n, Body&& body) {
  for (int64_t at = 0, block = 0; at < n; at += kDrawBlock, ++block) {
    body(at, at + kDrawBlock < n ? at + kDrawBlock : n, block);
  }
}

static int64_t best(const float* x, int64_t n, float* tops) {
  const F lowest = set1(-__builtin_inff());
  // Zero as long as all are numbers.
  F wrong = zero();
  int64_t lead = 0;
  by_blocks(n, [&](int64_t begin, int64_t end, int64_t block) {
    F top = lowest;
    by_lanes(end - begin, [&](int64_t i, int lanes) {
      const F v = get(x + begin + i, lanes);
      wrong = fma(v, zero(), wrong);
      top = max(top, select_lanes(0, lanes, v, lowest));
    });
    tops[block] = reduce_max(top);
    if (tops[block] > tops[lead]) lead = block;
  });
  if (n < 1 || !(reduce_add(wrong) == 0.0f)) return -1;
  int64_t found = lead * kDrawBlock;
  while (x[found] != tops[lead]) ++found;
  return found;
}

static void weights(const float* x, float top, float factor, int64_t n, float* p, double* sums) {
  double total = 0;
  const F from = set1(top), by = set1(factor);
  by_blocks(n, [&](int64_t begin, int64_t end, int64_t block) {
    F sum = zero();
    by_lanes(end - begin, [&](int64_t i, int lanes) {
      const F e = exp(mul(sub(get(x + begin + i, lanes), from), by));
      put(p + begin + i, e, lanes);
      sum = add(sum, select_lanes(0, lanes, e, zero()));
    });
    total += static_cast<double>(reduce_add(sum));
    sums[block] = total;
  });
}

static double mass_above(const float* p, float bound, int64_t n) {
  double total = 0;
  const F limit = set1(bound);
  by_blocks(n, [&](int64_t begin, int64_t end, int64_t) {
    F sum = zero();
    by_lanes(end - begin, [&](int64_t i, int lanes) {
      const F v = get(p + begin + i, lanes);
      sum = add(sum, select_ge(limit, v, zero(), v));
    });
    total += static_cast<double>(reduce_add(sum));
  });
  return total;
}

}  // namespace TL_ISA
}  // namespace tl

// Sixteen lanes in plain C++; the meaning of every operation, and what runs on unknown CPUs.
#pragma once

#include "numbers.h"

namespace tl {
namespace TL_ISA {

struct F {
  float v[16];
};
struct I {
  int32_t v[16];
};
struct B {  // 16 lanes of 4 bytes
  uint8_t v[64];
};

#define TL_LANES for (int i = 0; i < 16; ++i)

static inline F zero() { return F{}; }
static inline F set1(float x) {
  F r;
  TL_LANES r.v[i] = x;
  return r;
}
static inline F load(const float* p) {
  F r;
  memcpy(r.v, p, 64);
  return r;
}
static inline F load_n(const float* p, int n) {
  F r{};
  for (int i = 0; i < n; ++i) r.v[i] = p[i];
  return r;
}
static inline void store(float* p, F a) { memcpy(p, a.v, 64); }
static inline void store_n(float* p, F a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
static inline F load_f16(const void* p) {
  uint16_t h[16];
  memcpy(h, p, 32);
  F r;
  TL_LANES r.v[i] = half_to_float(h[i]);
  return r;
}
static inline F load_bf16(const void* p) {
  uint16_t h[16];
  memcpy(h, p, 32);
  F r;
  TL_LANES r.v[i] = bfloat_to_float(h[i]);
  return r;
}
static inline F load_u8(const uint8_t* p) {
  F r;
  TL_LANES r.v[i] = p[i];
  return r;
}
static inline F load_i8(const void* p) {
  int8_t b[16];
  memcpy(b, p, 16);
  F r;
  TL_LANES r.v[i] = b[i];
  return r;
}
static inline void store_f16(void* p, F a) {
  uint16_t h[16];
  TL_LANES h[i] = float_to_half(a.v[i]);
  memcpy(p, h, 32);
}
static inline F add(F a, F b) {
  TL_LANES a.v[i] += b.v[i];
  return a;
}
static inline F sub(F a, F b) {
  TL_LANES a.v[i] -= b.v[i];
  return a;
}
static inline F mul(F a, F b) {
  TL_LANES a.v[i] *= b.v[i];
  return a;
}
static inline F div(F a, F b) {
  TL_LANES a.v[i] /= b.v[i];
  return a;
}
// a * b + c
static inline F fma(F a, F b, F c) {
  TL_LANES c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
}
// c - a * b
static inline F fnma(F a, F b, F c) {
  TL_LANES c.v[i] = __builtin_fmaf(-a.v[i], b.v[i], c.v[i]);
  return c;
}
// As x86 has it: b when either is a NaN.
static inline F max(F a, F b) {
  TL_LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
static inline F min(F a, F b) {
  TL_LANES a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
static inline F abs(F a) {
  TL_LANES a.v[i] = __builtin_fabsf(a.v[i]);
  return a;
}
// yes where a >= b, else no
static inline F select_ge(F a, F b, F yes, F no) {
  TL_LANES yes.v[i] = a.v[i] >= b.v[i] ? yes.v[i] : no.v[i];
  return yes;
}
// `yes` in the lanes [begin, end), else no
static inline F select_lanes(int begin, int end, F yes, F no) {
  TL_LANES yes.v[i] = i >= begin && i < end ? yes.v[i] : no.v[i];
  return yes;
}
static inline float reduce_max(F a) {
  for (int step = 8; step; step /= 2)
    for (int i = 0; i < step; ++i) a.v[i] = a.v[i] > a.v[i + step] ? a.v[i] : a.v[i + step];
  return a.v[0];
}
// A fixed tree: lanes 8 apart, then 4, 2, 1.
static inline float reduce_add(F a) {
  for (int step = 8; step; step /= 2)
    for (int i = 0; i < step; ++i) a.v[i] += a.v[i + step];
  return a.v[0];
}
// To nearest, ties to even; |a| < 2^22.
static inline I to_int(F a) {
  I r;
  TL_LANES {
    const float t = a.v[i] + 12582912.0f;
    r.v[i] = static_cast<int32_t>(bits_of(t) - 0x4B400000u);
  }
  return r;
}
static inline F to_float(I a) {
  F r;
  TL_LANES r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
static inline F as_float(I a) {
  F r;
  memcpy(r.v, a.v, 64);
  return r;
}
// 2^n, -126 <= n <= 127
static inline F exp2_int(I n) {
  F r;
  TL_LANES r.v[i] = float_of((static_cast<uint32_t>(n.v[i]) + 127) << 23);
  return r;
}
static inline I iset1(int32_t x) {
  I r;
  TL_LANES r.v[i] = x;
  return r;
}
static inline int32_t reduce_add(I a) {
  int32_t s = 0;
  TL_LANES s += a.v[i];
  return s;
}
// Lanes in [-128, 127] to 16 bytes.
static inline void store_i8(int8_t* p, I a) { TL_LANES p[i] = static_cast<int8_t>(a.v[i]); }

static inline B load_b(const void* p) {
  B r;
  memcpy(r.v, p, 64);
  return r;
}
static inline void store_b(void* p, B a) { memcpy(p, a.v, 64); }
static inline B low_nibbles(B a) {
  for (int i = 0; i < 64; ++i) a.v[i] &= 15;
  return a;
}
static inline B high_nibbles(B a) {
  for (int i = 0; i < 64; ++i) a.v[i] >>= 4;
  return a;
}
// w plus 16 where the bit g of `plane` is set (w < 16)
static inline B add_fifth_bit(B w, B plane, int g) {
  for (int i = 0; i < 64; ++i) w.v[i] = static_cast<uint8_t>(w.v[i] | (plane.v[i] >> g & 1) << 4);
  return w;
}
// w plus 16 times the bits 2e, 2e + 1 of `plane` (w < 16)
static inline B add_upper_bits(B w, B plane, int e) {
  for (int i = 0; i < 64; ++i)
    w.v[i] = static_cast<uint8_t>(w.v[i] | (plane.v[i] >> 2 * e & 3) << 4);
  return w;
}

// Sums of weights (unsigned bytes of at most `Most`) times activations, exact. For Most == 255 the
// weights are meant as values + 128, and a variant may take the 128 out itself: then kOffset8 is false
// and the sum starts without ActBlock::init8.
constexpr bool kOffset8 = true;

template <int Most>
struct Dot {
  struct Four {
    int8_t v[4];
  };
  I sum;
  static inline Four spread(const int8_t* x) { return {{x[0], x[1], x[2], x[3]}}; }
  inline void add(B w, Four x) {
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 4; ++j) sum.v[i] += w.v[4 * i + j] * x.v[j];
  }
  inline void begin(int32_t init) { sum = iset1(init); }
  inline I end() { return sum; }
};

static inline void prefetch(const void*) {}
constexpr int64_t kStreamAhead = 0;

// Register blocks: panels by rows of the integer product, of the float product, and what attention
// holds: groups of 16 positions by queries, and queries by 16 values.
constexpr int kIntPanels = 1, kIntRows = 2;
constexpr int kIntTallRows = 0;
constexpr int kFloatPanels = 1, kFloatRows = 2;
constexpr int kScoreGroups = 1, kScoreRows = 2;
constexpr int kMixRows = 2, kMixLanes = 1;

#undef TL_LANES

}  // namespace TL_ISA
}  // namespace tl

// Sixteen lanes in four NEON registers, for CPUs with the dot product of bytes (ARMv8.2 dotprod), and
// with matrix products of bytes where there are (i8mm); simd_generic.h says what each operation means.
#pragma once

#include <arm_neon.h>

#include "numbers.h"

namespace tl {
namespace TL_ISA {

struct F {
  float32x4_t a, b, c, d;
};
struct I {
  int32x4_t a, b, c, d;
};
struct B {  // 4 lanes of 4 bytes each
  uint8x16_t a, b, c, d;
};

#define TL_INLINE static inline __attribute__((always_inline))
#define TL_METHOD inline __attribute__((always_inline))

TL_INLINE F all(float32x4_t v) { return {v, v, v, v}; }
TL_INLINE F zero() { return all(vdupq_n_f32(0)); }
TL_INLINE F set1(float x) { return all(vdupq_n_f32(x)); }
TL_INLINE F load(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
TL_INLINE void store(float* p, F x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
TL_INLINE F load_n(const float* p, int n) {
  float lanes[16] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
TL_INLINE void store_n(float* p, F x, int n) {
  float lanes[16];
  store(lanes, x);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}
TL_INLINE F load_f16(const void* p) {
  const uint16_t* h = static_cast<const uint16_t*>(p);
  const float16x8_t low = vreinterpretq_f16_u16(vld1q_u16(h));
  const float16x8_t high = vreinterpretq_f16_u16(vld1q_u16(h + 8));
  return {vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low), vcvt_f32_f16(vget_low_f16(high)),
          vcvt_high_f32_f16(high)};
}
TL_INLINE float32x4_t upper_half(uint16x4_t h) { return vreinterpretq_f32_u32(vshll_n_u16(h, 16)); }
TL_INLINE F load_bf16(const void* p) {
  const uint16_t* h = static_cast<const uint16_t*>(p);
  return {upper_half(vld1_u16(h)), upper_half(vld1_u16(h + 4)), upper_half(vld1_u16(h + 8)),
          upper_half(vld1_u16(h + 12))};
}
TL_INLINE F load_u8(const uint8_t* p) {
  const uint8x16_t bytes = vld1q_u8(p);
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
  return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_high_u16(low)),
          vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_high_u16(high))};
}
TL_INLINE F load_i8(const void* p) {
  const int8x16_t bytes = vld1q_s8(static_cast<const int8_t*>(p));
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
          vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))};
}
TL_INLINE void store_f16(void* p, F x) {
  uint16_t* h = static_cast<uint16_t*>(p);
  vst1q_u16(h, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b)));
  vst1q_u16(h + 8, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d)));
}
TL_INLINE F add(F x, F y) {
  return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)};
}
TL_INLINE F sub(F x, F y) {
  return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)};
}
TL_INLINE F mul(F x, F y) {
  return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}
TL_INLINE F div(F x, F y) {
  return {vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b), vdivq_f32(x.c, y.c), vdivq_f32(x.d, y.d)};
}
TL_INLINE F fma(F x, F y, F z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
          vfmaq_f32(z.d, x.d, y.d)};
}
TL_INLINE F fnma(F x, F y, F z) {
  return {vfmsq_f32(z.a, x.a, y.a), vfmsq_f32(z.b, x.b, y.b), vfmsq_f32(z.c, x.c, y.c),
          vfmsq_f32(z.d, x.d, y.d)};
}
// Not vmaxq and vminq: those make a NaN of either.
TL_INLINE float32x4_t larger(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
TL_INLINE float32x4_t smaller(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
TL_INLINE F max(F x, F y) {
  return {larger(x.a, y.a), larger(x.b, y.b), larger(x.c, y.c), larger(x.d, y.d)};
}
TL_INLINE F min(F x, F y) {
  return {smaller(x.a, y.a), smaller(x.b, y.b), smaller(x.c, y.c), smaller(x.d, y.d)};
}
TL_INLINE F abs(F x) { return {vabsq_f32(x.a), vabsq_f32(x.b), vabsq_f32(x.c), vabsq_f32(x.d)}; }
TL_INLINE F select_ge(F x, F y, F yes, F no) {
  return {vbslq_f32(vcgeq_f32(x.a, y.a), yes.a, no.a), vbslq_f32(vcgeq_f32(x.b, y.b), yes.b, no.b),
          vbslq_f32(vcgeq_f32(x.c, y.c), yes.c, no.c), vbslq_f32(vcgeq_f32(x.d, y.d), yes.d, no.d)};
}
// `first` is the number of the first of four lanes.
TL_INLINE float32x4_t select_four(int first, int begin, int end, float32x4_t yes, float32x4_t no) {
  constexpr int32_t kIndex[4] = {0, 1, 2, 3};
  const int32x4_t lane = vaddq_s32(vld1q_s32(kIndex), vdupq_n_s32(first));
  const uint32x4_t inside =
      vandq_u32(vcgeq_s32(lane, vdupq_n_s32(begin)), vcltq_s32(lane, vdupq_n_s32(end)));
  return vbslq_f32(inside, yes, no);
}
TL_INLINE F select_lanes(int begin, int end, F yes, F no) {
  return {select_four(0, begin, end, yes.a, no.a), select_four(4, begin, end, yes.b, no.b),
          select_four(8, begin, end, yes.c, no.c), select_four(12, begin, end, yes.d, no.d)};
}
TL_INLINE float reduce_max(F x) {
  const float32x4_t four = larger(larger(x.a, x.c), larger(x.b, x.d));
  const float32x4_t two = larger(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(larger(two, vextq_f32(two, two, 1)), 0);
}
TL_INLINE float reduce_add(F x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
TL_INLINE I to_int(F x) {
  return {vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b), vcvtnq_s32_f32(x.c), vcvtnq_s32_f32(x.d)};
}
TL_INLINE F to_float(I x) {
  return {vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c), vcvtq_f32_s32(x.d)};
}
TL_INLINE F as_float(I x) {
  return {vreinterpretq_f32_s32(x.a), vreinterpretq_f32_s32(x.b), vreinterpretq_f32_s32(x.c),
          vreinterpretq_f32_s32(x.d)};
}
TL_INLINE int32x4_t exponent(int32x4_t n) { return vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23); }
TL_INLINE F exp2_int(I n) {
  return as_float({exponent(n.a), exponent(n.b), exponent(n.c), exponent(n.d)});
}
TL_INLINE I iset1(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {v, v, v, v};
}
TL_INLINE int32_t reduce_add(I x) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(x.a, x.b), vaddq_s32(x.c, x.d)));
}
TL_INLINE void store_i8(int8_t* p, I x) {
  const int16x8_t low = vcombine_s16(vmovn_s32(x.a), vmovn_s32(x.b));
  const int16x8_t high = vcombine_s16(vmovn_s32(x.c), vmovn_s32(x.d));
  vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

TL_INLINE B load_b(const void* p) {
  const uint8_t* q = static_cast<const uint8_t*>(p);
  return {vld1q_u8(q), vld1q_u8(q + 16), vld1q_u8(q + 32), vld1q_u8(q + 48)};
}
TL_INLINE void store_b(void* p, B x) {
  uint8_t* q = static_cast<uint8_t*>(p);
  vst1q_u8(q, x.a);
  vst1q_u8(q + 16, x.b);
  vst1q_u8(q + 32, x.c);
  vst1q_u8(q + 48, x.d);
}
TL_INLINE B low_nibbles(B x) {
  const uint8x16_t mask = vdupq_n_u8(15);
  return {vandq_u8(x.a, mask), vandq_u8(x.b, mask), vandq_u8(x.c, mask), vandq_u8(x.d, mask)};
}
TL_INLINE B high_nibbles(B x) {
  return {vshrq_n_u8(x.a, 4), vshrq_n_u8(x.b, 4), vshrq_n_u8(x.c, 4), vshrq_n_u8(x.d, 4)};
}
// w | (plane shifted right (left where negative) & bits)
TL_INLINE uint8x16_t or_part(uint8x16_t w, uint8x16_t plane, int right, int bits) {
  const int8x16_t left = vdupq_n_s8(static_cast<int8_t>(-right));
  return vorrq_u8(w, vandq_u8(vshlq_u8(plane, left), vdupq_n_u8(static_cast<uint8_t>(bits))));
}
TL_INLINE B or_bits(B w, B plane, int right, int bits) {
  return {or_part(w.a, plane.a, right, bits), or_part(w.b, plane.b, right, bits),
          or_part(w.c, plane.c, right, bits), or_part(w.d, plane.d, right, bits)};
}
TL_INLINE B add_fifth_bit(B w, B plane, int g) { return or_bits(w, plane, g - 4, 0x10); }
TL_INLINE B add_upper_bits(B w, B plane, int e) { return or_bits(w, plane, 2 * e - 4, 0x30); }

#if defined(__ARM_FEATURE_MATMUL_INT8)

constexpr bool kOffset8 = true;

template <int Most>
TL_INLINE int32x4_t dot(int32x4_t sum, uint8x16_t w, int8x16_t four) {
  return vusdotq_s32(sum, w, four);
}

// Two rows at once: each instruction multiplies two outputs' eight bytes with both rows'.
#define TL_ROW_PAIRS
template <int Most>
struct DotPair {
  I low, high;  // of lanes 4i, 4i + 1 and 4i + 2, 4i + 3 in part i: first row, second row, and again
  TL_METHOD void begin(int32_t first, int32_t second) {
    const int32_t both[4] = {first, second, first, second};
    const int32x4_t v = vld1q_s32(both);
    low = high = {v, v, v, v};
  }
  // Groups g and g + 1 of both rows, from the first one's bytes of g.
  static TL_METHOD int8x16_t spread(const int8_t* first, const int8_t* second) {
    return vcombine_s8(vld1_s8(first), vld1_s8(second));
  }
  static TL_METHOD void product(int32x4_t& l, int32x4_t& h, uint8x16_t w, uint8x16_t next, int8x16_t x) {
    const uint32x4_t u = vreinterpretq_u32_u8(w), v = vreinterpretq_u32_u8(next);
    l = vusmmlaq_s32(l, vreinterpretq_u8_u32(vzip1q_u32(u, v)), x);
    h = vusmmlaq_s32(h, vreinterpretq_u8_u32(vzip2q_u32(u, v)), x);
  }
  TL_METHOD void add(B w, B next, int8x16_t x) {
    product(low.a, high.a, w.a, next.a, x);
    product(low.b, high.b, w.b, next.b, x);
    product(low.c, high.c, w.c, next.c, x);
    product(low.d, high.d, w.d, next.d, x);
  }
  TL_METHOD I first() const {
    return {vuzp1q_s32(low.a, high.a), vuzp1q_s32(low.b, high.b), vuzp1q_s32(low.c, high.c),
            vuzp1q_s32(low.d, high.d)};
  }
  TL_METHOD I second() const {
    return {vuzp2q_s32(low.a, high.a), vuzp2q_s32(low.b, high.b), vuzp2q_s32(low.c, high.c),
            vuzp2q_s32(low.d, high.d)};
  }
};
constexpr int kIntRows = 6;

#else

// Signed bytes by signed bytes: of weights + 128 the 128 is taken off first.
constexpr bool kOffset8 = false;

template <int Most>
TL_INLINE int32x4_t dot(int32x4_t sum, uint8x16_t w, int8x16_t four) {
  if constexpr (Most == 255) w = veorq_u8(w, vdupq_n_u8(128));
  return vdotq_s32(sum, vreinterpretq_s8_u8(w), four);
}
constexpr int kIntRows = 4;

#endif

template <int Most>
struct Dot {
  I sum;
  static TL_METHOD int8x16_t spread(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  TL_METHOD void begin(int32_t init) { sum = iset1(init); }
  TL_METHOD void add(B w, int8x16_t four) {
    sum = {dot<Most>(sum.a, w.a, four), dot<Most>(sum.b, w.b, four), dot<Most>(sum.c, w.c, four),
           dot<Most>(sum.d, w.d, four)};
  }
  TL_METHOD I end() const { return sum; }
};

TL_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
constexpr int64_t kStreamAhead = 2048;

constexpr int kIntPanels = 1;
constexpr int kIntTallRows = 0;
constexpr int kFloatPanels = 1, kFloatRows = 5;
constexpr int kScoreGroups = 1, kScoreRows = 5;
constexpr int kMixRows = 3, kMixLanes = 2;

#undef TL_INLINE
#undef TL_METHOD

}  // namespace TL_ISA
}  // namespace tl

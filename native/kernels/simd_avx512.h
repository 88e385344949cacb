// Sixteen lanes in one AVX-512 register; simd_generic.h says what each operation means.
#pragma once

#include <immintrin.h>

#include "numbers.h"

namespace tl {
namespace TL_ISA {

using F = __m512;
using I = __m512i;
struct B {
  __m512i v;
};

#define TL_INLINE static inline __attribute__((always_inline))

TL_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
TL_INLINE F zero() { return _mm512_setzero_ps(); }
TL_INLINE F set1(float x) { return _mm512_set1_ps(x); }
TL_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
TL_INLINE F load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
TL_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a); }
TL_INLINE void store_n(float* p, F a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a); }
TL_INLINE F load_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
TL_INLINE F load_bf16(const void* p) {
  const __m256i h = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
TL_INLINE F load_u8(const uint8_t* p) {
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b));
}
TL_INLINE F load_i8(const void* p) {
  const __m128i b = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}
TL_INLINE void store_f16(void* p, F a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
TL_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
TL_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
TL_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
TL_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
TL_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
TL_INLINE F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
TL_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
TL_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
TL_INLINE F abs(F a) { return _mm512_abs_ps(a); }
TL_INLINE F select_ge(F a, F b, F yes, F no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), no, yes);
}
TL_INLINE F select_lanes(int begin, int end, F yes, F no) {
  const uint32_t from = begin <= 0 ? 0 : begin >= 16 ? 16 : static_cast<uint32_t>(begin);
  const uint32_t to = end <= 0 ? 0 : end >= 16 ? 16 : static_cast<uint32_t>(end);
  const uint32_t mask = ((1u << to) - 1u) & ~((1u << from) - 1u);
  return _mm512_mask_blend_ps(static_cast<__mmask16>(mask), no, yes);
}
TL_INLINE float reduce_max(F a) {
  __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}
TL_INLINE float reduce_add(F a) {
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
TL_INLINE I to_int(F a) {
  return _mm512_cvt_roundps_epi32(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TL_INLINE F to_float(I a) { return _mm512_cvtepi32_ps(a); }
TL_INLINE F as_float(I a) { return _mm512_castsi512_ps(a); }
TL_INLINE F exp2_int(I n) {
  return as_float(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
TL_INLINE I iset1(int32_t x) { return _mm512_set1_epi32(x); }
TL_INLINE int32_t reduce_add(I a) { return _mm512_reduce_add_epi32(a); }
TL_INLINE void store_i8(int8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}

TL_INLINE B load_b(const void* p) { return {_mm512_loadu_si512(p)}; }
TL_INLINE void store_b(void* p, B a) { _mm512_storeu_si512(p, a.v); }
TL_INLINE B low_nibbles(B a) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
TL_INLINE B high_nibbles(B a) {
  return {_mm512_and_si512(_mm512_srli_epi16(a.v, 4), _mm512_set1_epi8(15))};
}
// (plane shifted so that the wanted bits are at `mask`, & mask) | w
TL_INLINE B or_bits(B w, B plane, int right, int mask) {
  const __m512i moved = right >= 0 ? _mm512_srli_epi16(plane.v, static_cast<unsigned>(right))
                                   : _mm512_slli_epi16(plane.v, static_cast<unsigned>(-right));
  return {_mm512_ternarylogic_epi32(moved, _mm512_set1_epi8(static_cast<char>(mask)), w.v, 0xEA)};
}
TL_INLINE B add_fifth_bit(B w, B plane, int g) { return or_bits(w, plane, g - 4, 0x10); }
TL_INLINE B add_upper_bits(B w, B plane, int e) { return or_bits(w, plane, 2 * e - 4, 0x30); }

constexpr bool kOffset8 = true;

template <int Most>
struct Dot {
  I sum;
  TL_INLINE I spread(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
  }
  inline __attribute__((always_inline)) void begin(int32_t init) { sum = _mm512_set1_epi32(init); }
  inline __attribute__((always_inline)) void add(B w, I four) {
    sum = _mm512_dpbusd_epi32(sum, w.v, four);
  }
  inline __attribute__((always_inline)) I end() const { return sum; }
};

TL_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
constexpr int64_t kStreamAhead = 4096;

constexpr int kIntPanels = 2, kIntRows = 6;
constexpr int kIntTallRows = 12;
constexpr int kFloatPanels = 2, kFloatRows = 12;
constexpr int kScoreGroups = 4, kScoreRows = 6;
constexpr int kMixRows = 6, kMixLanes = 4;

#undef TL_INLINE

}  // namespace TL_ISA
}  // namespace tl

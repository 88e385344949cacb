// Sixteen lanes in two AVX2 registers; simd_generic.h says what each operation means. With AVX-VNNI
// products of bytes are one instruction.
#pragma once

#include <immintrin.h>

#include "numbers.h"

namespace tl {
namespace TL_ISA {

struct F {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};
struct B {
  __m256i a, b;
};

#define TL_INLINE static inline __attribute__((always_inline))
#define TL_METHOD inline __attribute__((always_inline))

TL_INLINE __m256i lanes_below(int n) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), index);
}
TL_INLINE F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
TL_INLINE F set1(float x) {
  const __m256 v = _mm256_set1_ps(x);
  return {v, v};
}
TL_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TL_INLINE F load_n(const float* p, int n) {
  return {_mm256_maskload_ps(p, lanes_below(n)), _mm256_maskload_ps(p + 8, lanes_below(n - 8))};
}
TL_INLINE void store(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
TL_INLINE void store_n(float* p, F x, int n) {
  _mm256_maskstore_ps(p, lanes_below(n), x.a);
  _mm256_maskstore_ps(p + 8, lanes_below(n - 8), x.b);
}
TL_INLINE F load_f16(const void* p) {
  const __m128i* h = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
TL_INLINE __m256 bf16_half(const __m128i* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
TL_INLINE F load_bf16(const void* p) {
  const __m128i* h = static_cast<const __m128i*>(p);
  return {bf16_half(h), bf16_half(h + 1)};
}
TL_INLINE F load_u8(const uint8_t* p) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(v)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)))};
}
TL_INLINE F load_i8(const void* p) {
  const __m128i v = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)))};
}
TL_INLINE void store_f16(void* p, F x) {
  __m128i* h = static_cast<__m128i*>(p);
  _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
TL_INLINE F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
TL_INLINE F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
TL_INLINE F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
TL_INLINE F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
TL_INLINE F fma(F x, F y, F z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
TL_INLINE F fnma(F x, F y, F z) {
  return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
}
TL_INLINE F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
TL_INLINE F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
TL_INLINE F abs(F x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
TL_INLINE F select_ge(F x, F y, F yes, F no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ))};
}
TL_INLINE F select_lanes(int begin, int end, F yes, F no) {
  const __m256i low = _mm256_andnot_si256(lanes_below(begin), lanes_below(end));
  const __m256i high = _mm256_andnot_si256(lanes_below(begin - 8), lanes_below(end - 8));
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_castsi256_ps(low)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_castsi256_ps(high))};
}
TL_INLINE float reduce_max(F x) {
  const __m256 h = _mm256_max_ps(x.a, x.b);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}
TL_INLINE float reduce_add(F x) {
  const __m256 h = _mm256_add_ps(x.a, x.b);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
// Numbers up to 2^22 only, so that the rounding mode of the thread does not matter (simd_generic.h).
TL_INLINE __m256i nearest(__m256 x) {
  return _mm256_cvtps_epi32(_mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
TL_INLINE I to_int(F x) { return {nearest(x.a), nearest(x.b)}; }
TL_INLINE F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
TL_INLINE F as_float(I x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
TL_INLINE F exp2_int(I n) {
  const __m256i bias = _mm256_set1_epi32(127);
  return as_float({_mm256_slli_epi32(_mm256_add_epi32(n.a, bias), 23),
                   _mm256_slli_epi32(_mm256_add_epi32(n.b, bias), 23)});
}
TL_INLINE I iset1(int32_t x) {
  const __m256i v = _mm256_set1_epi32(x);
  return {v, v};
}
TL_INLINE int32_t reduce_add(I x) {
  const __m256i h = _mm256_add_epi32(x.a, x.b);
  __m128i q = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1));
  return _mm_cvtsi128_si32(q);
}
TL_INLINE void store_i8(int8_t* p, I x) {
  // Packing works within halves of registers; the permutation mends that.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

TL_INLINE B load_b(const void* p) {
  const __m256i* v = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}
TL_INLINE void store_b(void* p, B x) {
  __m256i* v = static_cast<__m256i*>(p);
  _mm256_storeu_si256(v, x.a);
  _mm256_storeu_si256(v + 1, x.b);
}
TL_INLINE B low_nibbles(B x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
TL_INLINE B high_nibbles(B x) {
  return low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
}
TL_INLINE __m256i moved(__m256i x, int right) {
  return right >= 0 ? _mm256_srli_epi16(x, right) : _mm256_slli_epi16(x, -right);
}
TL_INLINE B or_bits(B w, B plane, int right, int bits) {
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(bits));
  return {_mm256_or_si256(w.a, _mm256_and_si256(moved(plane.a, right), mask)),
          _mm256_or_si256(w.b, _mm256_and_si256(moved(plane.b, right), mask))};
}
TL_INLINE B add_fifth_bit(B w, B plane, int g) { return or_bits(w, plane, g - 4, 0x10); }
TL_INLINE B add_upper_bits(B w, B plane, int e) { return or_bits(w, plane, 2 * e - 4, 0x30); }

TL_INLINE __m256i spread4(const int8_t* x) {
  int32_t four;
  memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

#if defined(__AVXVNNI__)

constexpr bool kOffset8 = true;

template <int Most>
struct Dot {
  __m256i a, b;
  static TL_METHOD __m256i spread(const int8_t* x) { return spread4(x); }
  TL_METHOD void begin(int32_t init) { a = b = _mm256_set1_epi32(init); }
  TL_METHOD void add(B w, __m256i four) {
    a = _mm256_dpbusd_avx_epi32(a, w.a, four);
    b = _mm256_dpbusd_avx_epi32(b, w.b, four);
  }
  TL_METHOD I end() const { return {a, b}; }
};
// 4 rows: 8 sums, 2 of weights, and the rows' bytes.
constexpr int kIntRows = 4;

#else

constexpr bool kOffset8 = false;
constexpr int kIntRows = 2;

TL_INLINE __m256i add_pairs(__m256i sum, __m256i words) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
}

// maddubs adds pairs in 16 bits: 2 * Most * 127 each, so several groups fit one 16-bit sum before it
// must be widened: 8 for 4 bits, 4 for 5, 2 for 6.
template <int Most>
struct Dot {
  static constexpr int kFit = Most == 15 ? 8 : Most == 31 ? 4 : 2;
  static_assert(kFit * 2 * Most * 127 <= 32767);
  __m256i a, b, words_a, words_b;
  int count;
  static TL_METHOD __m256i spread(const int8_t* x) { return spread4(x); }
  TL_METHOD void begin(int32_t init) {
    a = b = _mm256_set1_epi32(init);
    count = 0;
  }
  TL_METHOD void add(B w, __m256i four) {
    const __m256i pa = _mm256_maddubs_epi16(w.a, four), pb = _mm256_maddubs_epi16(w.b, four);
    words_a = count ? _mm256_add_epi16(words_a, pa) : pa;
    words_b = count ? _mm256_add_epi16(words_b, pb) : pb;
    if (++count == kFit) widen();
  }
  TL_METHOD void widen() {
    a = add_pairs(a, words_a);
    b = add_pairs(b, words_b);
    count = 0;
  }
  TL_METHOD I end() {
    if (count) widen();
    return {a, b};
  }
};

// Values of 8 bits: |w| times x with w's sign, so that no pair exceeds 2 * 128 * 127.
template <>
struct Dot<255> {
  __m256i a, b;
  static TL_METHOD __m256i spread(const int8_t* x) { return spread4(x); }
  TL_METHOD void begin(int32_t init) { a = b = _mm256_set1_epi32(init); }
  static TL_METHOD __m256i product(__m256i w, __m256i four) {
    const __m256i value = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(four, value));
  }
  TL_METHOD void add(B w, __m256i four) {
    a = add_pairs(a, product(w.a, four));
    b = add_pairs(b, product(w.b, four));
  }
  TL_METHOD I end() const { return {a, b}; }
};

#endif

TL_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
constexpr int64_t kStreamAhead = 4096;

constexpr int kIntPanels = 1;
constexpr int kIntTallRows = 0;
constexpr int kFloatPanels = 1, kFloatRows = 6;
constexpr int kScoreGroups = 1, kScoreRows = 6;
constexpr int kMixRows = 3, kMixLanes = 2;

#undef TL_INLINE
#undef TL_METHOD

}  // namespace TL_ISA
}  // namespace tl

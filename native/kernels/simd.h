// The vector operations of the variant that is being compiled (TL_ISA), sixteen lanes each.
//
// All variants give the same bits: no operation here leaves the order of a float sum open.
#pragma once

#ifndef TL_ISA
#error "compile with -DTL_ISA=<variant>, see VARIANTS"
#endif

#if defined(TL_GENERIC)
#include "simd_generic.h"
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "simd_neon.h"
#else
#error "no vector operations for these flags"
#endif

#define TL_ALWAYS static inline __attribute__((always_inline))

#if defined(TL_GENERIC)
#define TL_UNROLL
#elif defined(__clang__)
#define TL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TL_UNROLL _Pragma("GCC unroll 16")
#endif

namespace tl {
namespace TL_ISA {

// Calls body with n (Least..Most) as a template argument.
template <int Most, int Least = 1, class Body>
static inline void with_rows(int64_t n, Body&& body) {
  if constexpr (Most >= Least) {
    if (n == Most) {
      body.template operator()<Most>();
    } else {
      with_rows<Most - 1, Least>(n, static_cast<Body&&>(body));
    }
  }
}

// e^x by Cody and Waite's reduction and a polynomial of degree 6 (Cephes' expf); 0 up to -87.
static inline F exp(F x) {
  const F low = set1(-87.0f);
  const F a = min(set1(88.0f), max(low, x));  // in this order a NaN stays one
  const I n = to_int(mul(a, set1(1.44269504088896341f)));
  const F k = to_float(n);
  F r = fnma(k, set1(0.693359375f), a);
  r = fnma(k, set1(-2.12194440e-4f), r);
  F p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = add(fma(p, mul(r, r), r), set1(1.0f));
  return select_ge(low, x, zero(), mul(p, exp2_int(n)));
}

// tanh through exp; exact to a few units in the last place of 1.
static inline F tanh(F x) {
  const F a = min(set1(15.0f), max(set1(-15.0f), x));
  const F e = exp(add(a, a));
  return div(sub(e, set1(1.0f)), add(e, set1(1.0f)));
}

}  // namespace TL_ISA
}  // namespace tl

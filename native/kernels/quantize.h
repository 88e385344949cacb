// Activations to int8, a scale for each 32 (as q8_0 has it).
//
// The integer sums start at the bits of 1.5 * 2^23, so that the finished sum, read as a float, is
// exactly 1.5 * 2^23 + sum (|sum| < 2^22), and one fused multiply-add, value * d - 1.5 * 2^23 * d, is
// conversion and scaling at once. For that to be exact, 1.5 * 2^23 * d must be: d has four zero bits at
// the end of its mantissa. It is rounded up to them, so that no value exceeds 127.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "simd.h"
#include "trunkline_kernels.h"

namespace tl {
namespace TL_ISA {

constexpr int32_t kMagicBits = 0x4B400000;
constexpr float kMagic = 12582912.0f;

static inline void put_scale(ActBlock& to, float d, int32_t first, int32_t second) {
  const int32_t sum = first + second;
  to.d = d;
  to.c = -kMagic * d;
  to.init8 = kMagicBits - 128 * sum;
  to.init4 = kMagicBits - 8 * sum;
  to.init6[0] = kMagicBits - 32 * first;
  to.init6[1] = kMagicBits - 32 * second;
  to.ds = d * static_cast<float>(sum);
  to.sum = sum;
}

// The sum of 16 numbers that were just stored.
static inline int32_t sum_of(const int8_t* q) {
#if defined(__SSE2__)
  // Sums of absolute differences from -128, eight bytes each.
  const __m128i offset = _mm_set1_epi8(-128);
  const __m128i bytes = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)), offset);
  const __m128i sums = _mm_sad_epu8(bytes, _mm_setzero_si128());
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128;
#else
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += q[i];
  return sum;
#endif
}

// Written field by field: a block that is made on the stack and copied as a whole waits for its own
// small stores each time.
static inline void quantize_block(F low, F high, ActBlock& to) {
  // Sums find infinities and NaNs, which max would lose.
  const float most = reduce_max(max(abs(low), abs(high)));
  const float all = reduce_add(add(abs(low), abs(high)));
  if (!(all < 1e30f)) {
    memset(to.q, 0, sizeof to.q);
    put_scale(to, float_of(0x7fc00000), 0, 0);
    return;
  }
  const bool some = most >= 1e-30f;
  const float d = float_of((bits_of(most * (1.0f / 127.0f)) + 15u) & ~15u);
  const F inverse = set1(some ? 1.0f / d : 0.0f);
  // 127 and what little rounding adds, at most: nothing has to be cut off.
  store_i8(to.q, to_int(mul(low, inverse)));
  store_i8(to.q + 16, to_int(mul(high, inverse)));
  put_scale(to, some ? d : 0.0f, sum_of(to.q), sum_of(to.q + 16));
}

static inline void quantize(const float* x, int64_t ld_x, int64_t n, int64_t cols, ActBlock* out) {
  const int64_t blocks = act_blocks(cols);
  for (int64_t i = 0; i < n; ++i, x += ld_x, out += blocks) {
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t k = 32 * b, left = cols - k;
      if (left >= 32) {
        quantize_block(load(x + k), load(x + k + 16), out[b]);
      } else {
        const int64_t low = left < 0 ? 0 : left < 16 ? left : 16;
        const int64_t high = left < 16 ? 0 : left - 16;
        quantize_block(load_n(x + k, static_cast<int>(low)), load_n(x + k + 16, static_cast<int>(high)),
                       out[b]);
      }
    }
  }
}

}  // namespace TL_ISA
}  // namespace tl

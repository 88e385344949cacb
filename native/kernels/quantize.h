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

// Blocks that are quantized together: each step of the work for all of them, since one block alone
// would wait for itself at every step. What is written is not copied as a whole afterwards: such a copy
// waits for the small stores.
constexpr int64_t kTogether = 16;

static inline void quantize_blocks(const float* x, int64_t count, ActBlock* to) {
  float scale[kTogether], inverse[kTogether];
  int32_t first[kTogether], second[kTogether];
  for (int64_t b = 0; b < count; ++b) {
    const F low = abs(load(x + 32 * b)), high = abs(load(x + 32 * b + 16));
    // Sums find infinities and NaNs, which max would lose.
    const bool number = reduce_add(add(low, high)) < 1e30f;
    scale[b] = number ? reduce_max(max(low, high)) : float_of(0x7fc00000);
  }
  for (int64_t b = 0; b < count; ++b) {
    const float most = scale[b];
    const float d = float_of((bits_of(most * (1.0f / 127.0f)) + 15u) & ~15u);
    scale[b] = most < 1e-30f ? 0.0f : d;  // a NaN stays one
    inverse[b] = most < 1e-30f ? 0.0f : 1.0f / d;
  }
  for (int64_t b = 0; b < count; ++b) {
    if (!(scale[b] >= 0)) {
      memset(to[b].q, 0, sizeof to[b].q);
      first[b] = second[b] = 0;
      continue;
    }
    // 127 and what little rounding adds, at most: nothing has to be cut off.
    const F factor = set1(inverse[b]);
    store_i8(to[b].q, to_int(mul(load(x + 32 * b), factor)));
    store_i8(to[b].q + 16, to_int(mul(load(x + 32 * b + 16), factor)));
    first[b] = sum_of(to[b].q);
    second[b] = sum_of(to[b].q + 16);
  }
  for (int64_t b = 0; b < count; ++b) put_scale(to[b], scale[b], first[b], second[b]);
}

static inline void quantize(const float* x, int64_t ld_x, int64_t n, int64_t cols, ActBlock* out) {
  const int64_t blocks = act_blocks(cols), whole = cols / 32;
  for (int64_t i = 0; i < n; ++i, x += ld_x, out += blocks) {
    for (int64_t b = 0; b < whole; b += kTogether) {
      quantize_blocks(x + 32 * b, whole - b < kTogether ? whole - b : kTogether, out + b);
    }
    if (whole < blocks) {
      float rest[64] = {};
      memcpy(rest, x + 32 * whole, static_cast<size_t>(cols - 32 * whole) * 4);
      quantize_blocks(rest, blocks - whole, out + whole);
    }
  }
}

}  // namespace TL_ISA
}  // namespace tl

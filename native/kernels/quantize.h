// Activations to int8, a scale for each 32 (as q8_0 has it).
//
// The integer sums start at the bits of 1.5 * 2^23, so that the finished sum, read as a float, is
// exactly 1.5 * 2^23 + sum (|sum| < 2^22), and one fused multiply-add, value * d - 1.5 * 2^23 * d, is
// conversion and scaling at once. For that to be exact, 1.5 * 2^23 * d must be: d has four zero bits at
// the end of its mantissa. It is rounded up to them, so that no value exceeds 127.
#pragma once

#include "simd.h"
#include "trunkline_kernels.h"

namespace tl {
namespace TL_ISA {

constexpr int32_t kMagicBits = 0x4B400000;
constexpr float kMagic = 12582912.0f;

static inline ActBlock poisoned_block() {
  ActBlock b{};
  b.d = float_of(0x7fc00000);
  b.c = b.d;
  b.ds = b.d;
  b.init8 = b.init4 = b.init6[0] = b.init6[1] = kMagicBits;
  return b;
}

static inline ActBlock quantize_block(F low, F high) {
  // Sums find infinities and NaNs, which max would lose.
  const float most = reduce_max(max(abs(low), abs(high)));
  const float all = reduce_add(add(abs(low), abs(high)));
  if (!(all < 1e30f)) return poisoned_block();
  ActBlock b{};
  b.init8 = b.init4 = b.init6[0] = b.init6[1] = kMagicBits;
  if (most < 1e-30f) return b;
  b.d = float_of((bits_of(most * (1.0f / 127.0f)) + 15u) & ~15u);
  const F inverse = set1(1.0f / b.d);
  const F limit = set1(127.0f), lowest = set1(-127.0f);
  const I q0 = to_int(min(limit, max(lowest, mul(low, inverse))));
  const I q1 = to_int(min(limit, max(lowest, mul(high, inverse))));
  store_i8(b.q, q0);
  store_i8(b.q + 16, q1);
  const int32_t s0 = reduce_add(q0), s1 = reduce_add(q1);
  b.sum = s0 + s1;
  b.c = -kMagic * b.d;
  b.ds = b.d * static_cast<float>(b.sum);
  b.init8 -= 128 * b.sum;
  b.init4 -= 8 * b.sum;
  b.init6[0] -= 32 * s0;
  b.init6[1] -= 32 * s1;
  return b;
}

static inline void quantize(const float* x, int64_t ld_x, int64_t n, int64_t cols, ActBlock* out) {
  const int64_t blocks = act_blocks(cols);
  for (int64_t i = 0; i < n; ++i, x += ld_x, out += blocks) {
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t k = 32 * b, left = cols - k;
      if (left >= 32) {
        out[b] = quantize_block(load(x + k), load(x + k + 16));
      } else {
        const int64_t low = left < 0 ? 0 : left < 16 ? left : 16;
        const int64_t high = left < 16 ? 0 : left - 16;
        out[b] = quantize_block(load_n(x + k, static_cast<int>(low)),
                                load_n(x + k + 16, static_cast<int>(high)));
      }
    }
  }
}

}  // namespace TL_ISA
}  // namespace tl

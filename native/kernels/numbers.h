// Conversions of single numbers, for code that is compiled once and for tails.
#pragma once

#include <cstdint>
#include <cstring>

namespace tl {

static inline uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

static inline float float_of(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

static inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t magnitude = h & 0x7fff;
  if (magnitude >= 0x7c00) return float_of(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // Scaling by 2^112 moves the exponent, and makes normal numbers of subnormal ones.
  return float_of(sign | bits_of(float_of(magnitude << 13) * 0x1p112f));
}

// To nearest, ties to even.
static inline uint16_t float_to_half(float f) {
  const uint32_t u = bits_of(f);
  const uint32_t sign = u >> 16 & 0x8000;
  const uint32_t a = u & 0x7fffffff;
  if (a > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (a >> 13 & 0x1ff));
  if (a >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (a < 0x38800000) {  // below 2^-14: adding 0.5 leaves multiples of 2^-24 in the mantissa
    return static_cast<uint16_t>(sign | (bits_of(float_of(a) + 0.5f) - 0x3f000000));
  }
  return static_cast<uint16_t>(sign | (a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
}

static inline float bfloat_to_float(uint16_t b) { return float_of(static_cast<uint32_t>(b) << 16); }

static inline uint16_t float_to_bfloat(float f) {
  const uint32_t u = bits_of(f);
  if ((u & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(u >> 16 | 0x40);
  return static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

}  // namespace tl

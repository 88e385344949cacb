// Bytes of text that are looked at together. Special are quotes, backslashes and control characters,
// those below 0x20.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__) && !defined(TRUNKLINE_PORTABLE)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(TRUNKLINE_PORTABLE)
#include <arm_neon.h>
#endif

namespace speedups {

using Byte = unsigned char;

// Eight bytes in a number, the first one lowest.
inline uint64_t word(const Byte* from) {
  uint64_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  if constexpr (std::endian::native == std::endian::big) bytes = __builtin_bswap64(bytes);
  return bytes;
}

constexpr uint64_t kOnes = 0x0101010101010101;
constexpr uint64_t kLow = kOnes * 0x7f;

// The upper bit of each byte that is 0; no carry leaves a byte.
inline uint64_t zeros(uint64_t bytes) { return ~(((bytes & kLow) + kLow) | bytes | kLow); }
inline uint64_t equals(uint64_t bytes, char c) { return zeros(bytes ^ kOnes * static_cast<Byte>(c)); }
// The upper three bits are 0.
inline uint64_t controls(uint64_t bytes) { return zeros(bytes & kOnes * 0xe0); }

// Which one of eight bytes is the first special one; 8 = none.
inline int first_special(const Byte* from) {
  const uint64_t bytes = word(from);
  return std::countr_zero(equals(bytes, '"') | equals(bytes, '\\') | controls(bytes)) / 8;
}

// 64 bytes, of which masks are made: bit i stands for byte i.
#if defined(__SSE2__) && !defined(TRUNKLINE_PORTABLE)

class Block {
 public:
  static constexpr int kSize = 64;

  explicit Block(const Byte* from) {
    for (int i = 0; i < 4; ++i)
      part_[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i);
  }

  bool special() const {
    __m128i any = _mm_setzero_si128();
    for (__m128i part : part_) {
      const __m128i quote = _mm_cmpeq_epi8(part, _mm_set1_epi8('"'));
      const __m128i slash = _mm_cmpeq_epi8(part, _mm_set1_epi8('\\'));
      any = _mm_or_si128(any, _mm_or_si128(low(part), _mm_or_si128(quote, slash)));
    }
    return _mm_movemask_epi8(any) != 0;
  }

  uint64_t equal(char wanted) const {
    return mask([&](__m128i part) { return _mm_cmpeq_epi8(part, _mm_set1_epi8(wanted)); });
  }

  uint64_t control() const { return mask(low); }

 private:
  static __m128i low(__m128i part) {
    return _mm_cmpeq_epi8(_mm_min_epu8(part, _mm_set1_epi8(0x1f)), part);
  }

  template <class Test>
  uint64_t mask(Test test) const {
    uint64_t bits = 0;
    for (int i = 0; i < 4; ++i)
      bits |= uint64_t{static_cast<uint32_t>(_mm_movemask_epi8(test(part_[i])))} << (16 * i);
    return bits;
  }

  __m128i part_[4];
};

#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(TRUNKLINE_PORTABLE)

class Block {
 public:
  static constexpr int kSize = 64;

  explicit Block(const Byte* from) {
    for (int i = 0; i < 4; ++i) part_[i] = vld1q_u8(from + 16 * i);
  }

  bool special() const {
    uint8x16_t any = vdupq_n_u8(0);
    for (uint8x16_t part : part_) {
      const uint8x16_t quote = vceqq_u8(part, vdupq_n_u8('"'));
      const uint8x16_t slash = vceqq_u8(part, vdupq_n_u8('\\'));
      any = vorrq_u8(any, vorrq_u8(low(part), vorrq_u8(quote, slash)));
    }
    return vmaxvq_u8(any) != 0;
  }

  uint64_t equal(char wanted) const {
    const uint8x16_t all = vdupq_n_u8(static_cast<Byte>(wanted));
    return mask([&](uint8x16_t part) { return vceqq_u8(part, all); });
  }

  uint64_t control() const { return mask(low); }

 private:
  static uint8x16_t low(uint8x16_t part) { return vcltq_u8(part, vdupq_n_u8(0x20)); }

  // One bit of each byte, then neighbours are added until eight of them are a byte.
  template <class Test>
  uint64_t mask(Test test) const {
    const uint8x16_t bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t first =
        vpaddq_u8(vandq_u8(test(part_[0]), bit), vandq_u8(test(part_[1]), bit));
    const uint8x16_t second =
        vpaddq_u8(vandq_u8(test(part_[2]), bit), vandq_u8(test(part_[3]), bit));
    const uint8x16_t both = vpaddq_u8(first, second);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(both, both)), 0);
  }

  uint8x16_t part_[4];
};

#else

class Block {
 public:
  static constexpr int kSize = 64;

  explicit Block(const Byte* from) {
    for (int i = 0; i < 8; ++i) part_[i] = word(from + 8 * i);
  }

  bool special() const { return (equal('"') | equal('\\') | control()) != 0; }

  uint64_t equal(char wanted) const {
    return mask([=](uint64_t part) { return equals(part, wanted); });
  }

  uint64_t control() const { return mask(controls); }

 private:
  // The upper bits of eight bytes are moved into one byte by a product: no two meet.
  template <class Test>
  uint64_t mask(Test test) const {
    uint64_t bits = 0;
    for (int i = 0; i < 8; ++i)
      bits |= (((test(part_[i]) >> 7) * 0x0102040810204080) >> 56) << (8 * i);
    return bits;
  }

  uint64_t part_[8];
};

#endif

}  // namespace speedups

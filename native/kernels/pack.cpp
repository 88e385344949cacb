// From GGUF's blocks to panels, and back by rows. Four quants at a time in one 32-bit word.
#include <cmath>

#include "layout.h"
#include "numbers.h"

namespace tl {
namespace {

using u8 = uint8_t;

inline uint32_t word(const u8* p) {
  uint32_t w;
  memcpy(&w, p, 4);
  return w;
}
inline void put_word(u8* p, uint32_t w) { memcpy(p, &w, 4); }
inline uint16_t half(const u8* p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return h;
}
inline void put_half(u8* p, uint16_t h) { memcpy(p, &h, 2); }

constexpr uint32_t kLow = 0x0f0f0f0f;

// Scale and minimum of block b (0..7) out of the 12 bytes of q4_k and q5_k (llama.cpp,
// get_scale_min_k4).
inline void scale_min(const u8* s, int b, u8& scale, u8& minimum) {
  if (b < 4) {
    scale = s[b] & 63;
    minimum = s[b + 4] & 63;
  } else {
    scale = static_cast<u8>((s[b + 4] & 15) | (s[b - 4] >> 6) << 4);
    minimum = static_cast<u8>(s[b + 4] >> 4 | (s[b] >> 6) << 4);
  }
}

// The nibble lines of one block from the 8 words of its quants.
inline void put_nibbles(u8* lines, int lane, const uint32_t q[8]) {
  for (int z = 0; z < 4; ++z) put_word(lines + 64 * z + 4 * lane, (q[z] & kLow) | (q[z + 4] & kLow) << 4);
}

void pack_q8_0(const u8* src, u8* unit, int lane) {
  for (int b = 0; b < 2; ++b, src += 34) {
    put_half(unit + 32 * b + 2 * lane, half(src));
    u8* q = unit + 64 + 512 * b + 4 * lane;
    for (int g = 0; g < 8; ++g) put_word(q + 64 * g, word(src + 2 + 4 * g) ^ 0x80808080u);
  }
}

// A stored byte j holds elements j and j + 16: nibble lines are its words as they are.
void pack_q4_0(const u8* src, u8* unit, int lane) {
  for (int b = 0; b < 2; ++b, src += 18) {
    put_half(unit + 32 * b + 2 * lane, half(src));
    u8* q = unit + 64 + 256 * b + 4 * lane;
    for (int z = 0; z < 4; ++z) put_word(q + 64 * z, word(src + 2 + 4 * z));
  }
}

void pack_k_head(const u8* src, u8* unit, int lane) {
  put_half(unit + 2 * lane, half(src));
  put_half(unit + 32 + 2 * lane, half(src + 2));
  for (int b = 0; b < 8; ++b) scale_min(src + 4, b, unit[64 + 16 * b + lane], unit[192 + 16 * b + lane]);
}

void pack_q4_k(const u8* src, u8* unit, int lane) {
  pack_k_head(src, unit, lane);
  for (int b = 0; b < 8; ++b) {
    uint32_t q[8];
    for (int g = 0; g < 8; ++g) q[g] = word(src + 16 + 32 * (b / 2) + 4 * g) >> 4 * (b & 1);
    put_nibbles(unit + 320 + 256 * b, lane, q);
  }
}

void pack_q5_k(const u8* src, u8* unit, int lane) {
  pack_k_head(src, unit, lane);
  for (int b = 0; b < 8; ++b) {
    uint32_t q[8];
    uint32_t fifth = 0;
    for (int g = 0; g < 8; ++g) {
      q[g] = word(src + 48 + 32 * (b / 2) + 4 * g) >> 4 * (b & 1);
      fifth |= (word(src + 16 + 4 * g) >> b & 0x01010101u) << g;
    }
    put_nibbles(unit + 320 + 320 * b, lane, q);
    put_word(unit + 320 + 320 * b + 256 + 4 * lane, fifth);
  }
}

// Elements 128h + 32s .. + 31 (block 4h + s): low bits in ql[64h + 32(s & 1)], nibble s >> 1; upper
// bits in qh[32h], bits 2s and 2s + 1.
void pack_q6_k(const u8* src, u8* unit, int lane) {
  put_half(unit + 2 * lane, half(src + 208));
  for (int i = 0; i < 16; ++i) unit[64 + 16 * i + lane] = src[192 + i];
  for (int b = 0; b < 8; ++b) {
    const int h = b / 4, s = b % 4;
    uint32_t q[8];
    uint32_t upper[2] = {0, 0};
    for (int g = 0; g < 8; ++g) {
      q[g] = word(src + 64 * h + 32 * (s & 1) + 4 * g) >> 4 * (s >> 1);
      upper[g / 4] |= (word(src + 128 + 32 * h + 4 * g) >> 2 * s & 0x03030303u) << 2 * (g % 4);
    }
    u8* lines = unit + 320 + 384 * b;
    put_nibbles(lines, lane, q);
    put_word(lines + 256 + 4 * lane, upper[0]);
    put_word(lines + 320 + 4 * lane, upper[1]);
  }
}

using PackUnit = void (*)(const u8*, u8*, int);

PackUnit packer(Type t) {
  switch (t) {
    case Type::q8_0: return pack_q8_0;
    case Type::q4_0: return pack_q4_0;
    case Type::q4_k: return pack_q4_k;
    case Type::q5_k: return pack_q5_k;
    case Type::q6_k: return pack_q6_k;
    default: return nullptr;
  }
}

// Floats: input k of the panel's rows side by side. `size` is that of one number.
void pack_plain(const u8* src, int64_t size, int64_t cols, int64_t lanes, u8* panel, int64_t units) {
  if (lanes < kPanel || cols % 2) memset(panel, 0, static_cast<size_t>(units * 2 * kPanel * size));
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const u8* row = src + lane * cols * size;
    u8* to = panel + lane * size;
    if (size == 2) {
      for (int64_t k = 0; k < cols; ++k) memcpy(to + k * kPanel * 2, row + 2 * k, 2);
    } else {
      for (int64_t k = 0; k < cols; ++k) memcpy(to + k * kPanel * 4, row + 4 * k, 4);
    }
  }
}

void pack_blocks(Type type, const Format& f, const u8* src, int64_t row_bytes, int64_t lanes, u8* panel,
                 int64_t units) {
  const int64_t per_unit = f.unit / f.block * f.block_bytes;
  const PackUnit pack_unit = packer(type);
  for (int64_t u = 0; u < units; ++u) {
    u8* unit = panel + u * f.unit_bytes;
    const int64_t left = row_bytes - u * per_unit;
    if (lanes < kPanel || left < per_unit) memset(unit, 0, static_cast<size_t>(f.unit_bytes));
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const u8* from = src + lane * row_bytes + u * per_unit;
      if (left >= per_unit) {
        pack_unit(from, unit, static_cast<int>(lane));
      } else {  // the last block of an odd number: its partner is zero
        u8 padded[68] = {};
        memcpy(padded, from, static_cast<size_t>(left));
        pack_unit(padded, unit, static_cast<int>(lane));
      }
    }
  }
}

bool possible(Type type, int64_t rows, int64_t cols) {
  const Format f = format_of(type);
  return f.block && rows > 0 && cols > 0 && rows <= kMostRows && cols <= kMostCols &&
         cols % f.block == 0;
}

// Value of group g's element i of the block b of a unit, as an integer without its offset.
struct Unit {
  const u8* p;
  int lane;
  int nibble(const u8* lines, int e) const {
    const int g = e / 4;
    return lines[64 * (g & 3) + 4 * lane + e % 4] >> (g < 4 ? 0 : 4) & 15;
  }
  float h(int offset) const { return half_to_float(half(p + offset + 2 * lane)); }
};

float q8_0_at(const Unit& u, int b, int e) {
  const int q = u.p[64 + 512 * b + 64 * (e / 4) + 4 * u.lane + e % 4] - 128;
  return u.h(32 * b) * static_cast<float>(q);
}
float q4_0_at(const Unit& u, int b, int e) {
  return u.h(32 * b) * static_cast<float>(u.nibble(u.p + 64 + 256 * b, e) - 8);
}
float k_value(const Unit& u, int b, int q) {
  return u.h(0) * u.p[64 + 16 * b + u.lane] * static_cast<float>(q) -
         u.h(32) * u.p[192 + 16 * b + u.lane];
}
float q4_k_at(const Unit& u, int b, int e) { return k_value(u, b, u.nibble(u.p + 320 + 256 * b, e)); }
float q5_k_at(const Unit& u, int b, int e) {
  const u8* lines = u.p + 320 + 320 * b;
  const int fifth = lines[256 + 4 * u.lane + e % 4] >> e / 4 & 1;
  return k_value(u, b, u.nibble(lines, e) | fifth << 4);
}
float q6_k_at(const Unit& u, int b, int e) {
  const u8* lines = u.p + 320 + 384 * b;
  const int g = e / 4;
  const int upper = lines[256 + 64 * (g / 4) + 4 * u.lane + e % 4] >> 2 * (g % 4) & 3;
  const int8_t scale = static_cast<int8_t>(u.p[64 + 16 * (2 * b + e / 16) + u.lane]);
  return u.h(0) * scale * static_cast<float>((u.nibble(lines, e) | upper << 4) - 32);
}

using At = float (*)(const Unit&, int, int);

void unpack_blocks(At at, const Format& f, const u8* panel, int lane, int64_t cols, float* out) {
  for (int64_t k = 0; k < cols; ++k) {
    const Unit unit{panel + k / f.unit * f.unit_bytes, lane};
    const int inside = static_cast<int>(k % f.unit);
    out[k] = at(unit, inside / 32, inside % 32);
  }
}

void quantize_q8_0(const float* x, u8* to) {
  float most = 0;
  for (int i = 0; i < 32; ++i) most = std::fmax(most, std::fabs(x[i]));
  const float d = most / 127;
  const float inverse = d > 0 ? 1 / d : 0;
  put_half(to, float_to_half(d));
  for (int i = 0; i < 32; ++i) to[2 + i] = static_cast<u8>(static_cast<int>(std::rint(x[i] * inverse)));
}

// The scale's sign is that of the largest value, which becomes -8 (llama.cpp, quantize_row_q4_0_ref).
void quantize_q4_0(const float* x, u8* to) {
  float top = 0;
  for (int i = 0; i < 32; ++i) top = std::fabs(x[i]) > std::fabs(top) ? x[i] : top;
  const float d = top / -8;
  const float inverse = d != 0 ? 1 / d : 0;
  put_half(to, float_to_half(d));
  for (int i = 0; i < 16; ++i) {
    const float low = std::fmin(15.0f, std::floor(x[i] * inverse + 8.5f));
    const float high = std::fmin(15.0f, std::floor(x[i + 16] * inverse + 8.5f));
    to[2 + i] = static_cast<u8>(static_cast<int>(low) | static_cast<int>(high) << 4);
  }
}

}  // namespace

size_t source_bytes(Type type, int64_t rows, int64_t cols) {
  if (!possible(type, rows, cols)) return 0;
  const Format f = format_of(type);
  return static_cast<size_t>(rows * (cols / f.block * f.block_bytes));
}

size_t packed_bytes(Type type, int64_t rows, int64_t cols) {
  if (!possible(type, rows, cols)) return 0;
  const Format f = format_of(type);
  return static_cast<size_t>(panels_of(rows) * units_of(f, cols) * f.unit_bytes);
}

int pack(Type type, const void* src, size_t src_bytes, int64_t rows, int64_t cols, void* dst,
         size_t dst_bytes, int64_t row_begin, int64_t row_end) {
  const size_t need = packed_bytes(type, rows, cols);
  if (!format_of(type).block) return kBadType;
  if (!need) return kBadShape;
  if (!src || !dst || reinterpret_cast<uintptr_t>(dst) % 64) return kBadPointer;
  if (src_bytes < source_bytes(type, rows, cols) || dst_bytes < need) return kTooSmall;
  if (row_begin < 0 || row_begin > row_end || row_end > rows || row_begin % kPanel ||
      (row_end % kPanel && row_end != rows)) {
    return kBadRange;
  }
  const Format f = format_of(type);
  const int64_t units = units_of(f, cols), row_bytes = cols / f.block * f.block_bytes;
  for (int64_t row = row_begin; row < row_end; row += kPanel) {
    const u8* from = static_cast<const u8*>(src) + row * row_bytes;
    u8* panel = static_cast<u8*>(dst) + row / kPanel * units * f.unit_bytes;
    const int64_t lanes = rows - row < kPanel ? rows - row : kPanel;
    if (takes_act_blocks(type)) {
      pack_blocks(type, f, from, row_bytes, lanes, panel, units);
    } else {
      pack_plain(from, f.block_bytes, cols, lanes, panel, units);
    }
  }
  return kOk;
}

int unpack_row(const Packed& w, int64_t row, float* out) {
  const size_t need = packed_bytes(w.type, w.rows, w.cols);
  if (!need) return kBadShape;
  if (!w.data || !out) return kBadPointer;
  if (w.bytes < need) return kTooSmall;
  if (row < 0 || row >= w.rows) return kBadRange;
  const Format f = format_of(w.type);
  const u8* panel = static_cast<const u8*>(w.data) + row / kPanel * units_of(f, w.cols) * f.unit_bytes;
  const int lane = static_cast<int>(row % kPanel);
  switch (w.type) {
    case Type::f32:
      for (int64_t k = 0; k < w.cols; ++k) memcpy(out + k, panel + (k * kPanel + lane) * 4, 4);
      break;
    case Type::f16:
      for (int64_t k = 0; k < w.cols; ++k) out[k] = half_to_float(half(panel + (k * kPanel + lane) * 2));
      break;
    case Type::bf16:
      for (int64_t k = 0; k < w.cols; ++k)
        out[k] = bfloat_to_float(half(panel + (k * kPanel + lane) * 2));
      break;
    case Type::q8_0: unpack_blocks(q8_0_at, f, panel, lane, w.cols, out); break;
    case Type::q4_0: unpack_blocks(q4_0_at, f, panel, lane, w.cols, out); break;
    case Type::q4_k: unpack_blocks(q4_k_at, f, panel, lane, w.cols, out); break;
    case Type::q5_k: unpack_blocks(q5_k_at, f, panel, lane, w.cols, out); break;
    case Type::q6_k: unpack_blocks(q6_k_at, f, panel, lane, w.cols, out); break;
  }
  return kOk;
}

int quantize_weights(Type type, const float* src, int64_t rows, int64_t cols, void* dst,
                     size_t dst_bytes) {
  const size_t need = source_bytes(type, rows, cols);
  if (!need) return kBadShape;
  if (!src || !dst) return kBadPointer;
  if (dst_bytes < need) return kTooSmall;
  u8* to = static_cast<u8*>(dst);
  const int64_t count = rows * cols;
  switch (type) {
    case Type::f16:
      for (int64_t i = 0; i < count; ++i) put_half(to + 2 * i, float_to_half(src[i]));
      return kOk;
    case Type::bf16:
      for (int64_t i = 0; i < count; ++i) put_half(to + 2 * i, float_to_bfloat(src[i]));
      return kOk;
    case Type::q8_0:
      for (int64_t i = 0; i < count; i += 32, to += 34) quantize_q8_0(src + i, to);
      return kOk;
    case Type::q4_0:
      for (int64_t i = 0; i < count; i += 32, to += 18) quantize_q4_0(src + i, to);
      return kOk;
    default: return kBadType;
  }
}

}  // namespace tl

// How weights lie in memory, as stored in GGUF files and as the kernels stream them.
//
// Packed: panels of 16 rows, each a run of units along k. Every unit is a whole number of cache
// lines. A line of quants holds, for each of the 16 rows, the 4 bytes that one dot-product
// instruction consumes. "Group" g of a block of 32 is its elements 4g..4g+3. Nibble line z (0..3)
// holds group z in the low and group z + 4 in the high nibbles.
//
//   q8_0, unit = 2 blocks, 1088 bytes: f16 scale[2][16], then u8 (value + 128) [2][8 groups][16][4]
//   q4_0, unit = 2 blocks, 576 bytes:  f16 scale[2][16], then nibble lines [2][4][64]
//   q4_k, unit = 8 blocks, 2368 bytes: f16 d[16], f16 dmin[16], u8 scale[8][16], u8 min[8][16],
//                                      nibble lines [8][4][64]
//   q5_k, unit = 8 blocks, 2880 bytes: the same head; per block 4 nibble lines and one line of fifth
//                                      bits (bit g of a byte belongs to group g)
//   q6_k, unit = 8 blocks, 3392 bytes: f16 d[16], 32 bytes unused, i8 scale[8][2 halves][16]; per block
//                                      4 nibble lines and 2 lines of upper bits (line h, bits 2e and
//                                      2e + 1 belong to group 4h + e)
//   f16, bf16, unit = 2 inputs, 64 bytes: [2][16];  f32: the same, 128 bytes
#pragma once

#include "trunkline_kernels.h"

namespace tl {

// What a type is made of. `block` counts inputs, as stored; `unit` and `unit_bytes` as packed.
struct Format {
  int64_t block;
  int64_t block_bytes;
  int64_t unit;
  int64_t unit_bytes;
};

constexpr Format format_of(Type t) {
  switch (t) {
    case Type::f32: return {1, 4, 2, 128};
    case Type::f16:
    case Type::bf16: return {1, 2, 2, 64};
    case Type::q4_0: return {32, 18, 64, 576};
    case Type::q8_0: return {32, 34, 64, 1088};
    case Type::q4_k: return {256, 144, 256, 2368};
    case Type::q5_k: return {256, 176, 256, 2880};
    case Type::q6_k: return {256, 210, 256, 3392};
  }
  return {0, 0, 0, 0};
}

constexpr int64_t panels_of(int64_t rows) { return (rows + kPanel - 1) / kPanel; }

constexpr int64_t units_of(const Format& f, int64_t cols) { return (cols + f.unit - 1) / f.unit; }

// Rows and columns beyond these are refused, so that no product of sizes overflows.
constexpr int64_t kMostRows = int64_t{1} << 28;
constexpr int64_t kMostCols = int64_t{1} << 24;

// ---- the cache of keys and values: a block is, for each head,
//   f16, bf16: keys [block / 16][dim][16], values [block][dim]
//   int8: f32 scales of the keys [block], of the values [block], then keys and values as above
constexpr int64_t kv_element(KvType t) { return t == KvType::int8 ? 1 : 2; }

constexpr bool kv_possible(const KvLayout& kv) {
  return (kv.type == KvType::f16 || kv.type == KvType::bf16 || kv.type == KvType::int8) &&
         kv.block >= 16 && kv.block <= 1024 && kv.block % 16 == 0 && kv.kv_heads >= 1 &&
         kv.kv_heads <= 1024 && kv.head_dim >= 16 && kv.head_dim <= 512 && kv.head_dim % 16 == 0;
}

// Bytes of the scales of one head of one block.
constexpr int64_t kv_scale_bytes(const KvLayout& kv) {
  return kv.type == KvType::int8 ? int64_t{8} * kv.block : 0;
}

// Bytes of one head of one block: scales, keys, values.
constexpr int64_t kv_head_bytes(const KvLayout& kv) {
  return kv_scale_bytes(kv) + 2 * kv_element(kv.type) * kv.block * kv.head_dim;
}

}  // namespace tl

// Kernels of the native executor: what the forward pass is made of.
//
// Rules that hold for every kernel here:
//  * A row's result is the same bits whoever shares its batch, however the output rows are split
//    among threads, and whichever CPU variant computes it: sums along k have one fixed order, integer
//    sums are exact, and every fused multiply-add is written out. (One exception: bf16 weights where
//    the CPU multiplies bf16, see variant_avx512bf16.cpp, are a matter of the variant.)
//  * No kernel allocates, throws, or keeps state. Scratch memory comes from the caller, one piece per
//    thread, aligned to 64 bytes.
//  * Sizes are checked here once more; a kernel that does not like them returns a negative Status and
//    writes nothing.
//
// native/kernels/variant.cpp is compiled once per CPU variant (see native/kernels/VARIANTS), the rest
// once. select() picks the best one that the CPU can run.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tl {

// Numbers are GGUF's (ggml_type).
enum class Type : int32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};

enum Status : int {
  kOk = 0,
  kBadType = -1,
  kBadShape = -2,
  kBadRange = -3,
  kBadPointer = -4,
  kTooSmall = -5,
};

// ---- weights ---------------------------------------------------------------------------------

// A panel is 16 outputs side by side; output ranges given to threads begin at multiples of it.
constexpr int64_t kPanel = 16;

// A matrix in the kernels' layout: rows are outputs, cols are inputs. `data` is aligned to 64 bytes.
struct Packed {
  Type type;
  int64_t rows;
  int64_t cols;
  const void* data;
  size_t bytes;
};

// Bytes of the matrix as a GGUF file stores it; 0 when the type is unknown or cols does not fit it.
size_t source_bytes(Type type, int64_t rows, int64_t cols);

// Bytes of the matrix in the kernels' layout; 0 as above.
size_t packed_bytes(Type type, int64_t rows, int64_t cols);

// Packs the rows [row_begin, row_end) of `src` (the whole matrix as stored). Ranges of several
// threads must not share a panel: row_begin is a multiple of kPanel, row_end too or == rows.
int pack(Type type, const void* src, size_t src_bytes, int64_t rows, int64_t cols, void* dst,
         size_t dst_bytes, int64_t row_begin, int64_t row_end);

// One row back as floats (embedding lookup): cols floats.
int unpack_row(const Packed& w, int64_t row, float* out);

// Quantizes f32 rows [rows, cols] to blocks as a GGUF file stores them (q8_0, q4_0; f16, bf16 too).
int quantize_weights(Type type, const float* src, int64_t rows, int64_t cols, void* dst,
                     size_t dst_bytes);

// ---- activations -----------------------------------------------------------------------------

// 32 inputs of one row: int8 values, their scale, and what each weight format needs of them.
// One cache line, so that a block is loaded whole.
struct alignas(64) ActBlock {
  int8_t q[32];
  float d;           // scale; value = d * q. Low 4 bits of the mantissa are 0, see quantize.h
  float c;           // -1.5 * 2^23 * d, exact
  int32_t init8;     // bits of 1.5 * 2^23, minus 128 * sum(q): start of the sum for weights + 128
  int32_t init4;     // the same with 8: q4_0
  int32_t init6[2];  // the same with 32, for each half: q6_k
  float ds;          // d * sum(q): what the minimum of a block is multiplied with
  int32_t sum;       // sum(q)
};
static_assert(sizeof(ActBlock) == 64);

// Blocks of one row: an even number, padded with zero blocks.
constexpr int64_t act_blocks(int64_t cols) { return (cols + 63) / 64 * 2; }

// Whether weights of this type are multiplied with ActBlocks (else with floats).
constexpr bool takes_act_blocks(Type t) {
  return t != Type::f32 && t != Type::f16 && t != Type::bf16;
}

// out[i, r] = sum_k w[r, k] x[i, k], plus bias[r] if given, plus the old out[i, r] if `add`.
struct Matmul {
  const Packed* w;
  int64_t n;           // rows of x
  const ActBlock* xq;  // [n, act_blocks(cols)], for weights with takes_act_blocks
  const float* x;      // [n, ld_x], for the others
  int64_t ld_x;
  float* out;  // [n, ld_out]
  int64_t ld_out;
  const float* bias;  // [rows] or null
  bool add;
};

// Scratch that matmul needs, per thread.
constexpr size_t kMatmulScratch = size_t{3} << 19;

// ---- the cache of keys and values --------------------------------------------------------------

enum class KvType : int32_t { f16 = 0, bf16 = 1, int8 = 2, int16 = 3 };

// One block: `block` positions (a multiple of 16) of all heads of one layer, keys then values.
// The inside of a block is the kernels' business; blocks are copied whole, as bytes.
struct KvLayout {
  KvType type;
  int32_t block;
  int32_t kv_heads;
  int32_t head_dim;  // a multiple of 16, at most 512
};

// Bytes of one block of one layer (a multiple of 64); 0 for a layout that is not possible.
size_t kv_block_bytes(const KvLayout& kv);

// A query row: one position of one sequence.
struct AttnRow {
  const float* q;        // [heads, head_dim], after rope; not yet scaled
  float* out;            // [heads, head_dim]
  const int32_t* table;  // block numbers of the sequence, at least pos / block + 1
  int64_t pos;           // attends to positions (pos - window, pos]
};

struct Attention {
  KvLayout kv;
  const void* cache;  // of this layer; block i is at cache + i * stride; aligned to 64 bytes
  size_t stride;
  int32_t n_blocks;  // numbers in tables are below this
  int32_t heads;     // a multiple of kv.kv_heads
  float scale;
  float softcap;   // 0: none; else cap * tanh(s / cap)
  int64_t window;  // 0: none
};

// Scratch for attend, per thread, for any number of rows.
size_t attend_scratch(const Attention& a);

enum class Rope : int32_t {
  pairs = 0,   // (0,1), (2,3), ...: GGUF's "normal"
  halves = 1,  // (0, n/2), (1, n/2+1), ...: "neox"
};

// ---- drawing -------------------------------------------------------------------------------------

// Elements of a row that are summed together.
constexpr int64_t kDrawBlock = 512;

// ---- the kernels of one CPU variant -------------------------------------------------------------

struct Kernels {
  const char* name;

  // x [n, ld_x] -> out [n, act_blocks(cols)]. A row with an infinity or a NaN gives NaN everywhere.
  void (*quantize)(const float* x, int64_t ld_x, int64_t n, int64_t cols, ActBlock* out);

  // One thread's share: outputs [row_begin, row_end), all n rows.
  int (*matmul)(const Matmul& m, int64_t row_begin, int64_t row_end, void* scratch);

  // out = x / sqrt(mean(x^2) + eps) * w; w may be null; out may be x.
  void (*rms_norm)(const float* x, const float* w, float eps, int64_t n, float* out);

  // Rotates the first `rot` (even) of each head's dim values; cos and sin: [rot / 2] of the position.
  void (*rope)(Rope style, float* x, int64_t heads, int64_t dim, int64_t rot, const float* cos,
               const float* sin);

  // out = silu(gate) * up, or gelu_tanh(gate) * up; out may be gate.
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
  void (*geglu)(const float* gate, const float* up, int64_t n, float* out);

  void (*add)(const float* a, const float* b, int64_t n, float* out);
  void (*scale)(float* x, float s, int64_t n);
  // out += s * x (experts).
  void (*add_scaled)(const float* x, float s, int64_t n, float* out);
  // x = cap * tanh(x / cap)
  void (*softcap)(float* x, float cap, int64_t n);
  // exp(x - max) / sum, in place; returns log(sum) + max.
  float (*softmax)(float* x, int64_t n);

  // Writes one position: k and v [kv_heads, head_dim] into slot (< kv.block) of the block at `block`.
  void (*kv_store)(const KvLayout& kv, void* block, int32_t slot, const float* k, const float* v);

  // Rows of any sequences, for kv heads [head_begin, head_end). Rows that are neighbours and have the
  // same block numbers over a stretch read it once: sort rows so that sharers are neighbours, and
  // give the rows of a prefill chunk in order.
  int (*attend)(const Attention& a, const AttnRow* rows, int64_t n, int32_t head_begin,
                int32_t head_end, void* scratch);

  // The first of the largest of n logits; -1 where some of them are no finite numbers. tops: the
  // largest of each kDrawBlock of them, one for each begun.
  int64_t (*best)(const float* x, int64_t n, float* tops);
  // p = exp((x - top) * factor), and the running sums of p at the end of each kDrawBlock.
  void (*weights)(const float* x, float top, float factor, int64_t n, float* p, double* sums);
  // The sum of those that are larger than bound (>= 0).
  double (*mass_above)(const float* p, float bound, int64_t n);
};

// The variant of this name (native/kernels/VARIANTS has them); for null or "" the one that
// TRUNKLINE_NATIVE_CPU names, else the best. Null when the name is unknown or this CPU cannot run it.
const Kernels* select(const char* name);

// Names that this CPU can run, best first; null after the last.
const char* const* available();

// All variants that were compiled, best first, whether this CPU runs them or not: for checks that
// emulate what it lacks. Null after the last.
const Kernels* compiled(int i);

}  // namespace tl

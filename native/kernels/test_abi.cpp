// The kernels by plain C names, for tests (tests/libnative/kernels) and nothing else.
#include "trunkline_kernels.h"

#define TLK extern "C" __attribute__((visibility("default")))

using tl::Kernels;
using tl::Type;

// The i-th variant's name, best first, or null.
TLK const char* tlk_variant(int32_t i) {
  const char* const* names = tl::available();
  while (*names && i-- > 0) ++names;
  return *names;
}

TLK const Kernels* tlk_select(const char* name) { return tl::select(name); }

// The i-th of all that were compiled, whether this CPU runs it or not, or null.
TLK const Kernels* tlk_compiled(int32_t i) { return tl::compiled(i); }

TLK const char* tlk_name(const Kernels* k) { return k->name; }

TLK size_t tlk_source_bytes(int32_t type, int64_t rows, int64_t cols) {
  return tl::source_bytes(static_cast<Type>(type), rows, cols);
}

TLK size_t tlk_packed_bytes(int32_t type, int64_t rows, int64_t cols) {
  return tl::packed_bytes(static_cast<Type>(type), rows, cols);
}

TLK int tlk_pack(int32_t type, const void* src, size_t src_bytes, int64_t rows, int64_t cols, void* dst,
                 size_t dst_bytes, int64_t row_begin, int64_t row_end) {
  return tl::pack(static_cast<Type>(type), src, src_bytes, rows, cols, dst, dst_bytes, row_begin,
                  row_end);
}

TLK int tlk_unpack_row(const tl::Packed* w, int64_t row, float* out) {
  return tl::unpack_row(*w, row, out);
}

TLK int tlk_quantize_weights(int32_t type, const float* src, int64_t rows, int64_t cols, void* dst,
                             size_t dst_bytes) {
  return tl::quantize_weights(static_cast<Type>(type), src, rows, cols, dst, dst_bytes);
}

TLK int64_t tlk_act_blocks(int64_t cols) { return tl::act_blocks(cols); }

TLK size_t tlk_matmul_scratch() { return tl::kMatmulScratch; }

TLK void tlk_quantize(const Kernels* k, const float* x, int64_t ld_x, int64_t n, int64_t cols,
                      tl::ActBlock* out) {
  k->quantize(x, ld_x, n, cols, out);
}

TLK int tlk_matmul(const Kernels* k, const tl::Matmul* m, int64_t row_begin, int64_t row_end,
                   void* scratch) {
  return k->matmul(*m, row_begin, row_end, scratch);
}

TLK void tlk_rms_norm(const Kernels* k, const float* x, const float* w, float eps, int64_t n, float* out) {
  k->rms_norm(x, w, eps, n, out);
}

TLK void tlk_rope(const Kernels* k, int32_t style, float* x, int64_t heads, int64_t dim, int64_t rot,
                  const float* cos, const float* sin) {
  k->rope(static_cast<tl::Rope>(style), x, heads, dim, rot, cos, sin);
}

TLK void tlk_swiglu(const Kernels* k, const float* gate, const float* up, int64_t n, float* out) {
  k->swiglu(gate, up, n, out);
}

TLK void tlk_geglu(const Kernels* k, const float* gate, const float* up, int64_t n, float* out) {
  k->geglu(gate, up, n, out);
}

TLK void tlk_add(const Kernels* k, const float* a, const float* b, int64_t n, float* out) {
  k->add(a, b, n, out);
}

TLK void tlk_scale(const Kernels* k, float* x, float s, int64_t n) { k->scale(x, s, n); }

TLK void tlk_add_scaled(const Kernels* k, const float* x, float s, int64_t n, float* out) {
  k->add_scaled(x, s, n, out);
}

TLK void tlk_softcap(const Kernels* k, float* x, float cap, int64_t n) { k->softcap(x, cap, n); }

TLK float tlk_softmax(const Kernels* k, float* x, int64_t n) { return k->softmax(x, n); }

TLK size_t tlk_kv_block_bytes(const tl::KvLayout* kv) { return tl::kv_block_bytes(*kv); }

TLK void tlk_kv_store(const Kernels* k, const tl::KvLayout* kv, void* block, int32_t slot, const float* key,
                      const float* value) {
  k->kv_store(*kv, block, slot, key, value);
}

TLK size_t tlk_attend_scratch(const tl::Attention* a) { return tl::attend_scratch(*a); }

TLK int tlk_attend(const Kernels* k, const tl::Attention* a, const tl::AttnRow* rows, int64_t n,
                   int32_t head_begin, int32_t head_end, void* scratch) {
  return k->attend(*a, rows, n, head_begin, head_end, scratch);
}

TLK int64_t tlk_best(const Kernels* k, const float* x, int64_t n, float* tops) { return k->best(x, n, tops); }

TLK void tlk_weights(const Kernels* k, const float* x, float top, float factor, int64_t n, float* p, double* sums) {
  k->weights(x, top, factor, n, p, sums);
}

TLK double tlk_mass_above(const Kernels* k, const float* p, float bound, int64_t n) {
  return k->mass_above(p, bound, n);
}

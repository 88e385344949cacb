// The kernels of one CPU variant; compiled once for each line of VARIANTS.
//
// Everything sits in a namespace of its own and no inline function of the standard library is used:
// the linker must never take another variant's copy of one.
#include "attention.h"
#include "matmul_float.h"
#include "matmul_int.h"
#include "quantize.h"
#include "vector.h"

namespace tl {
namespace TL_ISA {

static int matmul(const Matmul& m, int64_t row_begin, int64_t row_end, void* scratch) {
  const int status = check(m, row_begin, row_end, scratch);
  if (status != kOk || m.n == 0) return status;
  switch (m.w->type) {
    case Type::f32: product<FloatTile<F32>>(m, row_begin, row_end, scratch); break;
    case Type::f16: product<FloatTile<F16>>(m, row_begin, row_end, scratch); break;
    case Type::bf16: product<FloatTile<BF16>>(m, row_begin, row_end, scratch); break;
    case Type::q8_0: product<IntTile<Q8_0>>(m, row_begin, row_end, scratch); break;
    case Type::q4_0: product<IntTile<Q4_0>>(m, row_begin, row_end, scratch); break;
    case Type::q4_k: product<IntTile<Q4_K>>(m, row_begin, row_end, scratch); break;
    case Type::q5_k: product<IntTile<Q5_K>>(m, row_begin, row_end, scratch); break;
    case Type::q6_k: product<IntTile<Q6_K>>(m, row_begin, row_end, scratch); break;
  }
  return kOk;
}

#define TL_TEXT2(x) #x
#define TL_TEXT(x) TL_TEXT2(x)

extern const Kernels table;
const Kernels table = {TL_TEXT(TL_ISA), quantize,  matmul,     rms_norm, rope,    swiglu,   geglu, add_rows,
                       scale_row,       add_scaled, softcap, softmax,  kv_store, attend,
                       best,            weights,    mass_above};

}  // namespace TL_ISA
}  // namespace tl

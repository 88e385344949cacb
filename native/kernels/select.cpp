// Which variant this CPU runs.
#include <cstdlib>
#include <cstring>

#include "layout.h"

namespace tl {

#define TL_VARIANT(name)         \
  namespace name {               \
  extern const Kernels table;    \
  }

TL_VARIANT(generic)
#if defined(__x86_64__)
TL_VARIANT(avx2)
TL_VARIANT(avx512vnni)
#endif

namespace {

struct Variants {
  const Kernels* tables[4] = {};
  const char* names[4] = {};

  Variants() {
    int count = 0;
    const auto offer = [&](bool runs, const Kernels& k) {
      if (!runs) return;
      tables[count] = &k;
      names[count++] = k.name;
    };
#if defined(__x86_64__)
    __builtin_cpu_init();
    // The compiler's support function asks the operating system about the registers as well.
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    offer(avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512vnni"),
          avx512vnni::table);
    offer(avx2, avx2::table);
#endif
    offer(true, generic::table);
  }
};

const Variants& variants() {
  static const Variants found;
  return found;
}

}  // namespace

const Kernels* select(const char* name) {
  const Variants& v = variants();
  if (!name || !*name) name = getenv("TRUNKLINE_NATIVE_CPU");
  if (!name || !*name) return v.tables[0];
  for (const Kernels* const* k = v.tables; *k; ++k) {
    if (!strcmp((*k)->name, name)) return *k;
  }
  return nullptr;
}

const char* const* available() { return variants().names; }

size_t kv_block_bytes(const KvLayout& kv) {
  return kv_possible(kv) ? static_cast<size_t>(kv.kv_heads * kv_head_bytes(kv)) : 0;
}

size_t attend_scratch(const Attention& a) {
  if (!kv_possible(a.kv) || a.heads < 1 || a.heads % a.kv.kv_heads) return 0;
  const int64_t sharers = a.heads / a.kv.kv_heads;
  const int64_t queries = sharers > 64 ? sharers : 64;
  // Queries, sums, lanes of sums, a tile of weights, maxima (attention.h).
  return static_cast<size_t>(queries * (2 * a.kv.head_dim + 16 + 64 + 1) * 4 + 63) / 64 * 64;
}

}  // namespace tl

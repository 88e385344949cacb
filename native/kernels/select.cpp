// Which variant this CPU runs.
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "layout.h"

namespace tl {

#define TL_VARIANT(name)         \
  namespace name {               \
  extern const Kernels table;    \
  }
// One that replaces products alone (variant_<name>.cpp).
#define TL_PRODUCTS(name)                                                     \
  namespace name {                                                            \
  int matmul(const Matmul& m, int64_t begin, int64_t end, void* scratch);     \
  }

TL_VARIANT(generic)
#if defined(__x86_64__)
TL_VARIANT(avx2)
TL_VARIANT(avxvnni)
TL_VARIANT(avx512vnni)
TL_PRODUCTS(avx512bf16)
TL_PRODUCTS(amx)
#elif defined(__aarch64__)
TL_VARIANT(dotprod)
TL_VARIANT(i8mm)
#endif

namespace {

#if defined(__x86_64__)
// Whether leaf 7 has the bit: of subleaf 0 in EDX, of subleaf 1 in EAX.
bool leaf7(int subleaf, int bit) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, static_cast<unsigned>(subleaf), &a, &b, &c, &d)) return false;
  return (subleaf ? a : d) >> bit & 1;
}

// Linux gives the tiles' registers to processes that ask for them (Documentation/arch/x86/xstate.rst).
bool tiles_allowed() {
#if defined(__linux__)
  constexpr long kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

Kernels with_products(const char* name, Kernels base, decltype(Kernels::matmul) matmul) {
  base.name = name;
  base.matmul = matmul;
  return base;
}
#elif defined(__aarch64__)
bool has_dotprod() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) >> 20 & 1;
#elif defined(__APPLE__)
  int found = 0;
  size_t size = sizeof found;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, nullptr, 0) == 0 && found;
#else
  return false;
#endif
}

bool has_i8mm() {
#if defined(__linux__)
  return getauxval(AT_HWCAP2) >> 13 & 1;
#elif defined(__APPLE__)
  int found = 0;
  size_t size = sizeof found;
  return sysctlbyname("hw.optional.arm.FEAT_I8MM", &found, &size, nullptr, 0) == 0 && found;
#else
  return false;
#endif
}
#endif

struct Variants {
  static constexpr int kMost = 8;
  // All that are compiled in, best first, and those of them that run here, with their names.
  Kernels all[kMost] = {};
  const Kernels* tables[kMost + 1] = {};
  const char* names[kMost + 1] = {};
  int compiled = 0, running = 0;

  void offer(bool runs, const Kernels& k) {
    all[compiled] = k;
    if (runs) {
      tables[running] = &all[compiled];
      names[running++] = k.name;
    }
    ++compiled;
  }

  Variants() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    // The compiler's support function asks the operating system about the registers as well.
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c();
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    const bool bf16 = avx512 && leaf7(1, 5);
    const bool amx = bf16 && leaf7(0, 24) && leaf7(0, 25) && tiles_allowed();
    offer(amx, with_products("amx", avx512vnni::table, amx::matmul));
    offer(bf16, with_products("avx512bf16", avx512vnni::table, avx512bf16::matmul));
    offer(avx512, avx512vnni::table);
    offer(avx2 && leaf7(1, 4), avxvnni::table);
    offer(avx2, avx2::table);
#elif defined(__aarch64__)
    offer(has_dotprod() && has_i8mm(), i8mm::table);
    offer(has_dotprod(), dotprod::table);
#endif
    offer(true, generic::table);
  }

#if defined(__x86_64__)
  static bool f16c() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
  }
#endif
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

const Kernels* compiled(int i) {
  const Variants& v = variants();
  return i >= 0 && i < v.compiled ? &v.all[i] : nullptr;
}

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

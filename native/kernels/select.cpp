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
// What the CPU has and the system lets us use. Not __builtin_cpu_supports: zig's is empty, and says no.
class Features {
 public:
  Features() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    one_c_ = c;
    if (has(one_c_, 27)) {  // the system saves registers by XSAVE
      asm volatile("xgetbv" : "=a"(saved_), "=d"(d) : "c"(0));
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
      seven_b_ = b;
      seven_c_ = c;
      seven_d_ = d;
    }
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) seven_one_a_ = a;
  }

  bool avx2() const {
    constexpr unsigned kVectors = 0x6;
    return (saved_ & kVectors) == kVectors && has(one_c_, 12) /* FMA */ && has(one_c_, 29) /* F16C */ &&
           has(seven_b_, 5);
  }
  bool avxvnni() const { return avx2() && has(seven_one_a_, 4); }
  bool avx512vnni() const {
    constexpr unsigned kVectors = 0xE6;
    return avx2() && (saved_ & kVectors) == kVectors && has(seven_b_, 16) /* F */ &&
           has(seven_b_, 17) /* DQ */ && has(seven_b_, 30) /* BW */ && has(seven_b_, 31) /* VL */ &&
           has(seven_c_, 11);
  }
  bool avx512bf16() const { return avx512vnni() && has(seven_one_a_, 5); }
  bool amx() const {
    constexpr unsigned kTiles = 0x60000;
    return avx512bf16() && (saved_ & kTiles) == kTiles && has(seven_d_, 24) && has(seven_d_, 25);
  }

 private:
  static bool has(unsigned word, int bit) { return word >> bit & 1; }

  unsigned saved_ = 0, one_c_ = 0, seven_b_ = 0, seven_c_ = 0, seven_d_ = 0, seven_one_a_ = 0;
};

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
    const Features cpu;
    offer(cpu.amx() && tiles_allowed(), with_products("amx", avx512vnni::table, amx::matmul));
    offer(cpu.avx512bf16(), with_products("avx512bf16", avx512vnni::table, avx512bf16::matmul));
    offer(cpu.avx512vnni(), avx512vnni::table);
    offer(cpu.avxvnni(), avxvnni::table);
    offer(cpu.avx2(), avx2::table);
#elif defined(__aarch64__)
    offer(has_dotprod() && has_i8mm(), i8mm::table);
    offer(has_dotprod(), dotprod::table);
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

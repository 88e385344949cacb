// Measures kernels: bytes and operations per second, one line per case.
//
//   bench [CASE...]      cases: small large float attention pack; all when none is named
//   TRUNKLINE_NATIVE_CPU=avx2 bench
//
// Build: see benchmarks/native.md. Each figure is CPU time, the best of several runs; with THREADS=2
// (the default is 1) as many threads split the output rows, as the engine does.
#include <algorithm>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "trunkline_kernels.h"

namespace {

const char* text(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value ? value : otherwise;
}

const tl::Kernels& kernels() {
  static const tl::Kernels* const found = tl::select(text("TRUNKLINE_NATIVE_CPU", ""));
  if (!found) {
    fprintf(stderr, "no such variant on this CPU\n");
    exit(1);
  }
  return *found;
}

int thread_count() { return std::max(1, atoi(text("THREADS", "1"))); }

struct Memory {
  size_t bytes;
  uint8_t* p;
  explicit Memory(size_t size)
      : bytes((size + 63) / 64 * 64), p(static_cast<uint8_t*>(aligned_alloc(64, bytes))) {
    memset(p, 0, bytes);
  }
  ~Memory() { free(p); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

// CPU seconds of this thread: other work on the machine then costs less of the truth.
double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Best seconds of `runs` calls of body(thread), all threads at once; the slowest thread counts.
double best(int runs, const std::function<void(int)>& body) {
  const int threads = thread_count();
  std::vector<std::vector<double>> took(static_cast<size_t>(threads));
  std::barrier together(threads);
  const auto work = [&](int t) {
    for (int r = 0; r < runs; ++r) {
      together.arrive_and_wait();
      const double start = cpu_seconds();
      body(t);
      took[static_cast<size_t>(t)].push_back(cpu_seconds() - start);
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
  work(0);
  for (std::thread& other : others) other.join();
  double least = 1e30;
  for (size_t r = 0; r < static_cast<size_t>(runs); ++r) {
    double slowest = 0;
    for (const auto& times : took) slowest = std::max(slowest, times[r]);
    least = std::min(least, slowest);
  }
  return least;
}

struct Named {
  const char* name;
  tl::Type type;
};

void product(const Named& kind, int64_t rows, int64_t cols, int64_t n) {
  const size_t source_bytes = tl::source_bytes(kind.type, rows, cols);
  Memory source(source_bytes), weights(tl::packed_bytes(kind.type, rows, cols));
  std::mt19937 random(1);
  if (tl::takes_act_blocks(kind.type)) {
    for (size_t i = 0; i < source_bytes; ++i) source.p[i] = static_cast<uint8_t>(i * 2654435761u >> 24 & 0x3b);
  } else {  // sane numbers: denormal ones are slow
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 2654435761u >> 24 & 255) / 128 - 1;
    if (kind.type == tl::Type::f32) memcpy(source.p, values.data(), source_bytes);
    else tl::quantize_weights(kind.type, values.data(), rows, cols, source.p, source.bytes);
  }
  tl::pack(kind.type, source.p, source.bytes, rows, cols, weights.p, weights.bytes, 0, rows);
  std::vector<float> x(static_cast<size_t>(n * cols)), out(static_cast<size_t>(n * rows));
  for (float& v : x) v = static_cast<float>(random() % 2001) / 1000 - 1;
  Memory blocks(static_cast<size_t>(n * tl::act_blocks(cols)) * sizeof(tl::ActBlock));
  auto* xq = reinterpret_cast<tl::ActBlock*>(blocks.p);
  kernels().quantize(x.data(), cols, n, cols, xq);
  const tl::Packed w{kind.type, rows, cols, weights.p, weights.bytes};
  const tl::Matmul m{&w, n, xq, x.data(), cols, out.data(), rows, nullptr, false};
  const int threads = thread_count();
  std::vector<std::unique_ptr<Memory>> scratch;
  for (int t = 0; t < threads; ++t) scratch.push_back(std::make_unique<Memory>(tl::kMatmulScratch));
  const double seconds = best(n > 64 ? 5 : 15, [&](int t) {
    const int64_t share = (rows / threads + 31) / 32 * 32;
    kernels().matmul(m, std::min(rows, t * share), t + 1 == threads ? rows : std::min(rows, (t + 1) * share),
                     scratch[static_cast<size_t>(t)]->p);
  });
  printf("%-5s %5ld x %5ld  n %4ld  %9.3f ms  %6.1f GB/s  %7.1f GOP/s\n", kind.name, rows, cols, n,
         seconds * 1e3, static_cast<double>(weights.bytes) / seconds / 1e9,
         2e-9 * static_cast<double>(rows * cols * n) / seconds);
}

constexpr Named kInteger[] = {{"q8_0", tl::Type::q8_0},
                              {"q4_0", tl::Type::q4_0},
                              {"q4_k", tl::Type::q4_k},
                              {"q5_k", tl::Type::q5_k},
                              {"q6_k", tl::Type::q6_k}};
constexpr Named kFloat[] = {{"f16", tl::Type::f16}, {"bf16", tl::Type::bf16}, {"f32", tl::Type::f32}};

void small() {
  // Larger than any cache: 151936 x 1024 is the head of the Qwen3-0.6B shape.
  for (const Named& kind : kInteger)
    for (int64_t n : {1, 2, 4, 8, 16, 32}) product(kind, 49152, 1024, n);
}

void large() {
  for (const Named& kind : kInteger)
    for (int64_t n : {64, 128, 512}) product(kind, 3072, 1024, n);
  product(kInteger[0], 1024, 3072, 512);
  product(kInteger[2], 1024, 3072, 512);
}

void floats() {
  for (const Named& kind : kFloat)
    for (int64_t n : {1, 4, 16, 512}) product(kind, n > 64 ? 3072 : 32768, 1024, n);
}

// 16 heads, 8 kv heads of 128: decode rows (each its own sequence, or one prefix for all), a chunk.
void attention() {
  constexpr int32_t kHeads = 16, kKvHeads = 8, kDim = 128, kBlock = 32;
  struct Case {
    const char* name;
    int64_t rows, context;
    bool shared, chunk;
  };
  constexpr Case cases[] = {{"decode, 1 sequence", 1, 2048, false, false},
                            {"decode, 16 sequences", 16, 2048, false, false},
                            {"decode, 16 on one prefix", 16, 2048, true, false},
                            {"chunk of 256 at the end", 256, 2048, true, true}};
  for (const tl::KvType type : {tl::KvType::f16, tl::KvType::int8, tl::KvType::int16}) {
    const tl::KvLayout layout{type, kBlock, kKvHeads, kDim};
    const size_t block_bytes = tl::kv_block_bytes(layout);
    if (!block_bytes) continue;
    for (const Case& c : cases) {
      const int64_t per_sequence = c.context / kBlock;
      const int64_t blocks = per_sequence * (c.shared ? 1 : c.rows);
      Memory cache(block_bytes * static_cast<size_t>(blocks));
      std::mt19937 random(1);
      std::vector<float> q(static_cast<size_t>(c.rows * kHeads * kDim)), out(q.size());
      for (float& v : q) v = static_cast<float>(random() % 2001) / 1000 - 1;
      for (int64_t b = 0; b < blocks; ++b)
        for (int32_t slot = 0; slot < kBlock; ++slot)
          kernels().kv_store(layout, cache.p + static_cast<size_t>(b) * block_bytes, slot,
                             q.data() + random() % 8, q.data() + random() % 8);
      std::vector<int32_t> table(static_cast<size_t>(blocks));
      for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
      std::vector<tl::AttnRow> rows;
      double pairs = 0;
      for (int64_t i = 0; i < c.rows; ++i) {
        const int64_t pos = c.chunk ? c.context - c.rows + i : c.context - 1;
        pairs += static_cast<double>(pos + 1);
        rows.push_back({q.data() + i * kHeads * kDim, out.data() + i * kHeads * kDim,
                        table.data() + (c.shared ? 0 : i * per_sequence), pos});
      }
      const tl::Attention a{layout, cache.p, block_bytes, static_cast<int32_t>(blocks), kHeads, 0.088f, 0, 0};
      const int threads = thread_count();
      std::vector<std::unique_ptr<Memory>> scratch;
      for (int t = 0; t < threads; ++t) scratch.push_back(std::make_unique<Memory>(tl::attend_scratch(a)));
      const double seconds = best(9, [&](int t) {
        kernels().attend(a, rows.data(), c.rows, kKvHeads * t / threads, kKvHeads * (t + 1) / threads,
                         scratch[static_cast<size_t>(t)]->p);
      });
      printf("kv type %d  %-26s %9.3f ms  %6.1f GB/s  %7.1f GFLOP/s\n", static_cast<int>(type), c.name,
             seconds * 1e3, static_cast<double>(cache.bytes) / seconds / 1e9,
             4e-9 * pairs * kHeads * kDim / seconds);
    }
  }
}

void packing() {
  for (const Named& kind : kInteger) {
    constexpr int64_t kRows = 16384, kCols = 1024;
    Memory source(tl::source_bytes(kind.type, kRows, kCols)), to(tl::packed_bytes(kind.type, kRows, kCols));
    const double seconds = best(5, [&](int) {
      tl::pack(kind.type, source.p, source.bytes, kRows, kCols, to.p, to.bytes, 0, kRows);
    });
    printf("pack %-5s %6.2f GB/s\n", kind.name, static_cast<double>(source.bytes) / seconds / 1e9);
  }
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  constexpr Case cases[] = {
      {"small", small}, {"large", large}, {"float", floats}, {"attention", attention}, {"pack", packing}};
  setvbuf(stdout, nullptr, _IOLBF, 0);
  printf("%s, %d threads\n", kernels().name, thread_count());
  for (const Case& c : cases) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted = wanted || !strcmp(argv[i], c.name);
    if (wanted) c.run();
  }
}

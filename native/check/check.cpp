// Compares the kernels of each CPU variant with float64 references, and their bits with those of
// `generic`, without Python: for machines that are emulated.
//
//   check LIBRARY [SEED]
//
// A variant that this CPU cannot run is checked where emulate.cpp knows the instructions, else it is
// left out and named. Status 1 and a line for each failure.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "check/emulate.h"
#include "trunkline_kernels.h"

namespace {

using tl::Kernels;
using tl::Type;

struct Library {
  const Kernels* (*compiled)(int32_t);
  const char* (*variant)(int32_t);
  size_t (*source_bytes)(int32_t, int64_t, int64_t);
  size_t (*packed_bytes)(int32_t, int64_t, int64_t);
  int (*pack)(int32_t, const void*, size_t, int64_t, int64_t, void*, size_t, int64_t, int64_t);
  int (*unpack_row)(const tl::Packed*, int64_t, float*);
  int (*quantize_weights)(int32_t, const float*, int64_t, int64_t, void*, size_t);
  size_t (*kv_block_bytes)(const tl::KvLayout*);
  size_t (*attend_scratch)(const tl::Attention*);

  explicit Library(const char* path) {
    void* handle = dlopen(path, RTLD_NOW);
    if (!handle) {
      fprintf(stderr, "%s\n", dlerror());
      exit(2);
    }
    const auto bind = [&](auto& function, const char* name) {
      void* found = dlsym(handle, name);
      if (!found) {
        fprintf(stderr, "%s has no %s\n", path, name);
        exit(2);
      }
      memcpy(&function, &found, sizeof found);
    };
    bind(compiled, "tlk_compiled");
    bind(variant, "tlk_variant");
    bind(source_bytes, "tlk_source_bytes");
    bind(packed_bytes, "tlk_packed_bytes");
    bind(pack, "tlk_pack");
    bind(unpack_row, "tlk_unpack_row");
    bind(quantize_weights, "tlk_quantize_weights");
    bind(kv_block_bytes, "tlk_kv_block_bytes");
    bind(attend_scratch, "tlk_attend_scratch");
  }
};

struct Memory {
  size_t bytes;
  uint8_t* p;
  explicit Memory(size_t size)
      : bytes((size + 64) / 64 * 64), p(static_cast<uint8_t*>(aligned_alloc(64, bytes))) {
    memset(p, 0xA5, bytes);  // what no kernel should read
  }
  ~Memory() { free(p); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

using Floats = std::vector<float>;

// For %lld, whatever int64_t is here.
long long number(int64_t n) { return n; }

class Check {
 public:
  Check(const Library& library, const Kernels& generic, uint32_t seed)
      : lib_(library), generic_(generic), random_(seed) {}

  // All checks of one variant; how many failed. `slow`: small matrices.
  int run(const Kernels& k, bool slow) {
    k_ = &k;
    failed_ = done_ = 0;
    for (const Kind& kind : kKinds) {
      for (const int64_t n : {1, 2, 3, 4, 6, 7, 13, 18, 33, 70}) {
        const int64_t most = !slow ? 1500 : n > 16 ? 256 : 600;
        const int64_t cols = (integer(1, most) + kind.block - 1) / kind.block * kind.block;
        product(kind, n, integer(1, slow ? 40 : 100), cols);
      }
    }
    vectors();
    for (const tl::KvType type : {tl::KvType::f16, tl::KvType::bf16, tl::KvType::int8}) {
      for (const bool window : {false, true}) attention(type, window);
    }
    return failed_;
  }

  int done() const { return done_; }

 private:
  struct Kind {
    const char* name;
    Type type;
    int64_t block, block_bytes;
    int scales[2];  // where f16 scales are in a block, or -1
  };
  static constexpr Kind kKinds[] = {
      {"f32", Type::f32, 1, 4, {-1, -1}},       {"f16", Type::f16, 1, 2, {-1, -1}},
      {"bf16", Type::bf16, 1, 2, {-1, -1}},     {"q8_0", Type::q8_0, 32, 34, {0, -1}},
      {"q4_0", Type::q4_0, 32, 18, {0, -1}},    {"q4_k", Type::q4_k, 256, 144, {0, 2}},
      {"q5_k", Type::q5_k, 256, 176, {0, 2}},   {"q6_k", Type::q6_k, 256, 210, {208, -1}},
  };

  void expect(bool good, const char* format, ...) __attribute__((format(printf, 3, 4))) {
    ++done_;
    if (good) return;
    ++failed_;
    va_list arguments;
    va_start(arguments, format);
    printf("%s: ", k_->name);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
  }

  int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  Floats normal(int64_t count, float sigma = 1) {
    std::normal_distribution<float> one(0, sigma);
    Floats x(static_cast<size_t>(count));
    for (float& v : x) v = one(random_);
    return x;
  }

  static bool same(const Floats& a, const Floats& b) {
    return a.size() == b.size() && !memcmp(a.data(), b.data(), 4 * a.size());
  }

  // The largest of |a - b| / room, where b and room are float64.
  static double worst(const Floats& a, const std::vector<double>& b, const std::vector<double>& room) {
    double most = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double error = std::fabs(a[i] - b[i]) / room[i];
      if (!(error <= most)) most = error;
    }
    return most;
  }

  // ---- products ----

  // A random matrix as stored: every pattern of quants, small scales.
  void fill(const Kind& kind, int64_t rows, int64_t cols, Memory& to) {
    const Floats values = normal(rows * cols);
    if (kind.type == Type::f32) {
      memcpy(to.p, values.data(), 4 * values.size());
    } else if (kind.block == 1) {
      lib_.quantize_weights(static_cast<int>(kind.type), values.data(), rows, cols, to.p, to.bytes);
    } else {
      for (int64_t b = 0; b < rows * cols / kind.block; ++b) {
        uint8_t* at = to.p + b * kind.block_bytes;
        for (int64_t i = 0; i < kind.block_bytes; ++i) at[i] = static_cast<uint8_t>(random_());
        for (const int offset : kind.scales) {
          // f16 between 2^-14 and 0.01, either sign
          if (offset >= 0) {
            const uint16_t h = static_cast<uint16_t>(integer(0x0400, 0x211e) | integer(0, 1) << 15);
            memcpy(at + offset, &h, 2);
          }
        }
      }
    }
  }

  struct Case {
    const tl::Packed& w;
    const Floats& x;
    const Floats& bias;
    const Floats& old;
    int64_t n;
  };

  std::vector<tl::ActBlock> blocks(const Kernels& k, const Case& c) const {
    std::vector<tl::ActBlock> out(static_cast<size_t>(c.n * tl::act_blocks(c.w.cols)));
    k.quantize(c.x.data(), c.w.cols, c.n, c.w.cols, out.data());
    return out;
  }

  // In two ranges, as threads would.
  Floats multiply(const Kernels& k, const Case& c) {
    const std::vector<tl::ActBlock> xq = blocks(k, c);
    Floats out = c.old;
    Memory scratch(tl::kMatmulScratch);
    const tl::Matmul m{&c.w, c.n, xq.data(), c.x.data(), c.w.cols, out.data(), c.w.rows, c.bias.data(), true};
    const int64_t middle = c.w.rows / 2 / tl::kPanel * tl::kPanel;
    const int first = k.matmul(m, 0, middle, scratch.p), second = k.matmul(m, middle, c.w.rows, scratch.p);
    expect(first == tl::kOk && second == tl::kOk, "status %d, %d", first, second);
    return out;
  }

  // Each row alone.
  Floats one_by_one(const Kernels& k, const Case& c) {
    Floats out;
    for (int64_t i = 0; i < c.n; ++i) {
      const Floats x(c.x.begin() + i * c.w.cols, c.x.begin() + (i + 1) * c.w.cols);
      const Floats old(c.old.begin() + i * c.w.rows, c.old.begin() + (i + 1) * c.w.rows);
      const Floats row = multiply(k, {c.w, x, c.bias, old, 1});
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  }

  void against_float64(const Kind& kind, const Case& c, const Floats& out, bool rounds) {
    const int64_t cols = c.w.cols, rows = c.w.rows, count = tl::act_blocks(cols);
    const std::vector<tl::ActBlock> xq = blocks(*k_, c);
    std::vector<double> expected, room;
    Floats weights(static_cast<size_t>(rows * cols));
    for (int64_t r = 0; r < rows; ++r) lib_.unpack_row(&c.w, r, weights.data() + r * cols);
    for (int64_t i = 0; i < c.n; ++i) {
      for (int64_t r = 0; r < rows; ++r) {
        double sum = 0, magnitudes = 0;
        for (int64_t j = 0; j < cols; ++j) {
          const tl::ActBlock& b = xq[static_cast<size_t>(i * count + j / 32)];
          const double x = tl::takes_act_blocks(kind.type) ? double{b.d} * b.q[j % 32]
                                                           : c.x[static_cast<size_t>(i * cols + j)];
          const double term = x * weights[static_cast<size_t>(r * cols + j)];
          sum += term;
          magnitudes += std::fabs(term);
        }
        sum += c.bias[static_cast<size_t>(r)] + c.old[static_cast<size_t>(i * rows + r)];
        expected.push_back(sum);
        // f32 sums; where activations are rounded to bf16, each by at most 2^-8 of itself.
        room.push_back((rounds ? 4e-3 : 2e-6) * magnitudes + 1e-6 * std::fabs(sum) + 1e-6);
      }
    }
    const double error = worst(out, expected, room);
    expect(error <= 1, "%s %lld x %lld, %lld rows: %.3g of the room for rounding", kind.name, number(rows),
           number(cols), number(c.n), error);
  }

  void product(const Kind& kind, int64_t n, int64_t rows, int64_t cols) {
    const int type = static_cast<int>(kind.type);
    Memory source(lib_.source_bytes(type, rows, cols)), packed(lib_.packed_bytes(type, rows, cols));
    fill(kind, rows, cols, source);
    lib_.pack(type, source.p, source.bytes, rows, cols, packed.p, packed.bytes, 0, rows);
    const tl::Packed w{kind.type, rows, cols, packed.p, packed.bytes};
    const Floats x = normal(n * cols), bias = normal(rows), old = normal(n * rows);
    const Case c{w, x, bias, old, n};
    const std::vector<tl::ActBlock> ours = blocks(*k_, c), theirs = blocks(generic_, c);
    expect(!memcmp(ours.data(), theirs.data(), ours.size() * sizeof ours[0]), "activations differ");
    const Floats out = multiply(*k_, c);
    // The one exception (variant_avx512bf16.cpp).
    const bool rounds = kind.type == Type::bf16 &&
                        (!strcmp(k_->name, "avx512bf16") || !strcmp(k_->name, "amx"));
    against_float64(kind, c, out, rounds);
    expect(rounds || same(out, multiply(generic_, c)), "%s %lld x %lld, %lld rows: other bits than generic",
           kind.name, number(rows), number(cols), number(n));
    expect(same(out, one_by_one(*k_, c)), "%s %lld x %lld, %lld rows: other bits alone", kind.name,
           number(rows), number(cols), number(n));
  }

  // ---- what happens between products ----

  // body(kernels, values) on the same values by both; the bits must agree.
  template <class Body>
  Floats both(const char* what, const Floats& x, Body&& body) {
    Floats ours = x, theirs = x;
    body(*k_, ours);
    body(generic_, theirs);
    expect(same(ours, theirs), "%s of %zu values: other bits than generic", what, x.size());
    return ours;
  }

  void against(const char* what, const Floats& out, const std::vector<double>& expected) {
    std::vector<double> room;
    for (const double v : expected) room.push_back(2e-6 * std::fabs(v) + 1e-7);
    const double error = worst(out, expected, room);
    expect(error <= 1, "%s of %zu values: %.3g of the room for rounding", what, out.size(), error);
  }

  // What tokens are drawn by, among `x`, the largest of which is `top`.
  void draws(const Floats& x, float top) {
    const auto n = static_cast<int64_t>(x.size());
    const size_t blocks = static_cast<size_t>((n + tl::kDrawBlock - 1) / tl::kDrawBlock);
    const Floats tops = both("best", Floats(blocks), [&](const Kernels& k, Floats& v) {
      const int64_t found = k.best(x.data(), n, v.data());
      expect(found >= 0 && x[static_cast<size_t>(found)] == top, "the best of %lld", number(n));
    });
    expect(*std::max_element(tops.begin(), tops.end()) == top, "the best of each part of %lld", number(n));
    std::vector<double> expected;
    for (const float v : x) expected.push_back(std::exp(double{v} - top));
    std::vector<double> sums(blocks), others(blocks);
    std::vector<double>* to = &sums;
    const Floats p = both("weights", x, [&](const Kernels& k, Floats& v) {
      k.weights(x.data(), top, 1.0f, n, v.data(), to->data());
      to = &others;
    });
    against("weights", p, expected);
    expect(sums == others, "sums of %lld weights: other bits than generic", number(n));
    const float bound = p[static_cast<size_t>(integer(0, n - 1))];
    double above = 0;
    for (const float v : p) above += v > bound ? double{v} : 0;
    const double mass = k_->mass_above(p.data(), bound, n);
    expect(std::fabs(mass - above) <= 5e-6 * above, "the mass above one of %lld", number(n));
    expect(mass == generic_.mass_above(p.data(), bound, n), "a mass of %lld: other bits than generic", number(n));
  }

  void vectors() {
    for (const int64_t n : {1, 15, 16, 17, 64, 127, 1000}) {
      const Floats x = normal(n, 3), y = normal(n), w = normal(n);
      double squares = 0, top = -1e30, sum = 0;
      for (const float v : x) {
        squares += double{v} * v;
        top = std::fmax(top, v);
      }
      for (const float v : x) sum += std::exp(v - top);
      std::vector<double> norm, soft, silu;
      for (size_t i = 0; i < x.size(); ++i) {
        norm.push_back(x[i] / std::sqrt(squares / static_cast<double>(n) + 1e-5) * w[i]);
        soft.push_back(std::exp(x[i] - top) / sum);
        silu.push_back(x[i] / (1 + std::exp(-double{x[i]})) * y[i]);
      }
      against("rms_norm", both("rms_norm", x, [&](const Kernels& k, Floats& v) {
                k.rms_norm(v.data(), w.data(), 1e-5f, n, v.data());
              }), norm);
      against("softmax", both("softmax", x, [&](const Kernels& k, Floats& v) { k.softmax(v.data(), n); }),
              soft);
      against("swiglu", both("swiglu", x, [&](const Kernels& k, Floats& v) {
                k.swiglu(v.data(), y.data(), n, v.data());
              }), silu);
      both("geglu", x, [&](const Kernels& k, Floats& v) { k.geglu(v.data(), y.data(), n, v.data()); });
      both("add", x, [&](const Kernels& k, Floats& v) { k.add(v.data(), y.data(), n, v.data()); });
      both("scale", x, [&](const Kernels& k, Floats& v) { k.scale(v.data(), 1.7f, n); });
      both("add_scaled", x, [&](const Kernels& k, Floats& v) { k.add_scaled(y.data(), 1.7f, n, v.data()); });
      both("softcap", x, [&](const Kernels& k, Floats& v) { k.softcap(v.data(), 2.5f, n); });
      draws(x, static_cast<float>(top));
      Floats odd = x;
      odd[static_cast<size_t>(integer(0, n - 1))] = std::nanf("");
      const Floats spoilt = both("swiglu with a NaN", odd, [&](const Kernels& k, Floats& v) {
        k.swiglu(v.data(), y.data(), n, v.data());
        for (float& z : v) z = std::isnan(z) ? 1.0f : z;  // a NaN's own bits are nobody's business
      });
      (void)spoilt;
    }
    const Floats x = normal(4 * 80), angles = normal(32);
    Floats cos, sin;
    for (const float a : angles) {
      cos.push_back(std::cos(a));
      sin.push_back(std::sin(a));
    }
    for (const tl::Rope style : {tl::Rope::pairs, tl::Rope::halves}) {
      both("rope", x, [&](const Kernels& k, Floats& v) {
        k.rope(style, v.data(), 4, 80, 64, cos.data(), sin.data());
      });
    }
  }

  // ---- attention ----

  struct Sequence {
    std::vector<int32_t> table;
    Floats k, v;  // [positions, kv heads, dim]
    int64_t length;
  };

  void attention(tl::KvType type, bool window) {
    const int32_t dim = static_cast<int32_t>(16 * integer(1, 5)), kv_heads = 2, heads = 6;
    const tl::KvLayout layout{type, 32, kv_heads, dim};
    const size_t stride = lib_.kv_block_bytes(&layout);
    Memory ours(stride * 16), theirs(stride * 16);
    std::vector<Sequence> sequences(2);
    int32_t next = 0;
    for (Sequence& s : sequences) {
      s.length = integer(20, 200);
      s.k = normal(s.length * kv_heads * dim);
      s.v = normal(s.length * kv_heads * dim);
      for (int64_t at = 0; at < s.length; at += layout.block) s.table.push_back(next++);
      for (int64_t pos = 0; pos < s.length; ++pos) {
        const size_t to = stride * static_cast<size_t>(s.table[static_cast<size_t>(pos / layout.block)]);
        const int32_t slot = static_cast<int32_t>(pos % layout.block);
        const float *k = s.k.data() + pos * kv_heads * dim, *v = s.v.data() + pos * kv_heads * dim;
        k_->kv_store(layout, ours.p + to, slot, k, v);
        generic_.kv_store(layout, theirs.p + to, slot, k, v);
      }
    }
    expect(!memcmp(ours.p, theirs.p, stride * 16), "kv_store: other bytes than generic");
    // The last rows of the first sequence, as a chunk, and one of the second.
    const int64_t chunk = 11, n = chunk + 1;
    const Floats q = normal(n * heads * dim);
    Floats out(q.size()), other(q.size());
    const tl::Attention a{layout, ours.p, stride, next, heads, 0.2f, 0, window ? 40 : 0};
    Memory scratch(lib_.attend_scratch(&a));
    const auto attend = [&](const Kernels& k, Floats& to) {
      std::vector<tl::AttnRow> rows;
      for (int64_t i = 0; i < n; ++i) {
        const Sequence& s = sequences[i < chunk ? 0 : 1];
        rows.push_back({q.data() + i * heads * dim, to.data() + i * heads * dim, s.table.data(),
                        s.length - (i < chunk ? chunk - i : 1)});
      }
      const int status = k.attend(a, rows.data(), n, 0, kv_heads, scratch.p);
      expect(status == tl::kOk, "attend: status %d", status);
    };
    attend(*k_, out);
    attend(generic_, other);
    expect(same(out, other), "attend, kv type %d: other bits than generic", static_cast<int>(type));
    double worst_error = 0;
    for (int64_t i = 0; i < n; ++i) {
      const Sequence& s = sequences[i < chunk ? 0 : 1];
      const int64_t pos = s.length - (i < chunk ? chunk - i : 1);
      for (int64_t h = 0; h < heads; ++h) {
        const float* query = q.data() + (i * heads + h) * dim;
        const std::vector<double> mixed = reference(a, s, pos, h / (heads / kv_heads), query);
        for (int64_t d = 0; d < dim; ++d) {
          const float got = out[static_cast<size_t>((i * heads + h) * dim + d)];
          worst_error = std::fmax(worst_error, std::fabs(got - mixed[static_cast<size_t>(d)]));
        }
      }
    }
    const double room = type == tl::KvType::f16 ? 0.01 : 0.08;  // values are of size 1
    expect(worst_error < room, "attend, kv type %d: %.3g off", static_cast<int>(type), worst_error);
  }

  static std::vector<double> reference(const tl::Attention& a, const Sequence& s, int64_t pos, int64_t head,
                                       const float* q) {
    const int64_t dim = a.kv.head_dim, step = a.kv.kv_heads * dim;
    const int64_t first = a.window > 0 && pos >= a.window ? pos - a.window + 1 : 0;
    std::vector<double> out(static_cast<size_t>(dim)), weights;
    double sum = 0;
    for (int64_t p = first; p <= pos; ++p) {
      double score = 0;
      for (int64_t d = 0; d < dim; ++d) score += double{q[d]} * s.k[static_cast<size_t>(p * step + head * dim + d)];
      weights.push_back(std::exp(score * a.scale));
      sum += weights.back();
    }
    for (int64_t p = first; p <= pos; ++p) {
      for (int64_t d = 0; d < dim; ++d) {
        out[static_cast<size_t>(d)] += weights[static_cast<size_t>(p - first)] / sum *
                                       s.v[static_cast<size_t>(p * step + head * dim + d)];
      }
    }
    return out;
  }

  const Library& lib_;
  const Kernels& generic_;
  const Kernels* k_ = nullptr;
  std::mt19937 random_;
  int failed_ = 0, done_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "check LIBRARY [SEED]\n");
    return 2;
  }
  const Library library(argv[1]);
  const uint32_t seed = argc > 2 ? static_cast<uint32_t>(strtoul(argv[2], nullptr, 10))
                                 : static_cast<uint32_t>(time(nullptr));
  printf("seed %u\n", seed);
  const Kernels* generic = nullptr;
  for (int i = 0; const Kernels* k = library.compiled(i); ++i) generic = k;  // the last
  Check check(library, *generic, seed);
  int failed = 0;
  for (int i = 0; const Kernels* k = library.compiled(i); ++i) {
    bool runs = false;
    for (int j = 0; const char* name = library.variant(j); ++j) runs = runs || !strcmp(name, k->name);
    if (!runs && !emulate(k->name)) {
      printf("%s: not checked, this CPU lacks it\n", k->name);
      continue;
    }
    const long before = emulated();
    const int here = check.run(*k, !runs);
    printf("%s: %d checks, %d failed, %ld instructions emulated\n", k->name, check.done(), here,
           emulated() - before);
    failed += here;
  }
  return failed ? 1 : 0;
}

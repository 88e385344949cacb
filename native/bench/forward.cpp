// Measures whole steps of a model with random weights, and where their time goes.
//
//   forward [TYPE [CASE...]]     TYPE: q8_0 (default), q4_0, q4_k, q5_k, q6_k, f16, bf16
//                                CASE: 1 4 8 16 32 (decoding rows), p512 p2048 (a prompt), draw
//   THREADS=2 STEPS=20 CONTEXT=128 LAYERS=28 forward q8_0 1 16
//
// The shape is that of Qwen3-0.6B. The kernels are counted by wrapping their table, so the engine is
// exactly the one that is shipped; what is left over is waiting, and everything that is no kernel.
// Build: see benchmarks/native.md (linked with everything but kernels/select.cpp).
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#define select chosen
#include "kernels/select.cpp"
#undef select
#include "trunkline_native.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

int number(const char* name, int otherwise) {
    const char* value = getenv(name);
    return value ? atoi(value) : otherwise;
}

// ---- counting ------------------------------------------------------------------------------------

struct Part {
    double seconds = 0, bytes = 0, operations = 0;
    int64_t calls = 0;

    void operator+=(const Part& other) {
        seconds += other.seconds;
        bytes += other.bytes;
        operations += other.operations;
        calls += other.calls;
    }
};
using Parts = std::map<std::string, Part>;

constexpr int kThreads = 64;
std::atomic<int> threads_seen{0};
Parts parts_of[kThreads];

Parts& mine() {
    thread_local const int id = threads_seen.fetch_add(1) % kThreads;
    return parts_of[id];
}

template <typename Work>
auto timed(const std::string& name, double bytes, double operations, Work&& work) {
    const double begin = seconds();
    const auto note = [&] {
        Part& part = mine()[name];
        part.seconds += seconds() - begin;
        part.bytes += bytes;
        part.operations += operations;
        ++part.calls;
    };
    if constexpr (std::is_void_v<decltype(work())>) {
        work();
        note();
    } else {
        const auto result = work();
        note();
        return result;
    }
}

const tl::Kernels& plain() {
    static const tl::Kernels* const found = tl::chosen(nullptr);
    return *found;
}

// A table like the plain one in which each kernel notes its time.
template <auto Member, typename Signature>
struct Wrapped;
template <auto Member, typename Result, typename... Arguments>
struct Wrapped<Member, Result (*)(Arguments...)> {
    static inline const char* name;
    static Result call(Arguments... arguments) {
        return timed(name, 0, 0, [&] { return (plain().*Member)(arguments...); });
    }
};

template <auto Member>
void wrap(tl::Kernels& table, const char* name) {
    using Pointer = std::remove_cvref_t<decltype(table.*Member)>;
    Wrapped<Member, Pointer>::name = name;
    table.*Member = Wrapped<Member, Pointer>::call;
}

int matmul(const tl::Matmul& m, int64_t begin, int64_t end, void* scratch) {
    const std::string name = "product " + std::to_string(m.w->rows) + " x " + std::to_string(m.w->cols);
    const double share = static_cast<double>(end - begin) / static_cast<double>(m.w->rows);
    const double operations = 2.0 * static_cast<double>(m.n * (end - begin) * m.w->cols);
    return timed(name, share * static_cast<double>(m.w->bytes), operations,
                 [&] { return plain().matmul(m, begin, end, scratch); });
}

int attend(const tl::Attention& a, const tl::AttnRow* rows, int64_t n, int32_t begin, int32_t end, void* scratch) {
    double pairs = 0;
    for (int64_t i = 0; i < n; ++i) pairs += static_cast<double>(rows[i].pos + 1);
    const double heads = static_cast<double>((end - begin) * (a.heads / a.kv.kv_heads));
    return timed("attend", 0, 4 * pairs * heads * a.kv.head_dim,
                 [&] { return plain().attend(a, rows, n, begin, end, scratch); });
}

tl::Kernels counted() {
    tl::Kernels table = plain();
    table.matmul = matmul;
    table.attend = attend;
    wrap<&tl::Kernels::quantize>(table, "quantize");
    wrap<&tl::Kernels::rms_norm>(table, "rms_norm");
    wrap<&tl::Kernels::rope>(table, "rope");
    wrap<&tl::Kernels::swiglu>(table, "swiglu");
    wrap<&tl::Kernels::add>(table, "add");
    wrap<&tl::Kernels::softmax>(table, "softmax");
    wrap<&tl::Kernels::kv_store>(table, "kv_store");
    wrap<&tl::Kernels::best>(table, "best");
    wrap<&tl::Kernels::weights>(table, "weights");
    wrap<&tl::Kernels::mass_above>(table, "mass_above");
    return table;
}

// ---- the model -----------------------------------------------------------------------------------

struct Named {
    const char* name;
    tl::Type type;
};
constexpr Named kTypes[] = {{"q8_0", tl::Type::q8_0}, {"q4_0", tl::Type::q4_0}, {"q4_k", tl::Type::q4_k},
                            {"q5_k", tl::Type::q5_k}, {"q6_k", tl::Type::q6_k}, {"f16", tl::Type::f16},
                            {"bf16", tl::Type::bf16}};

constexpr int32_t kVocab = 151936, kEmbedding = 1024, kWide = 3072, kHeads = 16, kKvHeads = 8, kHead = 128;
constexpr int32_t kMostBlocks = 2048;

[[noreturn]] void fail(const char* what) {
    fprintf(stderr, "%s: %s\n", what, tln_error());
    exit(1);
}

class Bench {
 public:
    explicit Bench(const Named& type) : type_(type), layers_(number("LAYERS", 28)) {
        tln_shape shape{};
        shape.size = sizeof shape;
        shape.layers = layers_;
        shape.vocab = kVocab;
        shape.embedding = kEmbedding;
        shape.feed_forward = kWide;
        shape.heads = kHeads;
        shape.kv_heads = kKvHeads;
        shape.head = shape.rope_size = kHead;
        shape.rope_style = TLN_ROPE_HALVES;
        shape.rope_tables = 1;
        shape.activation = TLN_SILU;
        shape.norm_eps = 1e-6F;
        shape.embedding_scale = shape.residual_scale = shape.logit_scale = shape.rope_scale = 1;
        shape.attention_scale = 0.0884F;
        const std::vector<tln_layer> kinds(static_cast<size_t>(layers_), tln_layer{0, 0});
        std::vector<float> turns(kHead / 2);
        for (size_t i = 0; i < turns.size(); ++i) turns[i] = 1.0F / static_cast<float>(1 + i * i);
        threads_ = number("THREADS", 2);
        std::vector<int32_t> cpus;
        for (int i = 0; i < threads_; ++i) cpus.push_back(i);
        model_ = tln_model_new(&shape, kinds.data(), turns.data(), threads_, cpus.data());
        if (model_ == nullptr) fail("model");
        make_source();
        put(TLN_TOKEN_EMBEDDING, 0, kVocab, kEmbedding);
        vector(TLN_OUTPUT_NORM, 0, kEmbedding);
        for (int i = 0; i < layers_; ++i) {
            for (const tln_kind kind : {TLN_ATTENTION_NORM, TLN_FFN_NORM}) vector(kind, i, kEmbedding);
            for (const tln_kind kind : {TLN_Q_NORM, TLN_K_NORM}) vector(kind, i, kHead);
            put(TLN_Q, i, kHeads * kHead, kEmbedding);
            for (const tln_kind kind : {TLN_K, TLN_V}) put(kind, i, kKvHeads * kHead, kEmbedding);
            put(TLN_O, i, kEmbedding, kHeads * kHead);
            for (const tln_kind kind : {TLN_GATE, TLN_UP}) put(kind, i, kWide, kEmbedding);
            put(TLN_DOWN, i, kEmbedding, kWide);
        }
        const double begin = seconds();
        if (tln_model_pack(model_) != TLN_OK) fail("pack");
        printf("packed %.0f MB in %.2f s\n", static_cast<double>(tln_model_bytes(model_)) / 1e6, seconds() - begin);
        source_.clear();
        source_.shrink_to_fit();
        if (tln_model_reserve(model_, kMostBlocks) != TLN_OK) fail("reserve");
        logits_.resize(size_t{64} * kVocab);
    }
    ~Bench() { tln_model_free(model_); }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    // Rows that decode behind a context, each in blocks of its own.
    void decode(int rows) {
        const int context = number("CONTEXT", 128), block = tln_block();
        const int each = (context + 64 + block - 1) / block;
        Step step;
        for (int row = 0; row < rows; ++row) {
            step.chunk(1, context + row % 7, row * each, each);
            step.outputs.push_back(row);
        }
        run(std::to_string(rows) + " rows", step, number("STEPS", 20), rows);
    }

    void prompt(int tokens) {
        Step step;
        step.chunk(tokens, 0, 0, (tokens + tln_block() - 1) / tln_block());
        step.outputs.push_back(tokens - 1);
        run("prompt of " + std::to_string(tokens), step, std::max(2, number("STEPS", 20) / 5), tokens);
    }

    void draw() {
        for (size_t i = 0; i < logits_.size(); ++i) {
            logits_[i] = static_cast<float>(static_cast<uint32_t>(i * 2654435761u) >> 8) * 0x1p-22F;
        }
        for (const auto [rows, greedy] : {std::pair{1, true}, {16, true}, {1, false}, {4, false}, {16, false}}) {
            std::vector<tln_draw> draws;
            for (int row = 0; row < rows; ++row) {
                draws.push_back({logits_.data() + int64_t{row} * kVocab, greedy ? 0.0F : 1.0F, 0.95F, 0, -1,
                                 0.061 * (row + 1), 0.5, 0, nullptr, -1, 0});
            }
            double least = 1e9;
            for (int i = 0; i < number("STEPS", 20); ++i) {
                const double begin = seconds();
                if (tln_model_draw(model_, draws.data(), rows) != TLN_OK) fail("draw");
                least = std::min(least, seconds() - begin);
            }
            printf("draw %d rows%s %.3f ms\n", rows, greedy ? ", the best" : ", top_p 0.95", least * 1e3);
        }
    }

 private:
    struct Step {
        std::vector<int32_t> ids, tokens, start, table, tables, outputs;
        void chunk(int count, int at, int first_block, int blocks) {
            table.push_back(static_cast<int32_t>(tables.size()));
            tokens.push_back(count);
            start.push_back(at);
            for (int i = 0; i < count; ++i) ids.push_back((i * 7919 + at * 31) % kVocab);
            for (int i = 0; i < blocks; ++i) tables.push_back((first_block + i) % kMostBlocks);
        }
    };

    void make_source() {
        const size_t bytes = tl::source_bytes(type_.type, kVocab, kEmbedding);
        source_.resize(bytes);
        const size_t cells = size_t{kVocab} * kEmbedding;
        if (tl::takes_act_blocks(type_.type)) {
            // Small scales wherever a block has them: halves below 0x20 << 8.
            for (size_t i = 0; i < bytes; ++i) source_[i] = static_cast<uint8_t>(i * 2654435761u >> 24 & 0x1f);
        } else {
            for (size_t i = 0; i < cells; ++i) {
                const uint32_t sign = static_cast<uint32_t>(i * 2654435761u) >> 31 << 15;
                const auto value = static_cast<uint16_t>(sign | (type_.type == tl::Type::bf16 ? 0x3c80 : 0x2400));
                memcpy(source_.data() + 2 * i, &value, 2);
            }
        }
    }

    void put(tln_kind kind, int layer, int64_t rows, int64_t cols) {
        const tln_tensor tensor{static_cast<int32_t>(type_.type), 0, rows, cols, source_.data(),
                                tl::source_bytes(type_.type, rows, cols)};
        if (tln_model_put(model_, kind, layer, 0, &tensor) != TLN_OK) fail("put");
    }

    void vector(tln_kind kind, int layer, int64_t cols) {
        const std::vector<float> ones(static_cast<size_t>(cols), 1.0F);
        const tln_tensor tensor{0, 0, 1, cols, ones.data(), static_cast<uint64_t>(cols) * 4};
        if (tln_model_put(model_, kind, layer, 0, &tensor) != TLN_OK) fail("put");
    }

    void run(const std::string& name, const Step& s, int steps, int tokens) {
        tln_step step{};
        step.size = sizeof step;
        step.chunks = static_cast<int32_t>(s.tokens.size());
        step.tokens = static_cast<int32_t>(s.ids.size());
        step.outputs = static_cast<int32_t>(s.outputs.size());
        step.table_size = static_cast<int32_t>(s.tables.size());
        step.ids = s.ids.data();
        step.chunk_tokens = s.tokens.data();
        step.chunk_start = s.start.data();
        step.chunk_table = s.table.data();
        step.tables = s.tables.data();
        step.output_tokens = s.outputs.data();
        step.logits = logits_.data();
        double least = 1e9;
        Parts best;
        std::vector<double> all;
        for (int i = 0; i < steps; ++i) {
            for (Parts& parts : parts_of) parts.clear();
            const double begin = seconds();
            if (tln_model_step(model_, &step) != TLN_OK) fail("step");
            const double took = seconds() - begin;
            all.push_back(took);
            least = std::min(least, took);
            Parts sums;
            for (const Parts& parts : parts_of) {
                for (const auto& [key, part] : parts) sums[key] += part;
            }
            for (const auto& [key, part] : sums) {
                const auto [found, first] = best.try_emplace(key, part);
                if (!first && part.seconds < found->second.seconds) found->second = part;
            }
        }
        report(name, least, all, best, tokens);
    }

    void report(const std::string& name, double least, std::vector<double> all, const Parts& best, int tokens) {
        std::sort(all.begin(), all.end());
        // Each part is the best of all steps, so that other work on the machine shows in what is left.
        printf("%s: best %.2f ms, median %.2f ms, %.1f tokens/s\n", name.c_str(), least * 1e3,
               all[all.size() / 2] * 1e3, tokens / least);
        double rest = least;
        for (const auto& [key, part] : best) {
            const double share = part.seconds / threads_;
            rest -= share;
            printf("  %-24s %8.3f ms %5.1f %%  %6ld calls", key.c_str(), share * 1e3, 100 * share / least, part.calls);
            if (part.bytes > 0) printf("  %6.1f GB/s", part.bytes / share / 1e9);
            if (part.operations > 0) printf("  %6.1f GOP/s", part.operations / share / 1e9);
            printf("\n");
        }
        printf("  %-24s %8.3f ms %5.1f %%\n", "waiting, other", rest * 1e3, 100 * rest / least);
    }

    const Named type_;
    const int32_t layers_;
    int threads_ = 1;
    tln_model* model_ = nullptr;
    std::vector<uint8_t> source_;
    std::vector<float> logits_;
};

}  // namespace

namespace tl {

const Kernels* select(const char*) {
    static const Kernels table = counted();
    return &table;
}

}  // namespace tl

int main(int argc, char** argv) {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    const std::string wanted = argc > 1 ? argv[1] : "q8_0";
    const auto* const type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                          [&](const Named& one) { return wanted == one.name; });
    if (type == std::end(kTypes)) {
        fprintf(stderr, "no such type: %s\n", wanted.c_str());
        return 1;
    }
    printf("%s, %s\n", plain().name, type->name);
    Bench bench(*type);
    std::vector<std::string> cases(argv + std::min(argc, 2), argv + argc);
    if (cases.empty()) cases = {"1", "4", "8", "16", "32", "p512", "draw"};
    for (const std::string& one : cases) {
        if (one == "draw") bench.draw();
        else if (one[0] == 'p') bench.prompt(atoi(one.c_str() + 1));
        else bench.decode(atoi(one.c_str()));
    }
}

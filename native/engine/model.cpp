#include "model.h"

#include <cstring>
#include <string>

namespace tl {

namespace {

const Kernels& chosen() {
    const Kernels* kernels = select(nullptr);
    if (kernels == nullptr) throw Invalid("no variant of the kernels runs on this CPU");
    return *kernels;
}

const char* const kNames[TLN_KINDS] = {
    "token embedding", "output", "output norm", "attention norm", "q", "k", "v", "o", "q bias",
    "k bias", "v bias", "o bias", "q norm", "k norm", "post-attention norm", "ffn norm", "gate",
    "up", "down", "post-ffn norm", "router",
};

[[noreturn]] void refuse(tln_kind kind, int layer, const std::string& what) {
    throw Invalid(std::string(kNames[kind]) + " of layer " + std::to_string(layer) + ": " + what);
}

struct Size {
    int64_t rows, cols;
};

Size size_of(tln_kind kind, const tln_shape& s) {
    const int64_t q = int64_t{s.heads} * s.head, kv = int64_t{s.kv_heads} * s.head;
    switch (kind) {
        case TLN_TOKEN_EMBEDDING:
        case TLN_OUTPUT: return {s.vocab, s.embedding};
        case TLN_Q: return {q, s.embedding};
        case TLN_K:
        case TLN_V: return {kv, s.embedding};
        case TLN_O: return {s.embedding, q};
        case TLN_Q_BIAS: return {1, q};
        case TLN_K_BIAS:
        case TLN_V_BIAS: return {1, kv};
        case TLN_Q_NORM:
        case TLN_K_NORM: return {1, s.head};
        case TLN_GATE:
        case TLN_UP: return {s.feed_forward, s.embedding};
        case TLN_DOWN: return {s.embedding, s.feed_forward};
        case TLN_ROUTER: return {s.experts, s.embedding};
        default: return {1, s.embedding};
    }
}

void check(bool right, const char* what) {
    if (!right) throw Invalid(what);
}

void check_shape(const tln_shape& s) {
    // Bounds that real models stay far below: no product of two of them overflows.
    constexpr int32_t wide = 1 << 20;
    check(s.size == sizeof(tln_shape), "the shape has another size");
    check(s.layers > 0 && s.layers <= 4096, "layers");
    check(s.vocab > 0 && s.vocab <= 1 << 24, "vocab");
    check(s.embedding > 0 && s.embedding <= wide, "embedding");
    check(s.feed_forward > 0 && s.feed_forward <= wide, "feed_forward");
    check(s.heads > 0 && s.heads <= 4096, "heads");
    check(s.kv_heads > 0 && s.heads % s.kv_heads == 0, "kv_heads");
    check(s.head > 0 && s.head <= 512, "head");
    check(s.rope_size > 0 && s.rope_size % 2 == 0 && s.rope_size <= s.head, "rope_size");
    check(s.rope_style == TLN_ROPE_PAIRS || s.rope_style == TLN_ROPE_HALVES, "rope_style");
    check(s.rope_tables > 0 && s.rope_tables <= 16, "rope_tables");
    check(s.activation == TLN_SILU || s.activation == TLN_GELU_TANH, "activation");
    check(s.kv_type >= TLN_KV_F16 && s.kv_type <= TLN_KV_INT8, "kv_type");
    check(s.experts >= 0 && s.experts <= 1024, "experts");
    check(s.experts == 0 || (s.experts_used > 0 && s.experts_used <= s.experts), "experts_used");
}

}  // namespace

Model::Model(const tln_shape& given, const tln_layer* kinds, const float* radians, int threads,
             const int32_t* cpus)
    : kernels(chosen()), shape((check_shape(given), given)), pool(threads, cpus) {
    layers.resize(static_cast<size_t>(shape.layers));
    for (int i = 0; i < shape.layers; ++i) {
        Layer& layer = layers[static_cast<size_t>(i)];
        check(kinds[i].window >= 0, "window");
        check(kinds[i].rope >= 0 && kinds[i].rope < shape.rope_tables, "rope");
        layer.window = kinds[i].window;
        layer.rope = kinds[i].rope;
        layer.experts.resize(static_cast<size_t>(shape.experts > 0 ? shape.experts : 1));
    }
    frequencies.assign(radians, radians + shape.rope_tables * (shape.rope_size / 2));
    kv_layout = {static_cast<KvType>(shape.kv_type), kBlock, shape.kv_heads, shape.head};
    kv_stride = kv_block_bytes(kv_layout);
    check(kv_stride != 0, "heads of this size have no kernel");
}

Matrix* Model::matrix(tln_kind kind, int index, int expert) {
    Layer& layer = layers[static_cast<size_t>(index)];
    Expert& one = layer.experts[static_cast<size_t>(expert)];
    switch (kind) {
        case TLN_TOKEN_EMBEDDING: return &embedding_;
        case TLN_OUTPUT: return &output_;
        case TLN_Q: return &layer.q;
        case TLN_K: return &layer.k;
        case TLN_V: return &layer.v;
        case TLN_O: return &layer.o;
        case TLN_GATE: return &one.gate;
        case TLN_UP: return &one.up;
        case TLN_DOWN: return &one.down;
        case TLN_ROUTER: return &layer.router;
        default: return nullptr;
    }
}

Vector* Model::vector(tln_kind kind, int index) {
    Layer& layer = layers[static_cast<size_t>(index)];
    switch (kind) {
        case TLN_OUTPUT_NORM: return &output_norm;
        case TLN_ATTENTION_NORM: return &layer.attention_norm;
        case TLN_Q_BIAS: return &layer.q_bias;
        case TLN_K_BIAS: return &layer.k_bias;
        case TLN_V_BIAS: return &layer.v_bias;
        case TLN_O_BIAS: return &layer.o_bias;
        case TLN_Q_NORM: return &layer.q_norm;
        case TLN_K_NORM: return &layer.k_norm;
        case TLN_POST_ATTENTION_NORM: return &layer.post_attention_norm;
        case TLN_FFN_NORM: return &layer.ffn_norm;
        case TLN_POST_FFN_NORM: return &layer.post_ffn_norm;
        default: return nullptr;
    }
}

void Model::put(tln_kind kind, int layer, int expert, const tln_tensor& tensor) {
    check(!ready_, "the weights are packed already");
    check(kind >= 0 && kind < TLN_KINDS, "there is no such weight");
    check(layer >= 0 && layer < shape.layers, "there is no such layer");
    check(expert >= 0 && expert < (shape.experts > 0 ? shape.experts : 1), "there is no such expert");
    check(kind != TLN_ROUTER || shape.experts > 0, "a router without experts");
    check(tensor.data != nullptr, "a weight without data");
    const Size size = size_of(kind, shape);
    if (tensor.rows != size.rows || tensor.cols != size.cols) {
        refuse(kind, layer, std::to_string(tensor.rows) + " x " + std::to_string(tensor.cols) +
                                ", expected " + std::to_string(size.rows) + " x " +
                                std::to_string(size.cols));
    }
    const Type type = static_cast<Type>(tensor.type);
    if (Vector* vector = this->vector(kind, layer)) {
        if (type != Type::f32 || tensor.bytes != static_cast<uint64_t>(size.cols) * 4) {
            refuse(kind, layer, "no vector of floats");
        }
        vector->resize(static_cast<size_t>(size.cols));
        std::memcpy(vector->data(), tensor.data, tensor.bytes);
        return;
    }
    const size_t packed = packed_bytes(type, size.rows, size.cols);
    const size_t source = source_bytes(type, size.rows, size.cols);
    if (packed == 0 || source == 0) refuse(kind, layer, "no kernel for its type and size");
    if (tensor.bytes != source) refuse(kind, layer, "another number of bytes than its size says");
    Matrix* matrix = this->matrix(kind, layer, expert);
    *matrix = {{type, size.rows, size.cols, nullptr, packed}, tensor.data, source};
}

void Model::require() const {
    check(embedding_.present(), "the token embedding is missing");
    check(!output_norm.empty(), "the output norm is missing");
    for (const Layer& layer : layers) {
        check(!layer.attention_norm.empty() && !layer.ffn_norm.empty(), "a norm is missing");
        check(layer.q.present() && layer.k.present() && layer.v.present() && layer.o.present(),
              "an attention matrix is missing");
        check(layer.q_norm.empty() == layer.k_norm.empty(), "one of the q and k norms is missing");
        check(shape.experts == 0 || layer.router.present(), "a router is missing");
        for (const Expert& expert : layer.experts) {
            check(expert.gate.present() && expert.up.present() && expert.down.present(),
                  "a feed-forward matrix is missing");
        }
    }
}

std::vector<Matrix*> Model::packable() {
    // The embedding is read by rows from where it lies, unless it is the output matrix too.
    std::vector<Matrix*> found{output_.present() ? &output_ : &embedding_};
    for (Layer& layer : layers) {
        for (Matrix* one : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.router}) {
            if (one->present()) found.push_back(one);
        }
        for (Expert& expert : layer.experts) {
            for (Matrix* one : {&expert.gate, &expert.up, &expert.down}) found.push_back(one);
        }
    }
    return found;
}

void Model::pack() {
    check(!ready_, "the weights are packed already");
    require();
    const std::vector<Matrix*> all = packable();
    packed_size = 0;
    for (const Matrix* one : all) packed_size += aligned(one->packed.bytes);
    weights_ = Mapping(packed_size);
    struct Unit {
        Matrix* matrix;
        std::byte* to;
        int64_t begin, end;
    };
    std::vector<Unit> units;
    std::byte* to = weights_.data();
    for (Matrix* one : all) {
        // About a megabyte each.
        const int64_t rows = one->packed.rows;
        const int64_t row_bytes = static_cast<int64_t>(one->source_bytes) / rows + 1;
        const int64_t step = ((1 << 20) / row_bytes / kPanel + 1) * kPanel;
        for (int64_t begin = 0; begin < rows; begin += step) {
            units.push_back({one, to, begin, begin + step < rows ? begin + step : rows});
        }
        to += aligned(one->packed.bytes);
    }
    all_units_ = static_cast<int64_t>(units.size());
    std::atomic<int> status{kOk};
    pool.run([&](Crew& crew) {
        crew.share(static_cast<int64_t>(units.size()), [&](int64_t index) {
            const Unit& unit = units[static_cast<size_t>(index)];
            const Matrix& one = *unit.matrix;
            const int found = tl::pack(one.packed.type, one.source, one.source_bytes, one.packed.rows,
                                       one.packed.cols, unit.to, one.packed.bytes, unit.begin, unit.end);
            if (found != kOk) status = found;
            packed_units_.fetch_add(1, std::memory_order_relaxed);
        });
    });
    if (status != kOk) throw std::runtime_error("packing failed with status " + std::to_string(status));
    to = weights_.data();
    for (Matrix* one : all) {
        one->packed.data = to;
        to += aligned(one->packed.bytes);
    }
    ready_ = true;
}

float Model::progress() const {
    return static_cast<float>(packed_units_) / static_cast<float>(all_units_);
}

void Model::reserve(int32_t count) {
    check(ready_, "the weights are not packed yet");
    check(blocks == 0 && count > 0, "blocks");
    const uint64_t bytes = uint64_t{kv_stride} * static_cast<uint64_t>(count) * static_cast<uint64_t>(shape.layers);
    check(bytes < uint64_t{1} << 46, "blocks");
    kv_ = Mapping(bytes);
    blocks = count;
}

size_t Model::embedding_scratch() const {
    return aligned(packed_bytes(embedding_.packed.type, 1, embedding_.packed.cols));
}

void Model::embed(int32_t token, float* out, void* scratch) const {
    const Packed& w = embedding_.packed;
    if (w.data != nullptr) {
        unpack_row(w, token, out);
        return;
    }
    // A matrix of one row, packed on the spot: a few microseconds, and no second copy of a large
    // table in memory.
    const size_t bytes = embedding_.source_bytes / static_cast<size_t>(w.rows);
    const auto* source = static_cast<const std::byte*>(embedding_.source) + bytes * static_cast<size_t>(token);
    const Packed row{w.type, 1, w.cols, scratch, packed_bytes(w.type, 1, w.cols)};
    tl::pack(w.type, source, bytes, 1, w.cols, scratch, row.bytes, 0, 1);
    unpack_row(row, 0, out);
}

}  // namespace tl

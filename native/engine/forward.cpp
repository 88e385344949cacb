#include "forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tl {

namespace {

void check(bool right, const char* what) {
    if (!right) throw Invalid(what);
}

bool quantized(const Matrix& matrix) { return takes_act_blocks(matrix.packed.type); }


// Hands out parts of one mapping: first counted, then taken.
class Parts {
 public:
    template <typename T>
    void want(T** where, int64_t count) {
        const size_t bytes = aligned(static_cast<size_t>(count) * sizeof(T));
        wishes_.push_back({reinterpret_cast<void**>(where), total_});
        total_ += bytes;
    }

    Mapping take() {
        Mapping memory(total_);
        for (const auto& [where, at] : wishes_) *where = memory.data() + at;
        return memory;
    }

 private:
    std::vector<std::pair<void**, size_t>> wishes_;
    size_t total_ = 0;
};

}  // namespace

Forward::Forward(Model& model)
    : model_(model),
      kernels_(model.kernels),
      shape_(model.shape),
      q_size_(int64_t{shape_.heads} * shape_.head),
      kv_size_(int64_t{shape_.kv_heads} * shape_.head),
      qkv_size_(q_size_ + 2 * kv_size_) {
    // A row of a mixture goes to several experts.
    const int64_t rows = kMicroBatch, slots = rows * std::max(1, shape_.experts_used);
    const int64_t embedding = shape_.embedding, wide = shape_.feed_forward;
    const int64_t angles = rows * shape_.rope_tables * (shape_.rope_size / 2);
    Parts parts;
    parts.want(&x_, rows * embedding);
    parts.want(&normed_, rows * embedding);
    parts.want(&qkv_, rows * qkv_size_);
    parts.want(&attended_, rows * q_size_);
    parts.want(&delta_, rows * embedding);
    parts.want(&gate_, slots * wide);
    parts.want(&up_, slots * wide);
    parts.want(&cos_, angles);
    parts.want(&sin_, angles);
    parts.want(&normed_q_, rows * act_blocks(embedding));
    parts.want(&wide_q_, std::max(slots * act_blocks(wide), rows * act_blocks(q_size_)));
    if (shape_.experts > 0) {
        parts.want(&router_, rows * shape_.experts);
        parts.want(&gathered_, slots * embedding);
        parts.want(&expert_out_, slots * embedding);
        parts.want(&gathered_q_, slots * act_blocks(embedding));
    }
    memory_ = parts.take();
    Attention attention{};
    attention.kv = model.kv_layout;
    attention.heads = shape_.heads;
    scratch_each_ = aligned(std::max({kMatmulScratch, attend_scratch(attention), model.embedding_scratch()}));
    scratch_ = Mapping(scratch_each_ * static_cast<size_t>(model.pool.size()));
}

bool Forward::run(const tln_step& step) {
    check(step);
    copy_blocks(step);
    place(step);
    // Even parts: a small rest would stream all weights for a few tokens.
    const int64_t parts = (step.tokens + kMicroBatch - 1) / kMicroBatch;
    for (int64_t part = 0; part < parts; ++part) {
        if (!micro_batch(step, step.tokens * part / parts, step.tokens * (part + 1) / parts)) return false;
    }
    return true;
}

// ---- the plan ------------------------------------------------------------------------------------

void Forward::check(const tln_step& step) const {
    using tl::check;
    check(step.size == sizeof(tln_step), "the step has another size");
    check(model_.blocks > 0, "no KV blocks are reserved");
    check(step.chunks >= 0 && step.tokens >= 0 && step.outputs >= 0 && step.copies >= 0, "a count");
    check(step.table_size >= 0, "table_size");
    for (int i = 0; i < step.copies; ++i) {
        for (const int32_t block : {step.copy_from[i], step.copy_to[i]}) {
            check(block >= 0 && block < model_.blocks, "a copied block");
        }
    }
    for (int i = 0; i < step.table_size; ++i) {
        check(step.tables[i] >= 0 && step.tables[i] < model_.blocks, "a block of a table");
    }
    for (int i = 0; i < step.tokens; ++i) {
        check(step.ids[i] >= 0 && step.ids[i] < shape_.vocab, "a token outside the vocabulary");
    }
    int64_t tokens = 0;
    for (int i = 0; i < step.chunks; ++i) {
        const int64_t count = step.chunk_tokens[i], start = step.chunk_start[i];
        check(count > 0 && start >= 0 && start < 1 << 30, "a chunk");
        const int64_t table = step.chunk_table[i], blocks = (start + count + kBlock - 1) / kBlock;
        check(table >= 0 && table + blocks <= step.table_size, "a table that is too short");
        tokens += count;
    }
    check(tokens == step.tokens, "chunks and tokens do not add up");
    for (int i = 0; i < step.outputs; ++i) {
        check(step.output_tokens[i] >= (i ? step.output_tokens[i - 1] + 1 : 0), "outputs do not rise");
        check(step.output_tokens[i] < step.tokens, "an output that is no token");
    }
    check(step.outputs == 0 || step.logits != nullptr, "no room for logits");
}

void Forward::copy_blocks(const tln_step& step) {
    const size_t size = model_.kv_stride;
    for (int i = 0; i < step.copies; ++i) {
        for (int layer = 0; layer < shape_.layers; ++layer) {
            std::byte* cache = model_.kv(layer);
            std::memmove(cache + size * static_cast<size_t>(step.copy_to[i]),
                         cache + size * static_cast<size_t>(step.copy_from[i]), size);
        }
    }
}

void Forward::place(const tln_step& step) {
    tokens_.clear();
    for (int i = 0; i < step.chunks; ++i) {
        const int32_t* table = step.tables + step.chunk_table[i];
        for (int32_t t = 0; t < step.chunk_tokens[i]; ++t) {
            const auto at = static_cast<int32_t>(tokens_.size());
            tokens_.push_back({step.ids[at], table, int64_t{step.chunk_start[i]} + t});
        }
    }
    order_rows(step);
}

void Forward::order_rows(const tln_step& step) {
    std::vector<int32_t> singles, others;
    int32_t at = 0;
    for (int i = 0; i < step.chunks; ++i) {
        for (int32_t t = 0; t < step.chunk_tokens[i]; ++t) {
            (step.chunk_tokens[i] == 1 ? singles : others).push_back(at++);
        }
    }
    std::sort(singles.begin(), singles.end(), [&](int32_t a, int32_t b) {
        const Token &one = tokens_[static_cast<size_t>(a)], &other = tokens_[static_cast<size_t>(b)];
        const int64_t m = one.position / kBlock + 1, n = other.position / kBlock + 1;
        return std::lexicographical_compare(one.table, one.table + m, other.table, other.table + n);
    });
    order_ = std::move(singles);
    order_.insert(order_.end(), others.begin(), others.end());
}

void Forward::order_attention() {
    attn_rows_.clear();
    for (const int32_t at : order_) {
        const int64_t row = at - begin_;
        if (row < 0 || row >= rows_) continue;
        const Token& token = tokens_[static_cast<size_t>(at)];
        attn_rows_.push_back({qkv_ + row * qkv_size_, attended_ + row * q_size_, token.table, token.position});
    }
}

bool Forward::micro_batch(const tln_step& step, int64_t first, int64_t last) {
    begin_ = first;
    rows_ = last - first;
    order_attention();
    const int32_t* outputs = step.output_tokens;
    first_output_ = std::lower_bound(outputs, outputs + step.outputs, first) - outputs;
    outputs_ = std::lower_bound(outputs, outputs + step.outputs, last) - outputs - first_output_;
    stop_ = false;
    status_ = kOk;
    model_.pool.run([&](Crew& crew) {
        begin(crew);
        for (int i = 0; i < shape_.layers; ++i) {
            if (!layer(crew, i)) return;
        }
        if (outputs_ > 0) logits(crew, step);
    });
    if (status_ != kOk) throw std::runtime_error("a kernel refused its work: " + std::to_string(status_));
    if (stop_) model_.aborting = false;
    return !stop_;
}

// ---- the pass ------------------------------------------------------------------------------------

void Forward::begin(Crew& crew) {
    const int64_t embedding = shape_.embedding, half = shape_.rope_size / 2;
    crew.share(rows_, [&](int64_t row) {
        const Token& token = tokens_[static_cast<size_t>(begin_ + row)];
        float* x = x_ + row * embedding;
        model_.embed(token.id, x, scratch(crew));
        if (shape_.embedding_scale != 1.0F) kernels_.scale(x, shape_.embedding_scale, embedding);
        for (int table = 0; table < shape_.rope_tables; ++table) {
            const float* radians = model_.frequencies.data() + table * half;
            const int64_t to = (table * rows_ + row) * half;
            for (int64_t i = 0; i < half; ++i) {
                const double angle = static_cast<double>(token.position) * static_cast<double>(radians[i]);
                cos_[to + i] = static_cast<float>(std::cos(angle)) * shape_.rope_scale;
                sin_[to + i] = static_cast<float>(std::sin(angle)) * shape_.rope_scale;
            }
        }
    });
}

bool Forward::layer(Crew& crew, int index) {
    // All threads read it behind the meeting in `norm`, and meet again before it is written again.
    if (crew.id() == 0) stop_ = model_.aborting.load(std::memory_order_relaxed);
    const Layer& layer = model_.layers[static_cast<size_t>(index)];
    const Layer* before = index > 0 ? &model_.layers[static_cast<size_t>(index - 1)] : nullptr;
    const Vector none;
    const Vector& post = before != nullptr ? before->post_ffn_norm : none;
    norm(crew, before != nullptr && !(direct(post) && shape_.experts == 0), post, layer.attention_norm);
    if (stop_) return false;
    attention(crew, index);
    norm(crew, !direct(layer.post_attention_norm), layer.post_attention_norm, layer.ffn_norm);
    if (shape_.experts > 0) {
        mixture(crew, layer);
    } else {
        feed_forward(crew, layer);
    }
    return true;
}

void Forward::attention(Crew& crew, int index) {
    const Layer& layer = model_.layers[static_cast<size_t>(index)];
    const Product inputs[] = {
        {&layer.q, qkv_, qkv_size_, &layer.q_bias},
        {&layer.k, qkv_ + q_size_, qkv_size_, &layer.k_bias},
        {&layer.v, qkv_ + q_size_ + kv_size_, qkv_size_, &layer.v_bias},
    };
    multiply(crew, inputs, 3, normed_, shape_.embedding, normed_q_, rows_);

    // Few rows are shared out by heads.
    const int64_t parts = rows_ < 2 * crew.size() ? shape_.kv_heads : 1, heads = shape_.kv_heads / parts;
    crew.share(rows_ * parts, [&](int64_t unit) {
        turn(layer, index, unit / parts, unit % parts * heads, (unit % parts + 1) * heads);
    });

    const Attention attention{model_.kv_layout, model_.kv(index), model_.kv_stride, model_.blocks, shape_.heads,
                              shape_.attention_scale, shape_.attention_softcap, layer.window};
    // Many rows together read keys and values once; enough units keep all threads busy.
    const int64_t groups = (int64_t{crew.size()} * 6 + shape_.kv_heads - 1) / shape_.kv_heads;
    const int64_t group = std::clamp<int64_t>((rows_ + groups - 1) / groups, 8, 64);
    const int64_t count = (rows_ + group - 1) / group;
    // What one unit computes is whole blocks of the activations, which it quantizes at once.
    const int64_t own = int64_t{shape_.heads} / shape_.kv_heads * shape_.head;
    const bool at_once = quantized(layer.o) && own % kWhole == 0;
    crew.share(count * shape_.kv_heads, [&](int64_t unit) {
        // From the end of a prompt on: the units that take longest come first.
        const int64_t first = (count - 1 - unit / shape_.kv_heads) * group, last = std::min(rows_, first + group);
        const auto kv_head = static_cast<int32_t>(unit % shape_.kv_heads);
        note(kernels_.attend(attention, attn_rows_.data() + first, last - first, kv_head, kv_head + 1, scratch(crew)));
        for (int64_t i = first; at_once && i < last; ++i) {
            const int64_t at = attn_rows_[static_cast<size_t>(i)].out - attended_ + kv_head * own;
            const int64_t row = at / q_size_, column = at % q_size_;
            kernels_.quantize(attended_ + at, own, 1, own, wide_q_ + row * act_blocks(q_size_) + column / 32);
        }
    });

    if (quantized(layer.o) && !at_once) quantize(crew, attended_, q_size_, wide_q_, rows_);
    const bool add = direct(layer.post_attention_norm);
    const Product output{&layer.o, add ? x_ : delta_, shape_.embedding, &layer.o_bias, add};
    multiply(crew, &output, 1, attended_, q_size_, wide_q_, rows_);
}

void Forward::turn(const Layer& layer, int index, int64_t row, int64_t begin, int64_t end) {
    const int64_t head = shape_.head, half = shape_.rope_size / 2, sharers = shape_.heads / shape_.kv_heads;
    float* q = qkv_ + row * qkv_size_ + begin * sharers * head;
    float* k = qkv_ + row * qkv_size_ + q_size_ + begin * head;
    const float* v = k + kv_size_;
    const int64_t count = end - begin;
    if (!layer.q_norm.empty()) {
        for (int64_t h = 0; h < count * sharers; ++h) {
            kernels_.rms_norm(q + h * head, layer.q_norm.data(), shape_.norm_eps, head, q + h * head);
        }
        for (int64_t h = 0; h < count; ++h) {
            kernels_.rms_norm(k + h * head, layer.k_norm.data(), shape_.norm_eps, head, k + h * head);
        }
    }
    const float* cos = cos_ + (layer.rope * rows_ + row) * half;
    const float* sin = sin_ + (layer.rope * rows_ + row) * half;
    const Rope style = shape_.rope_style == TLN_ROPE_HALVES ? Rope::halves : Rope::pairs;
    kernels_.rope(style, q, count * sharers, head, shape_.rope_size, cos, sin);
    kernels_.rope(style, k, count, head, shape_.rope_size, cos, sin);
    const Token& token = tokens_[static_cast<size_t>(begin_ + row)];
    const size_t block = static_cast<size_t>(token.table[token.position / kBlock]);
    // Heads lie one behind the other in a block: those here are a block of fewer heads.
    KvLayout own = model_.kv_layout;
    own.kv_heads = static_cast<int32_t>(count);
    const size_t head_bytes = model_.kv_stride / static_cast<size_t>(shape_.kv_heads);
    kernels_.kv_store(own, model_.kv(index) + block * model_.kv_stride + head_bytes * static_cast<size_t>(begin),
                      static_cast<int32_t>(token.position % kBlock), k, v);
}

void Forward::feed_forward(Crew& crew, const Layer& layer) {
    const Expert& expert = layer.experts.front();
    const int64_t wide = shape_.feed_forward, step = whole_units(unit_rows(wide, rows_));
    ActBlock* to = quantized(expert.down) ? wide_q_ : nullptr;
    crew.share((wide + step - 1) / step, [&](int64_t unit) {
        gate_unit(expert, gate_, up_, to, normed_, normed_q_, rows_, unit * step, std::min(wide, (unit + 1) * step),
                  scratch(crew));
    });
    const bool add = direct(layer.post_ffn_norm);
    const Product output{&expert.down, add ? x_ : delta_, shape_.embedding, nullptr, add};
    multiply(crew, &output, 1, gate_, wide, wide_q_, rows_);
}

void Forward::logits(Crew& crew, const tln_step& step) {
    const Layer& last = model_.layers.back();
    const Matrix& output = model_.output();
    const int64_t embedding = shape_.embedding, vocab = shape_.vocab;
    const bool joining = !(direct(last.post_ffn_norm) && shape_.experts == 0);
    crew.share(outputs_, [&](int64_t i) {
        const int64_t row = step.output_tokens[first_output_ + i] - begin_;
        if (joining) join(row, last.post_ffn_norm);
        kernels_.rms_norm(x_ + row * embedding, model_.output_norm.data(), shape_.norm_eps, embedding,
                          normed_ + i * embedding);
        if (quantized(output)) {
            kernels_.quantize(normed_ + i * embedding, embedding, 1, embedding,
                              normed_q_ + i * act_blocks(embedding));
        }
    });
    float* logits = step.logits + first_output_ * vocab;
    const Product product{&output, logits, vocab};
    multiply(crew, &product, 1, normed_, embedding, normed_q_, outputs_);
    if (shape_.logit_scale == 1.0F && shape_.logit_softcap == 0.0F) return;
    crew.share(outputs_, [&](int64_t i) {
        float* row = logits + i * vocab;
        if (shape_.logit_scale != 1.0F) kernels_.scale(row, shape_.logit_scale, vocab);
        if (shape_.logit_softcap != 0.0F) kernels_.softcap(row, shape_.logit_softcap, vocab);
    });
}

// ---- pieces --------------------------------------------------------------------------------------

bool Forward::direct(const Vector& post) const { return post.empty() && shape_.residual_scale == 1.0F; }

void Forward::join(int64_t row, const Vector& post) {
    const int64_t embedding = shape_.embedding;
    float* delta = delta_ + row * embedding;
    if (!post.empty()) kernels_.rms_norm(delta, post.data(), shape_.norm_eps, embedding, delta);
    if (shape_.residual_scale != 1.0F) kernels_.scale(delta, shape_.residual_scale, embedding);
    kernels_.add(x_ + row * embedding, delta, embedding, x_ + row * embedding);
}

void Forward::norm(Crew& crew, bool joining, const Vector& post, const Vector& weight) {
    const int64_t embedding = shape_.embedding, blocks = act_blocks(embedding);
    crew.share(rows_, [&](int64_t row) {
        if (joining) join(row, post);
        float* to = normed_ + row * embedding;
        kernels_.rms_norm(x_ + row * embedding, weight.data(), shape_.norm_eps, embedding, to);
        kernels_.quantize(to, embedding, 1, embedding, normed_q_ + row * blocks);
    });
}

void Forward::quantize(Crew& crew, const float* x, int64_t cols, ActBlock* to, int64_t rows) {
    const int64_t blocks = act_blocks(cols);
    crew.share(rows, [&](int64_t row) { kernels_.quantize(x + row * cols, cols, 1, cols, to + row * blocks); });
}

int64_t Forward::unit_rows(int64_t outputs, int64_t rows) const {
    const int64_t units = int64_t{model_.pool.size()} * (rows > 32 ? 6 : 8);
    const int64_t each = (outputs + units - 1) / units;
    return std::max<int64_t>((each + kPanel - 1) / kPanel * kPanel, 2 * kPanel);
}

void Forward::multiply(Crew& crew, const Product* products, int count, const float* x, int64_t ld,
                       const ActBlock* xq, int64_t rows) {
    int64_t outputs = 0;
    for (int i = 0; i < count; ++i) outputs += products[i].matrix->packed.rows;
    const int64_t step = unit_rows(outputs, rows);
    int64_t units = 0;
    for (int i = 0; i < count; ++i) units += (products[i].matrix->packed.rows + step - 1) / step;
    crew.share(units, [&](int64_t unit) {
        const Product* product = products;
        for (;; ++product) {
            const int64_t own = (product->matrix->packed.rows + step - 1) / step;
            if (unit < own) break;
            unit -= own;
        }
        multiply_unit(*product, x, ld, xq, rows, unit * step,
                      std::min(product->matrix->packed.rows, (unit + 1) * step), scratch(crew));
    });
}

void Forward::multiply_unit(const Product& product, const float* x, int64_t ld, const ActBlock* xq, int64_t rows,
                            int64_t first, int64_t last, void* scratch) {
    const bool bias = product.bias != nullptr && !product.bias->empty();
    const Matmul work{&product.matrix->packed, rows, xq, x, ld, product.out, product.ld_out,
                      bias ? product.bias->data() : nullptr, product.add};
    note(kernels_.matmul(work, first, last, scratch));
}

void Forward::gate_unit(const Expert& expert, float* gate, float* up, ActBlock* gate_q, const float* x,
                        const ActBlock* xq, int64_t rows, int64_t first, int64_t last, void* scratch) {
    const int64_t wide = shape_.feed_forward;
    multiply_unit({&expert.gate, gate, wide}, x, shape_.embedding, xq, rows, first, last, scratch);
    multiply_unit({&expert.up, up, wide}, x, shape_.embedding, xq, rows, first, last, scratch);
    const auto activate = shape_.activation == TLN_SILU ? kernels_.swiglu : kernels_.geglu;
    for (int64_t row = 0; row < rows; ++row) {
        float* to = gate + row * wide + first;
        activate(to, up + row * wide + first, last - first, to);
        if (gate_q == nullptr) continue;
        kernels_.quantize(to, last - first, 1, last - first, gate_q + row * act_blocks(wide) + first / 32);
    }
}

}  // namespace tl

// The forward pass: one step of a ragged batch, computed by all threads of the pool together.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "model.h"

namespace tl {

// Columns of a row of activations that can be quantized without those beside them: blocks come in
// pairs.
constexpr int64_t kWhole = 64;

// Tokens that go through the layers at once. More cost memory and make nothing faster.
constexpr int64_t kMicroBatch = 512;

class Forward {
 public:
    explicit Forward(Model& model);

    // Checks and computes a step; false: it was aborted. Throws Invalid.
    bool run(const tln_step& step);

 private:
    // One token of the micro-batch.
    struct Token {
        int32_t id;
        const int32_t* table;
        int64_t position;
    };

    void check(const tln_step& step) const;
    void copy_blocks(const tln_step& step);
    void place(const tln_step& step);
    void order_rows(const tln_step& step);
    void order_attention();
    bool micro_batch(const tln_step& step, int64_t begin, int64_t end);

    // Each is called by every thread; what a function shares out is done when it returns.
    void begin(Crew& crew);
    // False: the step was aborted.
    bool layer(Crew& crew, int index);
    void attention(Crew& crew, int index);
    // Queries and keys of a row are normalized and turned, its keys and values stored; for the kv
    // heads [begin, end) and the heads that share them.
    void turn(const Layer& layer, int index, int64_t row, int64_t begin, int64_t end);
    void feed_forward(Crew& crew, const Layer& layer);
    void mixture(Crew& crew, const Layer& layer);
    void logits(Crew& crew, const tln_step& step);

    // What a block added, `delta_`, joins the residual stream of one row.
    void join(int64_t row, const Vector& post);
    // True where a block's last product adds to the residual stream itself.
    bool direct(const Vector& post) const;
    // The stream, with what the last block added, is normalized into `normed_` and quantized.
    void norm(Crew& crew, bool joining, const Vector& post, const Vector& weight);
    void quantize(Crew& crew, const float* x, int64_t cols, ActBlock* to, int64_t rows);

    struct Product {
        const Matrix* matrix;
        float* out;
        int64_t ld_out;
        const Vector* bias = nullptr;
        bool add = false;
    };
    // Products of the same rows; x is `ld` floats a row, xq the same quantized.
    void multiply(Crew& crew, const Product* products, int count, const float* x, int64_t ld,
                  const ActBlock* xq, int64_t rows);
    void multiply_unit(const Product& product, const float* x, int64_t ld, const ActBlock* xq,
                       int64_t rows, int64_t begin, int64_t end, void* scratch);
    // gate and up, and what the activation makes of them, into gate; the same quantized where gate_q
    // is given. `begin` is a multiple of kWhole.
    void gate_unit(const Expert& expert, float* gate, float* up, ActBlock* gate_q, const float* x,
                   const ActBlock* xq, int64_t rows, int64_t begin, int64_t end, void* scratch);
    // How many outputs one unit of work has, a multiple of kPanel.
    int64_t unit_rows(int64_t outputs, int64_t rows) const;
    // As many that make whole activations, if they are to be quantized at once.
    static int64_t whole_units(int64_t outputs) { return (outputs + kWhole - 1) / kWhole * kWhole; }
    std::byte* scratch(const Crew& crew) const {
        return scratch_.data() + scratch_each_ * static_cast<size_t>(crew.id());
    }
    void note(int status) {
        if (status != kOk) status_.store(status, std::memory_order_relaxed);
    }

    Model& model_;
    const Kernels& kernels_;
    const tln_shape& shape_;
    const int64_t q_size_, kv_size_, qkv_size_;

    // Of the step.
    std::vector<Token> tokens_;
    // Places in tokens_ in the order in which attention takes them: sharers of blocks are
    // neighbours.
    std::vector<int32_t> order_;

    // Of the micro-batch: its tokens are [begin_, begin_ + rows_).
    int64_t begin_ = 0, rows_ = 0;
    std::vector<AttnRow> attn_rows_;
    // Outputs [first_output_, first_output_ + outputs_) of the step lie in it.
    int64_t first_output_ = 0, outputs_ = 0;
    bool stop_ = false;
    std::atomic<int> status_{0};

    // [rows, ...]
    Mapping memory_;
    float *x_, *normed_, *qkv_, *attended_, *delta_, *gate_, *up_;
    // [tables][rows][rope_size / 2]
    float *cos_, *sin_;
    ActBlock *normed_q_, *wide_q_;
    Mapping scratch_;
    size_t scratch_each_ = 0;

    // Mixtures: the experts of each row, best first, and their weights; [rows][experts_used].
    std::vector<int32_t> chosen_;
    std::vector<float> weight_;
    // Rows sorted by expert: [expert_begin_[e], expert_begin_[e + 1]) of slots are e's, and
    // slot_of_[row * experts_used + rank] says where a row's are.
    std::vector<int32_t> expert_begin_, slot_of_;
    std::vector<int32_t> row_of_slot_;
    // Units of work: expert and first output; outputs of a unit.
    std::vector<std::pair<int32_t, int32_t>> expert_units_;
    int64_t unit_step_ = 0;
    float *router_ = nullptr, *gathered_ = nullptr, *expert_out_ = nullptr;
    ActBlock* gathered_q_ = nullptr;
};

}  // namespace tl

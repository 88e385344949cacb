// Mixtures of experts: rows are sorted by expert, and each expert computes its rows together.
//
// A row's result does not depend on the others: its experts are chosen from its own logits, and
// what they say is summed in the order of their weights.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "forward.h"

namespace tl {

namespace {

// The `count` largest of `p`, falling; of equals the first.
void best(const float* p, int32_t n, int32_t count, int32_t* found) {
    std::vector<int32_t> ids(static_cast<size_t>(n));
    std::iota(ids.begin(), ids.end(), 0);
    std::partial_sort(ids.begin(), ids.begin() + count, ids.end(),
                      [p](int32_t a, int32_t b) { return p[a] > p[b] || (p[a] == p[b] && a < b); });
    std::copy_n(ids.begin(), count, found);
}

}  // namespace

void Forward::mixture(Crew& crew, const Layer& layer) {
    const int32_t used = shape_.experts_used, experts = shape_.experts;
    const int64_t embedding = shape_.embedding, wide = shape_.feed_forward;
    const int64_t blocks = act_blocks(embedding), slots = rows_ * used;
    const Product product{&layer.router, router_, experts};
    multiply(crew, &product, 1, normed_, embedding, normed_q_, rows_);

    crew.alone([&] {
        chosen_.resize(static_cast<size_t>(slots));
        weight_.resize(static_cast<size_t>(slots));
        slot_of_.resize(static_cast<size_t>(slots));
        row_of_slot_.resize(static_cast<size_t>(slots));
        expert_begin_.assign(static_cast<size_t>(experts) + 1, 0);
    });
    crew.share(rows_, [&](int64_t row) {
        float* p = router_ + row * experts;
        kernels_.softmax(p, experts);
        // NaN is no order: then any experts will do.
        for (int32_t e = 0; e < experts; ++e) p[e] = p[e] >= 0.0F ? p[e] : 0.0F;
        int32_t* chosen = chosen_.data() + row * used;
        best(p, experts, used, chosen);
        float sum = 0.0F;
        for (int32_t rank = 0; rank < used; ++rank) sum += p[chosen[rank]];
        for (int32_t rank = 0; rank < used; ++rank) {
            weight_[static_cast<size_t>(row * used + rank)] =
                p[chosen[rank]] / (shape_.experts_renormalized != 0 ? sum : 1.0F);
        }
    });
    crew.alone([&] {
        for (int64_t i = 0; i < slots; ++i) ++expert_begin_[static_cast<size_t>(chosen_[static_cast<size_t>(i)]) + 1];
        std::partial_sum(expert_begin_.begin(), expert_begin_.end(), expert_begin_.begin());
        std::vector<int32_t> next(expert_begin_.begin(), expert_begin_.end() - 1);
        for (int64_t i = 0; i < slots; ++i) {
            const int32_t slot = next[static_cast<size_t>(chosen_[static_cast<size_t>(i)])]++;
            slot_of_[static_cast<size_t>(i)] = slot;
            row_of_slot_[static_cast<size_t>(slot)] = static_cast<int32_t>(i / used);
        }
    });
    crew.share(slots, [&](int64_t slot) {
        const int64_t row = row_of_slot_[static_cast<size_t>(slot)];
        std::copy_n(normed_ + row * embedding, embedding, gathered_ + slot * embedding);
        std::copy_n(normed_q_ + row * blocks, blocks, gathered_q_ + slot * blocks);
    });

    // Units of all experts that have rows, so that no thread waits between experts.
    const bool quantize_down = takes_act_blocks(layer.experts.front().down.packed.type);
    const auto plan = [&](int64_t outputs) {
        expert_units_.clear();
        const int64_t step = whole_units(unit_rows(outputs, std::max<int64_t>(1, slots / experts)));
        for (int32_t e = 0; e < experts; ++e) {
            if (expert_begin_[static_cast<size_t>(e)] == expert_begin_[static_cast<size_t>(e) + 1]) continue;
            for (int64_t at = 0; at < outputs; at += step) expert_units_.push_back({e, static_cast<int32_t>(at)});
        }
        unit_step_ = step;
    };
    crew.alone([&] { plan(wide); });
    crew.share(static_cast<int64_t>(expert_units_.size()), [&](int64_t unit) {
        const auto [e, at] = expert_units_[static_cast<size_t>(unit)];
        const int64_t first = expert_begin_[static_cast<size_t>(e)];
        const int64_t count = expert_begin_[static_cast<size_t>(e) + 1] - first;
        gate_unit(layer.experts[static_cast<size_t>(e)], gate_ + first * wide, up_ + first * wide,
                  quantize_down ? wide_q_ + first * act_blocks(wide) : nullptr, gathered_ + first * embedding,
                  gathered_q_ + first * blocks, count, at,
                  std::min<int64_t>(wide, at + unit_step_), scratch(crew));
    });
    crew.alone([&] { plan(embedding); });
    crew.share(static_cast<int64_t>(expert_units_.size()), [&](int64_t unit) {
        const auto [e, at] = expert_units_[static_cast<size_t>(unit)];
        const int64_t first = expert_begin_[static_cast<size_t>(e)];
        const int64_t count = expert_begin_[static_cast<size_t>(e) + 1] - first;
        const Product down{&layer.experts[static_cast<size_t>(e)].down, expert_out_ + first * embedding, embedding};
        multiply_unit(down, gate_ + first * wide, wide, wide_q_ + first * act_blocks(wide), count, at,
                      std::min<int64_t>(embedding, at + unit_step_), scratch(crew));
    });
    crew.share(rows_, [&](int64_t row) {
        float* to = delta_ + row * embedding;
        std::fill_n(to, embedding, 0.0F);
        for (int32_t rank = 0; rank < used; ++rank) {
            const auto i = static_cast<size_t>(row * used + rank);
            kernels_.add_scaled(expert_out_ + slot_of_[i] * embedding, weight_[i], embedding, to);
        }
    });
}

}  // namespace tl

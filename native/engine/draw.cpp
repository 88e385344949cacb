#include "draw.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

namespace tl {

namespace {

// Bins of the histogram that finds the edge of the nucleus: 64 for each factor of two.
constexpr int kBins = 2048;
constexpr int kBinShift = 17;
// Most tokens whose probabilities are told.
constexpr int32_t kMostTold = 1 << 16;

// The element at which the running sum passes `u` of the whole.
int64_t locate(const float* p, int64_t n, const double* sums, int64_t blocks, double u) {
    // Strictly below the whole, so that the block found has some weight.
    const double target = std::min(u * sums[blocks - 1], std::nextafter(sums[blocks - 1], 0.0));
    const int64_t block = std::upper_bound(sums, sums + blocks, target) - sums;
    double running = block > 0 ? sums[block - 1] : 0.0;
    int64_t last = block * kDrawBlock;
    for (int64_t i = block * kDrawBlock; i < std::min(n, (block + 1) * kDrawBlock); ++i) {
        if (p[i] <= 0.0F) continue;
        last = i;
        running += static_cast<double>(p[i]);
        if (running > target) break;
    }
    // Rounding between the two levels: the last element of the block that has any weight.
    return last;
}

// Zeroes what has `limit` or more of weight strictly above it: a histogram over the bits of the
// numbers, which rise with them, finds the bin in which the limit falls; it alone is sorted. The
// largest of p is 1.
void keep_nucleus(float* p, int64_t n, double limit, double* bins) {
    const auto bin_of = [](float value) {
        const uint32_t below = (std::bit_cast<uint32_t>(1.0F) - std::bit_cast<uint32_t>(value)) >> kBinShift;
        return static_cast<int>(std::min<uint32_t>(below, kBins - 1));
    };
    std::fill_n(bins, kBins, 0.0);
    for (int64_t i = 0; i < n; ++i) {
        if (p[i] > 0.0F) bins[bin_of(p[i])] += static_cast<double>(p[i]);
    }
    int edge = 0;
    double before = 0.0;
    while (edge < kBins - 1 && before + bins[edge] < limit) before += bins[edge++];
    std::vector<float> inside;
    for (int64_t i = 0; i < n; ++i) {
        if (p[i] <= 0.0F) continue;
        const int bin = bin_of(p[i]);
        if (bin == edge) inside.push_back(p[i]);
        if (bin > edge) p[i] = 0.0F;
    }
    std::sort(inside.begin(), inside.end(), std::greater<>());
    float least = inside.empty() ? 0.0F : inside.front();
    for (size_t i = 0; i < inside.size() && before < limit;) {
        least = inside[i];
        for (; i < inside.size() && inside[i] == least; ++i) before += static_cast<double>(inside[i]);
    }
    for (int64_t i = 0; i < n; ++i) {
        if (p[i] < least) p[i] = 0.0F;
    }
}

// The `count` largest, falling, of equals the first before the others; `tops` are the largest of
// each block.
int32_t largest(const float* x, int64_t n, const float* tops, int64_t blocks, int32_t count, int32_t* found) {
    const auto before = [x](int32_t a, int32_t b) { return x[a] > x[b] || (x[a] == x[b] && a < b); };
    // That many blocks have one at least as large as the count-th of their tops.
    float least = -INFINITY;
    if (count <= blocks) {
        std::vector<float> falling(tops, tops + blocks);
        std::nth_element(falling.begin(), falling.begin() + count - 1, falling.end(), std::greater<>());
        least = falling[static_cast<size_t>(count - 1)];
    }
    std::vector<int32_t> ids;
    for (int64_t block = 0; block < blocks; ++block) {
        if (tops[block] < least) continue;
        for (int64_t i = block * kDrawBlock; i < std::min(n, (block + 1) * kDrawBlock); ++i) {
            if (x[i] >= least) ids.push_back(static_cast<int32_t>(i));
        }
    }
    const auto told = static_cast<int32_t>(std::min<size_t>(static_cast<size_t>(count), ids.size()));
    std::partial_sort(ids.begin(), ids.begin() + told, ids.end(), before);
    std::copy_n(ids.begin(), told, found);
    return told;
}

}  // namespace

Drawing::Drawing(Model& model)
    : model_(model),
      vocab_(model.shape.vocab),
      blocks_((vocab_ + kDrawBlock - 1) / kDrawBlock),
      each_(aligned(static_cast<size_t>(vocab_) * 4) + aligned(static_cast<size_t>(blocks_) * 4) +
            aligned(static_cast<size_t>(blocks_) * 8) + aligned(kBins * 8)) {
    memory_ = Mapping(each_ * static_cast<size_t>(model.pool.size()));
}

void Drawing::run(tln_draw* draws, int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
        const tln_draw& one = draws[i];
        const bool right = one.logits != nullptr && one.inverse_temperature >= 0.0F && one.top_p > 0.0F &&
                           one.min_p >= 0.0F && one.first >= 0.0 && one.first < 1.0 && one.second >= 0.0 &&
                           one.second < 1.0 && one.told <= kMostTold && (one.told < 1 || one.told_tokens != nullptr);
        if (!right) throw Invalid("a draw");
    }
    model_.pool.run([&](Crew& crew) {
        std::byte* at = memory_.data() + each_ * static_cast<size_t>(crew.id());
        Scratch scratch{};
        scratch.p = reinterpret_cast<float*>(at);
        at += aligned(static_cast<size_t>(vocab_) * 4);
        scratch.tops = reinterpret_cast<float*>(at);
        at += aligned(static_cast<size_t>(blocks_) * 4);
        scratch.sums = reinterpret_cast<double*>(at);
        at += aligned(static_cast<size_t>(blocks_) * 8);
        scratch.bins = reinterpret_cast<double*>(at);
        crew.share(count, [&](int64_t i) { draw(draws[i], scratch); });
    });
}

void Drawing::draw(tln_draw& draw, const Scratch& scratch) const {
    const int64_t best = model_.kernels.best(draw.logits, vocab_, scratch.tops);
    draw.token = static_cast<int32_t>(best);
    if (best < 0) return;
    const float top = draw.logits[best];
    if (draw.inverse_temperature > 0.0F) draw.token = static_cast<int32_t>(sample(draw, top, scratch));
    if (draw.told >= 0) tell(draw, top, scratch);
}

int64_t Drawing::sample(const tln_draw& draw, float top, const Scratch& scratch) const {
    float* p = scratch.p;
    model_.kernels.weights(draw.logits, top, draw.inverse_temperature, vocab_, p, scratch.sums);
    const double total = scratch.sums[blocks_ - 1];
    const int64_t token = locate(p, vocab_, scratch.sums, blocks_, draw.first);
    // The best token passes both filters.
    if (p[token] >= 1.0F) return token;
    const double limit = draw.top_p < 1.0F ? static_cast<double>(draw.top_p) * total : INFINITY;
    const bool inside = limit == INFINITY || model_.kernels.mass_above(p, p[token], vocab_) < limit;
    if (inside && p[token] >= draw.min_p) return token;
    if (!inside) keep_nucleus(p, vocab_, limit, scratch.bins);
    double left = 0.0;
    for (int64_t block = 0; block < blocks_; ++block) {
        for (int64_t i = block * kDrawBlock; i < std::min(vocab_, (block + 1) * kDrawBlock); ++i) {
            if (p[i] < draw.min_p) p[i] = 0.0F;
            left += static_cast<double>(p[i]);
        }
        scratch.sums[block] = left;
    }
    return locate(p, vocab_, scratch.sums, blocks_, draw.second);
}

void Drawing::tell(tln_draw& draw, float top, const Scratch& scratch) const {
    model_.kernels.weights(draw.logits, top, 1.0F, vocab_, scratch.p, scratch.sums);
    draw.normalizer = static_cast<double>(top) + std::log(scratch.sums[blocks_ - 1]);
    if (draw.told > 0) {
        draw.told = largest(draw.logits, vocab_, scratch.tops, blocks_, draw.told, draw.told_tokens);
    }
}

}  // namespace tl

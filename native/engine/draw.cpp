#include "draw.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace tl {

namespace {

// Elements per block of the two-level sums.
constexpr int64_t kSums = 512;
// Bins of the histogram that finds the edge of the nucleus: 64 for each factor of two.
constexpr int kBins = 2048;
constexpr int kBinShift = 17;
constexpr int kLanes = 16;

// Lanes apart, so that it can be vectorized; one fixed order.
double sum(const float* p, int64_t n) {
    float lanes[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += p[i + lane];
    }
    double total = 0.0;
    for (const float lane : lanes) total += static_cast<double>(lane);
    for (; i < n; ++i) total += static_cast<double>(p[i]);
    return total;
}

// Running sums at the end of each block.
double block_sums(const float* p, int64_t n, double* sums) {
    double total = 0.0;
    for (int64_t at = 0, block = 0; at < n; at += kSums, ++block) {
        total += sum(p + at, std::min(kSums, n - at));
        sums[block] = total;
    }
    return total;
}

double mass_above(const float* p, int64_t n, float bound) {
    double total = 0.0;
    for (int64_t at = 0; at < n; at += kSums) {
        float lanes[kLanes] = {};
        const int64_t end = std::min(at + kSums, n);
        int64_t i = at;
        for (; i + kLanes <= end; i += kLanes) {
            for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += p[i + lane] > bound ? p[i + lane] : 0.0F;
        }
        for (const float lane : lanes) total += static_cast<double>(lane);
        for (; i < end; ++i) total += p[i] > bound ? static_cast<double>(p[i]) : 0.0;
    }
    return total;
}

// The element at which the running sum passes `u` of the whole.
int64_t locate(const float* p, int64_t n, const double* sums, int64_t blocks, double u) {
    // Strictly below the whole, so that the block found has some weight.
    const double target = std::min(u * sums[blocks - 1], std::nextafter(sums[blocks - 1], 0.0));
    const int64_t block = std::upper_bound(sums, sums + blocks, target) - sums;
    double running = block > 0 ? sums[block - 1] : 0.0;
    int64_t last = block * kSums;
    for (int64_t i = block * kSums; i < std::min(n, (block + 1) * kSums); ++i) {
        if (p[i] <= 0.0F) continue;
        last = i;
        running += static_cast<double>(p[i]);
        if (running > target) break;
    }
    // Rounding between the two levels: the last element of the block that has any weight.
    return last;
}

// Zeroes what has `limit` or more of weight strictly above it: a histogram over the bits of the
// numbers, which rise with them, finds the bin in which the limit falls; it alone is sorted.
void keep_nucleus(float* p, int64_t n, float best, double limit, double* bins) {
    const auto bin_of = [best](float value) {
        const uint32_t below = (std::bit_cast<uint32_t>(best) - std::bit_cast<uint32_t>(value)) >> kBinShift;
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

}  // namespace

Drawing::Drawing(Model& model)
    : model_(model),
      vocab_(model.shape.vocab),
      blocks_((vocab_ + kSums - 1) / kSums),
      each_(aligned(static_cast<size_t>(vocab_) * 4) + aligned(static_cast<size_t>(blocks_) * 8) +
            aligned(kBins * 8)) {
    memory_ = Mapping(each_ * static_cast<size_t>(model.pool.size()));
}

void Drawing::run(tln_draw* draws, int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
        const tln_draw& one = draws[i];
        const bool right = one.logits != nullptr && one.inverse_temperature > 0.0F && one.top_p > 0.0F &&
                           one.min_p >= 0.0F && one.first >= 0.0 && one.first < 1.0 && one.second >= 0.0 &&
                           one.second < 1.0;
        if (!right) throw Invalid("a draw");
    }
    model_.pool.run([&](Crew& crew) {
        std::byte* at = memory_.data() + each_ * static_cast<size_t>(crew.id());
        Scratch scratch{};
        scratch.p = reinterpret_cast<float*>(at);
        at += aligned(static_cast<size_t>(vocab_) * 4);
        scratch.sums = reinterpret_cast<double*>(at);
        at += aligned(static_cast<size_t>(blocks_) * 8);
        scratch.bins = reinterpret_cast<double*>(at);
        crew.share(count, [&](int64_t i) { draws[i].token = draw(draws[i], scratch); });
    });
}

int32_t Drawing::draw(const tln_draw& draw, const Scratch& scratch) const {
    float* p = scratch.p;
    std::memcpy(p, draw.logits, static_cast<size_t>(vocab_) * sizeof(float));
    if (draw.inverse_temperature != 1.0F) model_.kernels.scale(p, draw.inverse_temperature, vocab_);
    model_.kernels.softmax(p, vocab_);
    const double total = block_sums(p, vocab_, scratch.sums);
    if (!(total > 0.5) || !(total < 2.0)) return -1;
    const int64_t token = locate(p, vocab_, scratch.sums, blocks_, draw.first);
    const double limit = draw.top_p < 1.0F ? static_cast<double>(draw.top_p) * total : INFINITY;
    if (limit < INFINITY || draw.min_p > 0.0F) {
        const float best = *std::max_element(p, p + vocab_);
        const bool nucleus = limit == INFINITY || mass_above(p, vocab_, p[token]) < limit;
        if (nucleus && p[token] >= draw.min_p * best) return static_cast<int32_t>(token);
        if (!nucleus) keep_nucleus(p, vocab_, best, limit, scratch.bins);
        for (int64_t i = 0; i < vocab_; ++i) p[i] = p[i] < draw.min_p * best ? 0.0F : p[i];
        block_sums(p, vocab_, scratch.sums);
        return static_cast<int32_t>(locate(p, vocab_, scratch.sums, blocks_, draw.second));
    }
    return static_cast<int32_t>(token);
}

}  // namespace tl

// Drawing tokens from rows of logits, all rows of a step at once.
#pragma once

#include <vector>

#include "memory.h"
#include "model.h"

namespace tl {

// A row draws from its softmax; where the token lies outside top_p or min_p, once more from what
// lies inside. Each depends on its own row and numbers only.
class Drawing {
 public:
    explicit Drawing(Model& model);

    // Sets `token` of each, -1 where the logits are no numbers, and what it tells of probabilities.
    // Throws Invalid.
    void run(tln_draw* draws, int32_t count);

 private:
    // What one thread has.
    struct Scratch {
        // [vocab]: weights of the tokens, 1 that of the best.
        float* p;
        // Of each block: the largest logit; the weights up to its end.
        float* tops;
        double* sums;
        double* bins;
    };

    void draw(tln_draw& draw, const Scratch& scratch) const;
    int64_t sample(const tln_draw& draw, float top, const Scratch& scratch) const;
    void tell(tln_draw& draw, float top, const Scratch& scratch) const;

    Model& model_;
    const int64_t vocab_, blocks_;
    Mapping memory_;
    size_t each_;
};

}  // namespace tl

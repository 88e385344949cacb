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

    // Sets `token` of each; -1 where the logits are no numbers. Throws Invalid.
    void run(tln_draw* draws, int32_t count);

 private:
    struct Scratch {
        float* p;
        double* sums;
        double* bins;
    };

    int32_t draw(const tln_draw& draw, const Scratch& scratch) const;

    Model& model_;
    const int64_t vocab_, blocks_;
    Mapping memory_;
    size_t each_;
};

}  // namespace tl

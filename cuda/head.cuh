// What the head keeps per row while it walks over the vocabulary, a chunk of tokens at a time.
#pragma once
#include "common.cuh"

static constexpr int RUN = 64; // tokens whose probabilities are summed together, for the draw and the soft embedding

struct HeadRow {
    double sum, weighted; // of exp(l - max), and of exp(l - max) (l - max)
    float max;
    float rescale; // by what everything before this chunk is multiplied
    uint32_t argmax;
    uint32_t unused;
};

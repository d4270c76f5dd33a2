// What a step is told, and what a block remembers between its steps; the host's copies are in src/backend/cuda/sampler.rs.
#pragma once
#include "common.cuh"

struct StepArguments {
    uint32_t block, step;
    uint32_t seed_low, seed_high;
    uint32_t vocab;
    uint32_t given; // 1: the host has put uniforms and fresh tokens there
    float temperature;
    float bound; // in nats, on the entropies of accepted positions
    float confidence; // the mean entropy in nats below which a block may end
    uint32_t stability; // drafts in a row that must equal the last one
};

struct BlockState {
    uint32_t same; // drafts in a row before the last that equal it
    uint32_t finished;
};

// What a random number is for (Purpose of src/sampler/noise.rs).
static constexpr uint32_t DRAW = 1, RENOISE = 2;

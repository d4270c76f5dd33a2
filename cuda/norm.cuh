// The factor of a row's norm: rsqrt(mean(x^2) + eps), the same for every kernel with 256 threads per row.
#pragma once
#include "common.cuh"

// `scratch`: a float per warp, free again after the next barrier.
DEVICE float norm_factor(const float* x, int dim, float eps, float* scratch) {
    float squares = 0;
    for (int i = threadIdx.x; i < dim; i += blockDim.x) squares = fmaf(x[i], x[i], squares);
    const float sum = block_sum(squares, scratch);
    return 1.0f / sqrtf(sum / float(dim) + eps);
}

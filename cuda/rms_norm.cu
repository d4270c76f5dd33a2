// x * rsqrt(mean(x^2) + eps) * weight for each row of `dim`; no weight means ones. rms_norm writes it to `out`, which may be
// x; rms_norm_add adds it to `out`.
//
// Grid (rows), 256 threads per row; sums in f32. Shared memory: a float per warp.
#include "common.cuh"

DEVICE float norm_factor(const float* x, int dim, float eps) {
    float squares = 0;
    for (int i = threadIdx.x; i < dim; i += blockDim.x) squares = fmaf(x[i], x[i], squares);
    const float sum = block_sum(squares, (float*)shared_memory());
    return 1.0f / sqrtf(sum / float(dim) + eps);
}

KERNEL(256) rms_norm(const float* x, const float* weight, int dim, float eps, float* out) {
    x += int64_t(blockIdx.x) * dim, out += int64_t(blockIdx.x) * dim;
    const float factor = norm_factor(x, dim, eps);
    for (int i = threadIdx.x; i < dim; i += blockDim.x) out[i] = x[i] * (weight ? factor * weight[i] : factor);
}

KERNEL(256) rms_norm_add(const float* x, const float* weight, int dim, float eps, float* out) {
    x += int64_t(blockIdx.x) * dim, out += int64_t(blockIdx.x) * dim;
    const float factor = norm_factor(x, dim, eps);
    for (int i = threadIdx.x; i < dim; i += blockDim.x) out[i] += x[i] * (factor * weight[i]);
}

// x * rsqrt(mean(x^2) + eps) * weight for each row of `dim`; no weight means ones. rms_norm writes it to `out`, which may be
// x; rms_norm_add adds it to `out`; rms_norm_add_scaled multiplies that sum, in the first `first_rows` rows by `first`, in the
// others by `rest`.
//
// Grid (rows), 256 threads per row; sums in f32. Shared memory: a float per warp.
#include "norm.cuh"

KERNEL(256) rms_norm(const float* x, const float* weight, int dim, float eps, float* out) {
    x += int64_t(blockIdx.x) * dim, out += int64_t(blockIdx.x) * dim;
    const float factor = norm_factor(x, dim, eps, (float*)shared_memory());
    for (int i = threadIdx.x; i < dim; i += blockDim.x) out[i] = x[i] * (weight ? factor * weight[i] : factor);
}

KERNEL(256) rms_norm_add(const float* x, const float* weight, int dim, float eps, float* out) {
    x += int64_t(blockIdx.x) * dim, out += int64_t(blockIdx.x) * dim;
    const float factor = norm_factor(x, dim, eps, (float*)shared_memory());
    for (int i = threadIdx.x; i < dim; i += blockDim.x) out[i] += x[i] * (factor * weight[i]);
}

KERNEL(256) rms_norm_add_scaled(const float* x, const float* weight, int dim, float eps, float* out, int first_rows,
                                float first, float rest) {
    x += int64_t(blockIdx.x) * dim, out += int64_t(blockIdx.x) * dim;
    const float factor = norm_factor(x, dim, eps, (float*)shared_memory());
    const float scale = int(blockIdx.x) < first_rows ? first : rest;
    for (int i = threadIdx.x; i < dim; i += blockDim.x) out[i] = (out[i] + x[i] * (factor * weight[i])) * scale;
}

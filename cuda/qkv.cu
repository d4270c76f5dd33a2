// What attention's inputs go through between their products and attention, in place, the same bits as rms_norm.cu, rope.cu and
// kv_append.cu's kv_round one after the other: q and k are normed per head and rotated, v is normed without a weight; v is made
// of k's product where it has none of its own. k and v of the first `rounded` rows are then rounded to the cache's type.
//
// q `[rows, heads, dim]`, k and v `[rows, kv_heads, dim]`, f32. Grid (rows, heads + kv_heads), 256 threads: a head of q, or one
// of k and v. Shared memory: a float per warp, then dim floats. dim is even.
#include "kv.cuh"
#include "norm.cuh"
#include "rotate.cuh"

struct QkvShape {
    int heads, kv_heads, dim, start, own_v, rounded, kind;
    float eps;
};

KERNEL(256) qkv(float* q, float* k, float* v, const float* q_norm, const float* k_norm, const float* inv_freq, QkvShape s) {
    float *scratch = (float*)shared_memory(), *normed = scratch + 8;
    const int row = blockIdx.x, head = blockIdx.y, half = s.dim / 2;
    const bool query = head < s.heads, round = !query && row < s.rounded;
    float* x = query ? q + (int64_t(row) * s.heads + head) * s.dim
                     : k + (int64_t(row) * s.kv_heads + head - s.heads) * s.dim;
    const float* weight = query ? q_norm : k_norm;
    const float factor = norm_factor(x, s.dim, s.eps, scratch);
    if (!query) {
        float* value = v + (int64_t(row) * s.kv_heads + head - s.heads) * s.dim;
        float of_value = factor;
        if (s.own_v) {
            __syncthreads(); // the scratch memory is free again
            of_value = norm_factor(value, s.dim, s.eps, scratch);
        }
        const float* from = s.own_v ? value : x;
        for (int i = threadIdx.x; i < s.dim; i += blockDim.x) {
            value[i] = round ? kv_rounded(from[i] * of_value, s.kind) : from[i] * of_value;
        }
    }
    for (int i = threadIdx.x; i < s.dim; i += blockDim.x) normed[i] = x[i] * (factor * weight[i]);
    __syncthreads();
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        float a, b;
        rotate(normed[i], normed[i + half], s.start + row, inv_freq[i], a, b);
        x[i] = round ? kv_rounded(a, s.kind) : a;
        x[i + half] = round ? kv_rounded(b, s.kind) : b;
    }
}

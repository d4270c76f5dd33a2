// Rotates the pairs (i, i + dim / 2) of each head by (start + t) * inv_freq[i]: x `[rows, heads, dim]` f32, in place.
//
// Grid (rows, heads), 128 threads over the pairs.
#include "rotate.cuh"

KERNEL(128) rope(float* x, const float* inv_freq, int heads, int dim, int start) {
    float* head = x + (int64_t(blockIdx.x) * heads + blockIdx.y) * dim;
    const int half = dim / 2;
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        rotate(head[i], head[i + half], start + int(blockIdx.x), inv_freq[i], head[i], head[i + half]);
    }
}

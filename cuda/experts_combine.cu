// out[t, :] = sum over t's routes, in their order, of weight * y[slot, :]: y `[slots, width]` (experts_down.cu), out
// `[rows, width]`, all f32.
//
// Grid (width / 256, rows), a thread per element.
#include "common.cuh"

KERNEL(256) experts_combine(const float* y, const uint32_t* slot_of, const float* weights, int top_k, int width,
                            float* out) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0;
    for (int n = 0; n < top_k; n++) {
        const int64_t at = int64_t(blockIdx.y) * top_k + n;
        sum = fmaf(weights[at], y[int64_t(slot_of[at]) * width + column], sum);
    }
    out[int64_t(blockIdx.y) * width + column] = sum;
}

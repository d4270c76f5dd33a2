// Element by element, `n` f32 each, 256 threads per block, one element each:
// gelu_mul: gate = gelu_tanh(gate) * up; add: acc += x; scale: x *= factor; softcap: x = cap * tanh(x / cap).
#include "common.cuh"

DEVICE int64_t place() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

KERNEL(256) gelu_mul(float* gate, const float* up, int64_t n) {
    const int64_t i = place();
    if (i < n) gate[i] = gelu_tanh(gate[i]) * up[i];
}

KERNEL(256) add(const float* x, float* acc, int64_t n) {
    const int64_t i = place();
    if (i < n) acc[i] += x[i];
}

KERNEL(256) scale(float* x, float factor, int64_t n) {
    const int64_t i = place();
    if (i < n) x[i] *= factor;
}

KERNEL(256) softcap(float* x, float cap, int64_t n) {
    const int64_t i = place();
    if (i < n) x[i] = cap * tanhf(x[i] / cap);
}

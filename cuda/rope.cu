// Rotates the pairs (i, i + dim / 2) of each head by (start + t) * inv_freq[i]: x `[rows, heads, dim]` f32, in place.
//
// Grid (rows, heads), 128 threads over the pairs. The angle is rounded to f32, as in the reference; then it is reduced in
// f64, so that a position of 262,143 costs no accuracy and no slow path.
#include "common.cuh"

KERNEL(128) rope(float* x, const float* inv_freq, int heads, int dim, int start) {
    float* head = x + (int64_t(blockIdx.x) * heads + blockIdx.y) * dim;
    const int half = dim / 2;
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        const float angle = float(start + int(blockIdx.x)) * inv_freq[i];
        const double turns = double(angle) * 0.31830988618379067; // of half a turn
        const float rest = float(turns - 2.0 * rint(turns * 0.5));
        float sine, cosine;
        sincospif(rest, &sine, &cosine);
        const float a = head[i], b = head[i + half];
        head[i] = a * cosine - b * sine;
        head[i + half] = b * cosine + a * sine;
    }
}

// Rows of activations become operand records (operand.cuh): x `[rows, k]` f32, out `[rows, k_tiles]` records, columns from k
// on are zero.
//
// Grid (k_tiles, rows / 4), 4 warps, a warp per record: a lane holds two neighbouring columns. Int8: the largest of 32
// columns becomes 127, rounding to nearest even; below 1e-36, where the quotient
// would overflow, all become 0.
#include "operand.cuh"

struct Place {
    int row;
    float x[2];
    uint8_t* record;
};

template <class X>
DEVICE Place place(const float* x, int rows, int k, int k_tiles, uint8_t* out) {
    Place p;
    p.row = blockIdx.y * 4 + warp();
    const int column = blockIdx.x * 64 + lane() * 2;
    const float* at = x + int64_t(p.row) * k + column;
    p.x[0] = p.row < rows && column < k ? at[0] : 0;
    p.x[1] = p.row < rows && column + 1 < k ? at[1] : 0;
    p.record = out + (int64_t(p.row) * k_tiles + blockIdx.x) * X::RECORD;
    return p;
}

// Sum and maximum over the 16 lanes that hold 32 columns.
DEVICE float half_warp_sum(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
    return x;
}

DEVICE float half_warp_max(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, step));
    return x;
}

KERNEL(128) quantize_int8(const float* x, int rows, int k, int k_tiles, uint8_t* out) {
    const Place p = place<Int8>(x, rows, k, k_tiles, out);
    const float largest = half_warp_max(fmaxf(fabsf(p.x[0]), fabsf(p.x[1])));
    const float scale = largest / 127.0f, inverse = largest > 1e-36f ? 127.0f / largest : 0;
    const int low = int(rintf(p.x[0] * inverse)), high = int(rintf(p.x[1] * inverse));
    const float sum = half_warp_sum(float(low + high));
    if (p.row >= rows) return;
    ((uint16_t*)p.record)[lane()] = uint16_t((low & 255) | (high & 255) << 8);
    if (lane() % 16 == 0) {
        float* numbers = (float*)(p.record + 64);
        numbers[lane() / 16] = scale;
        numbers[2 + lane() / 16] = scale * sum;
    }
}

template <class X>
DEVICE void split(const float* x, int rows, int k, int k_tiles, uint8_t* out) {
    const Place p = place<X>(x, rows, k, k_tiles, out);
    if (p.row >= rows) return;
    uint32_t low[X::PARTS], high[X::PARTS];
    split_bf16(p.x[0], low);
    split_bf16(p.x[1], high);
#pragma unroll
    for (int i = 0; i < X::PARTS; i++) ((uint32_t*)p.record)[i * 32 + lane()] = low[i] | high[i] << 16;
}

KERNEL(128) quantize_bf16(const float* x, int rows, int k, int k_tiles, uint8_t* out) {
    split<Bf16>(x, rows, k, k_tiles, out);
}

KERNEL(128) quantize_exact(const float* x, int rows, int k, int k_tiles, uint8_t* out) {
    split<Exact>(x, rows, k, k_tiles, out);
}

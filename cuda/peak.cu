// What a device can do at most, for `dgemma bench`: nothing of a model runs here.
//
// peak_int8, peak_bf16: `rounds` rounds of eight independent tensor-core tiles per warp, operands in registers, every
// number of one being the bytes (or halves) of `a`, of the other those of `b`. The same instructions as in tile.cuh, so the
// ceiling is that of mma.sync; from Hopper on there are others that reach more, which nothing here uses. out
// `[blocks * 256]` f32: a thread's 32 sums added up. Grid (any), 256 threads. Operations of a warp and round: 8 x 2 x 16 x 8
// x 32 in int8, half of that in bf16.
//
// peak_copy: to = from, peak_read: out[thread] = xor of what the thread read; `n` chunks of 16 bytes, four at a time per
// thread. Grid (any), 256 threads; out `[blocks * 256]` u32.
//
// peak_nothing: ends where it begins, so it costs what starting a kernel does. Grid (1), 32 threads.
#include "common.cuh"

static constexpr int TILES = 8, AT_A_TIME = 4;

DEVICE int thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

KERNEL(256) peak_int8(int rounds, uint32_t a, uint32_t b, float* out) {
    int sums[TILES][4] = {};
    for (int r = 0; r < rounds; r++) {
#pragma unroll
        for (int i = 0; i < TILES; i++) mma_s8(sums[i], a, a, a, a, b, b);
    }
    int sum = 0;
#pragma unroll
    for (int i = 0; i < TILES; i++) sum += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
    out[thread()] = float(sum);
}

KERNEL(256) peak_bf16(int rounds, uint32_t a, uint32_t b, float* out) {
    float sums[TILES][4] = {};
    for (int r = 0; r < rounds; r++) {
#pragma unroll
        for (int i = 0; i < TILES; i++) mma_bf16(sums[i], a, a, a, a, b, b);
    }
    float sum = 0;
#pragma unroll
    for (int i = 0; i < TILES; i++) sum += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
    out[thread()] = sum;
}

KERNEL(256) peak_copy(const uint4* from, uint4* to, int64_t n) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = thread(); i < n; i += AT_A_TIME * step) {
        uint4 held[AT_A_TIME];
#pragma unroll
        for (int j = 0; j < AT_A_TIME; j++) {
            if (i + j * step < n) held[j] = from[i + j * step];
        }
#pragma unroll
        for (int j = 0; j < AT_A_TIME; j++) {
            if (i + j * step < n) to[i + j * step] = held[j];
        }
    }
}

KERNEL(256) peak_read(const uint4* from, uint32_t* out, int64_t n) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    uint32_t seen[AT_A_TIME] = {};
    for (int64_t i = thread(); i < n; i += AT_A_TIME * step) {
#pragma unroll
        for (int j = 0; j < AT_A_TIME; j++) {
            if (i + j * step >= n) continue;
            const uint4 chunk = from[i + j * step];
            seen[j] ^= chunk.x ^ chunk.y ^ chunk.z ^ chunk.w;
        }
    }
    out[thread()] = seen[0] ^ seen[1] ^ seen[2] ^ seen[3];
}

KERNEL(32) peak_nothing() {}

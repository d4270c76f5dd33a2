// out[t, n] = x[t, :] . weight[n, :]: x `[rows, k]` as operand records, weight `[n, k]` in tiles, out f32 with `out_width`
// elements per row.
//
// Grid (rows of the weight / (64 * W), rows / TOKENS), 4 warps, each with 16 * W rows of the weight. `first_tile`: where to
// start in the weight, in tiles of 16 rows. Sums in f32 over integers (Int8) or tensor-core f32 (Bf16, Exact). See tile.cuh.
//
// matmul_bf16_wide has W = 2: half the loads of activations from shared memory, and half the blocks (grid.rs says when).
#include "quant/format.cuh"
#include "tile.cuh"

template <class X, int W>
DEVICE void matmul(const uint8_t* weight, int first_tile, int n, int k_tiles, const uint8_t* x, int rows, float* out,
                   int out_width) {
    typedef Product<FORMAT, X, W> P;
    const int row = (blockIdx.x * P::WARPS + warp()) * 16 * W, first = blockIdx.y * X::TOKENS;
    const int tokens = min(rows - first, X::TOKENS);
    const int64_t bytes = row_tile_bytes<FORMAT>(k_tiles);
    const uint8_t* tiles[W];
#pragma unroll
    for (int w = 0; w < W; w++) { // beyond the last tile, the last tile again
        const uint8_t* tile = weight + (int64_t(first_tile) + row / 16 + w) * bytes;
        tiles[w] = row + w * 16 < n ? tile : w ? tiles[0] : nullptr;
    }
    float sums[W][P::GROUPS][4];
    P::run(sums, tiles, k_tiles, x, nullptr, first, tokens);
#pragma unroll
    for (int w = 0; w < W; w++) {
        each_sum(sums[w], tokens, [&](int r, int token, float sum) {
            const int column = row + w * 16 + r;
            if (column < n) out[int64_t(first + token) * out_width + column] = sum;
        });
    }
}

#define MATMUL(name, X, W, blocks)                                                                                     \
    KERNEL_OF(128, blocks) ENTRY(name)(const uint8_t* weight, int first_tile, int n, int k_tiles, const uint8_t* x,    \
                                       int rows, float* out, int out_width) {                                          \
        matmul<X, W>(weight, first_tile, n, k_tiles, x, rows, out, out_width);                                         \
    }

#if FORMAT_QUANTIZED
MATMUL(matmul_int8, Int8, 1, 4)
#endif
#if FORMAT_QUANTIZED || FORMAT_HALF
MATMUL(matmul_bf16, Bf16, 1, 4)
MATMUL(matmul_bf16_wide, Bf16, 2, 3)
#endif
MATMUL(matmul_exact, Exact, 1, 4)

// out[t, n] = x[t, :] . weight[n, :]: x `[rows, k]` as operand records, weight `[n, k]` in tiles, out f32 with `out_width`
// elements per row.
//
// Grid (rows of the weight / (64 * W), rows / TOKENS), 4 warps, each with 16 * W rows of the weight. `first_tile`: where to
// start in the weight, in tiles of 16 rows. Sums in f32 over integers (Int8) or tensor-core f32 (Bf16, Exact). See tile.cuh.
//
// matmul_bf16_wide has W = 2: half the loads of activations from shared memory, and half the blocks (grid.rs says when).
// matmul_bf16_pair: of two weights alike in one grid, W = 2 with 16 rows of each.
#include "quant/format.cuh"
#include "tile.cuh"

// The products of this block's rows of x with the warp's tiles: store(w, row in the tile, row of x, sum).
template <class X, int W, class Store>
DEVICE void multiply_tiles(const uint8_t* const (&tiles)[W], int k_tiles, const uint8_t* x, int rows, Store store) {
    typedef Product<FORMAT, X, W> P;
    const int first = blockIdx.y * X::TOKENS, tokens = min(rows - first, X::TOKENS);
    float sums[W][P::GROUPS][4];
    P::run(sums, tiles, k_tiles, x, nullptr, first, tokens);
#pragma unroll
    for (int w = 0; w < W; w++) {
        each_sum(sums[w], tokens, [&](int r, int token, float sum) { store(w, r, int64_t(first + token), sum); });
    }
}

template <class X, int W>
DEVICE void matmul(const uint8_t* weight, int first_tile, int n, int k_tiles, const uint8_t* x, int rows, float* out,
                   int out_width) {
    const int row = (blockIdx.x * Product<FORMAT, X, W>::WARPS + warp()) * 16 * W;
    const int64_t bytes = row_tile_bytes<FORMAT>(k_tiles);
    const uint8_t* tiles[W];
#pragma unroll
    for (int w = 0; w < W; w++) { // beyond the last tile, the first one again
        const uint8_t* tile = weight + (int64_t(first_tile) + row / 16 + w) * bytes;
        tiles[w] = row + w * 16 < n ? tile : w ? tiles[0] : nullptr;
    }
    multiply_tiles<X, W>(tiles, k_tiles, x, rows, [&](int w, int r, int64_t token, float sum) {
        const int column = row + w * 16 + r;
        if (column < n) out[token * out_width + column] = sum;
    });
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

KERNEL_OF(128, 3) ENTRY(matmul_bf16_pair)(const uint8_t* left, const uint8_t* right, int n, int k_tiles, const uint8_t* x,
                                          int rows, float* left_out, float* right_out) {
    const int row = (blockIdx.x * Product<FORMAT, Bf16, 2>::WARPS + warp()) * 16;
    const int64_t at = int64_t(row / 16) * row_tile_bytes<FORMAT>(k_tiles);
    const uint8_t* const tiles[2] = {row < n ? left + at : nullptr, row < n ? right + at : nullptr};
    multiply_tiles<Bf16, 2>(tiles, k_tiles, x, rows, [&](int w, int r, int64_t token, float sum) {
        if (row + r < n) (w ? right_out : left_out)[token * n + row + r] = sum;
    });
}
#endif
MATMUL(matmul_exact, Exact, 1, 4)

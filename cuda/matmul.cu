// out[t, n] = x[t, :] . weight[n, :]: x `[rows, k]` as operand records, weight `[n, k]` in tiles, out f32 with `out_width`
// elements per row.
//
// Grid (rows of the weight / 64, rows / TOKENS), 4 warps, each with 16 rows of the weight. `first_tile`: where to start in
// the weight, in tiles of 16 rows. Sums in f32 over integers (Int8) or tensor-core f32 (Bf16, Exact). See tile.cuh.
#include "quant/format.cuh"
#include "tile.cuh"

template <class X>
DEVICE void matmul(const uint8_t* weight, int first_tile, int n, int k_tiles, const uint8_t* x, int rows, float* out,
                   int out_width) {
    typedef Product<FORMAT, X, 1> P;
    const int row = (blockIdx.x * P::WARPS + warp()) * 16, first = blockIdx.y * X::TOKENS;
    const int tokens = min(rows - first, X::TOKENS);
    const uint8_t* tile = weight + (int64_t(first_tile) + row / 16) * row_tile_bytes<FORMAT>(k_tiles);
    const uint8_t* const tiles[1] = {row < n ? tile : nullptr};
    float sums[1][P::GROUPS][4];
    P::run(sums, tiles, k_tiles, x, nullptr, first, tokens);
    if (row < n) {
        each_sum(sums[0], tokens, [&](int r, int token, float sum) {
            if (row + r < n) out[int64_t(first + token) * out_width + row + r] = sum;
        });
    }
}

#define MATMUL(name, X)                                                                                                \
    KERNEL(128) ENTRY(name)(const uint8_t* weight, int first_tile, int n, int k_tiles, const uint8_t* x, int rows,     \
                            float* out, int out_width) {                                                               \
        matmul<X>(weight, first_tile, n, k_tiles, x, rows, out, out_width);                                            \
    }

#if FORMAT_QUANTIZED
MATMUL(matmul_int8, Int8)
#elif FORMAT_HALF
MATMUL(matmul_bf16, Bf16)
#endif
MATMUL(matmul_exact, Exact)

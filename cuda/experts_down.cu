// out[slot, n] = weight[e, n, :] . x[slot, :] for the slots of each expert e (see experts_gate_up.cu): x `[slots, k]` as
// operand records, weight a stack in tiles, `weight_tiles` tiles of 16 rows per expert. out `[slots, n]` f32; the weighted
// sum over a row's slots is experts_combine.cu, in the order of the route, so that it is the same at every run.
//
// Grid (n / 128, experts), 4 warps, each with 32 rows.
#include "quant/format.cuh"
#include "tile.cuh"

template <class X>
DEVICE void experts_down(const uint8_t* weight, int weight_tiles, int n, int k_tiles, const uint8_t* x,
                         const uint32_t* offsets, float* out) {
    typedef Product<FORMAT, X, 2> P;
    const int expert = blockIdx.y, row = (blockIdx.x * P::WARPS + warp()) * 32;
    const int64_t bytes = row_tile_bytes<FORMAT>(k_tiles);
    const uint8_t* tile = weight + (int64_t(expert) * weight_tiles + row / 16) * bytes;
    // Beyond the last tile, the last tile again.
    const uint8_t* const tiles[2] = {row < n ? tile : nullptr, row + 16 < n ? tile + bytes : row < n ? tile : nullptr};
    const int end = offsets[expert + 1];
    for (int first = offsets[expert]; first < end; first += X::TOKENS) {
        const int tokens = min(end - first, X::TOKENS);
        float sums[2][P::GROUPS][4];
        P::run(sums, tiles, k_tiles, x, nullptr, first, tokens);
#pragma unroll
        for (int w = 0; w < 2; w++) {
            each_sum(sums[w], tokens, [&](int r, int token, float sum) {
                const int column = row + w * 16 + r;
                if (column < n) out[int64_t(first + token) * n + column] = sum;
            });
        }
    }
}

#define DOWN(name, X)                                                                                                  \
    KERNEL_OF(128, 3) ENTRY(name)(const uint8_t* weight, int weight_tiles, int n, int k_tiles, const uint8_t* x,       \
                                  const uint32_t* offsets, float* out) {                                               \
        experts_down<X>(weight, weight_tiles, n, k_tiles, x, offsets, out);                                            \
    }

#if FORMAT_QUANTIZED
DOWN(experts_down_int8, Int8)
#elif FORMAT_HALF
DOWN(experts_down_bf16, Bf16)
#endif
DOWN(experts_down_exact, Exact)

// out[slot, f] = gelu_tanh(gate[e, f, :] . x) * (up[e, f, :] . x) for the rows x routed to each expert e: slots are sorted by
// expert, `offsets[e] .. offsets[e + 1]` are e's (route.cu). gate and up are stacks in tiles, `*_tiles` tiles of 16 rows per
// expert, starting `*_first` tiles into it. out `[slots, ffn]` f32.
//
// Grid (ffn / 64, experts), 4 warps, each with 16 rows of gate and the same 16 of up; tokens in tiles, of which only the
// groups of 8 that exist are computed. An expert nobody chose costs one empty block per 64 rows.
#include "quant/format.cuh"
#include "tile.cuh"

template <class X>
DEVICE void experts_gate_up(const uint8_t* gate, int gate_tiles, int gate_first, const uint8_t* up, int up_tiles,
                            int up_first, int ffn, int k_tiles, const uint8_t* x, const uint32_t* offsets,
                            const uint32_t* row_of, float* out) {
    typedef Product<FORMAT, X, 2> P;
    const int expert = blockIdx.y, row = (blockIdx.x * P::WARPS + warp()) * 16;
    const int64_t bytes = row_tile_bytes<FORMAT>(k_tiles);
    const uint8_t* gate_tile = gate + (int64_t(expert) * gate_tiles + gate_first + row / 16) * bytes;
    const uint8_t* up_tile = up + (int64_t(expert) * up_tiles + up_first + row / 16) * bytes;
    const uint8_t* const tiles[2] = {row < ffn ? gate_tile : nullptr, row < ffn ? up_tile : nullptr};
    const int end = offsets[expert + 1];
    for (int first = offsets[expert]; first < end; first += X::TOKENS) {
        const int tokens = min(end - first, X::TOKENS);
        float sums[2][P::GROUPS][4];
        P::run(sums, tiles, k_tiles, x, row_of, first, tokens);
        if (row >= ffn) continue;
#pragma unroll
        for (int n = 0; n < P::GROUPS; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sums[0][n][i] = gelu_tanh(sums[0][n][i]) * sums[1][n][i];
        each_sum(sums[0], tokens, [&](int r, int token, float sum) {
            if (row + r < ffn) out[int64_t(first + token) * ffn + row + r] = sum;
        });
    }
}

#define GATE_UP(name, X)                                                                                               \
    KERNEL_OF(128, 3) ENTRY(name)(const uint8_t* gate, int gate_tiles, int gate_first, const uint8_t* up, int up_tiles, \
                            int up_first, int ffn, int k_tiles, const uint8_t* x, const uint32_t* offsets,             \
                            const uint32_t* row_of, float* out) {                                                      \
        experts_gate_up<X>(gate, gate_tiles, gate_first, up, up_tiles, up_first, ffn, k_tiles, x, offsets, row_of,     \
                           out);                                                                                       \
    }

#if FORMAT_QUANTIZED
GATE_UP(experts_gate_up_int8, Int8)
#elif FORMAT_HALF
GATE_UP(experts_gate_up_bf16, Bf16)
#endif
GATE_UP(experts_gate_up_exact, Exact)

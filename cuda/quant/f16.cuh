// F16: two bf16 numbers hold it exactly. Tile: register r of lane l is four halves, at (r * 32 + l) * 8.
#pragma once
#include "floats.cuh"

struct f16 {
    static constexpr int TILE_BYTES = 16 * 64 * 2, SUPER_BYTES = 0, PARTS = 2;
};

template <class F>
DEVICE void four_values(const uint8_t* tile, const uint8_t*, int lane, int r, float (&v)[4]) {
    const uint16_t* at = (const uint16_t*)tile + (r * WARP + lane) * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = half_to_float(at[i]);
}
#define FORMAT_HALF 1

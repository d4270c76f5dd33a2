// F32. Tile: register r of lane l is four floats, 16 bytes, at (r * 32 + l) * 16.
#pragma once
#include "floats.cuh"

struct f32 {
    static constexpr int TILE_BYTES = 16 * 64 * 4, SUPER_BYTES = 0, PARTS = 3;
};

template <class F>
DEVICE void four_values(const uint8_t* tile, const uint8_t*, int lane, int r, float (&v)[4]) {
    const float* at = (const float*)tile + (r * WARP + lane) * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = at[i];
}
#define FORMAT_HALF 0 // products in bf16 would lose too much of it

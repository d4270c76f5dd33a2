// Single elements of a weight in tiles.
#pragma once
#include "common.cuh"

// Columns `column .. column + 4` (a multiple of 4) of row `row`; ROUNDED: as products in bf16 have them.
template <class F, bool ROUNDED = false>
DEVICE void elements(const uint8_t* weight, int k_tiles, int64_t row, int column, float (&v)[4]) {
    const uint8_t* tiles =
        weight + row / 16 * (int64_t(k_tiles) * F::TILE_BYTES + int64_t(k_tiles / 4) * F::SUPER_BYTES);
    const uint8_t* super = tiles + int64_t(k_tiles) * F::TILE_BYTES + int64_t(column / 256) * F::SUPER_BYTES;
    const int in_row = int(row % 16), lane = in_row % 8 * 4 + column % 16 / 4;
    const int r = column / 32 % 2 * 4 + column / 16 % 2 * 2 + in_row / 8;
    tiles += int64_t(column / 64) * F::TILE_BYTES;
    if (!ROUNDED) return four_values<F>(tiles, super, lane, r, v);
    uint32_t even, odd;
    four_bf16<F>(tiles, super, lane, r, even, odd);
    v[0] = bf16_to_float(even & 0xffff), v[1] = bf16_to_float(odd & 0xffff);
    v[2] = bf16_to_float(even >> 16), v[3] = bf16_to_float(odd >> 16);
}

// Single elements of a weight in tiles.
#pragma once
#include "common.cuh"

// Columns `column .. column + 4` (a multiple of 4) of row `row`.
template <class F>
DEVICE void elements(const uint8_t* weight, int k_tiles, int64_t row, int column, float (&v)[4]) {
    const uint8_t* tiles =
        weight + row / 16 * (int64_t(k_tiles) * F::TILE_BYTES + int64_t(k_tiles / 4) * F::SUPER_BYTES);
    const uint8_t* super = tiles + int64_t(k_tiles) * F::TILE_BYTES + int64_t(column / 256) * F::SUPER_BYTES;
    const int in_row = int(row % 16), lane = in_row % 8 * 4 + column % 16 / 4;
    const int r = column / 32 % 2 * 4 + column / 16 % 2 * 2 + in_row / 8;
    four_values<F>(tiles + int64_t(column / 64) * F::TILE_BYTES, super, lane, r, v);
}

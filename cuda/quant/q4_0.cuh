// Q4_0: codes of 4 bits, 8 taken off, under one scale per 32. Tile: 512 bytes of nibbles, 64 of scales (F16).
#pragma once
#include "codes.cuh"

struct q4_0 : Symmetric<32, 8> {
    static constexpr int SCALES = 16 * WARP, TILE_BYTES = SCALES + 64;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) { return nibbles(tile, lane, r); }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        return half_to_float(((const uint16_t*)(tile + SCALES))[row * 2 + group]);
    }
};

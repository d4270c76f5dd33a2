// Q4_K: codes of 4 bits under a scale d s and a minimum dmin n per 32. Tile: 512 bytes of nibbles, 64 of (s, n) in bytes;
// for each 256 columns 64 bytes of (d, dmin) in F16 behind the row's tiles.
#pragma once
#include "codes.cuh"

struct q4_k : WithIntegerMinimums<8> {
    static constexpr int SCALES = 16 * WARP, TILE_BYTES = SCALES + 64;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) { return nibbles(tile, lane, r); }

    DEVICE float scale(const uint8_t* tile, const uint8_t* super, int row, int group) {
        return half_to_float(((const uint16_t*)super)[row * 2]) * float(tile[SCALES + (row * 2 + group) * 2]);
    }

    DEVICE float minimum(const uint8_t* tile, const uint8_t* super, int row, int group) {
        return half_to_float(((const uint16_t*)super)[row * 2 + 1]) * float(tile[SCALES + (row * 2 + group) * 2 + 1]);
    }

    DEVICE uint32_t pairs(const uint8_t* tile, int row) { return ((const uint32_t*)(tile + SCALES))[row]; }
};

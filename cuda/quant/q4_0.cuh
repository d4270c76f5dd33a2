// Q4_0: codes of 4 bits, 8 taken off, under one scale per 32. Tile: 512 bytes of nibbles, 64 of scales (F16).
#pragma once
#include "codes.cuh"

struct q4_0 : Symmetric<32, 8, 4> {
    static constexpr int SCALES = 16 * WARP, TILE_BYTES = SCALES + 64;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) { return nibbles(tile, lane, r); }

    DEVICE uint32_t moved_code(const uint8_t* tile, int lane, int r) {
        return nibbles_moved<MOVED>(tile, lane, r) ^ 0x80808080u;
    }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        return half_to_float(((const uint16_t*)(tile + SCALES))[row * 2 + group]);
    }

    DEVICE void numbers(const uint8_t* tile, OfPiece, int row, float (&scale)[2], float (&)[2]) {
        two_halves(((const uint32_t*)(tile + SCALES))[row], scale[0], scale[1]);
    }
};

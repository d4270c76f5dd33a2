// Q5_0: codes of 5 bits, 16 taken off, under one scale per 32. Tile: 512 bytes of nibbles, 128 of fifth bits, 64 of scales.
#pragma once
#include "codes.cuh"

struct q5_0 : Symmetric<32, 16, 3> {
    static constexpr int HIGH = 16 * WARP, SCALES = HIGH + 4 * WARP, TILE_BYTES = SCALES + 64;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) {
        return nibbles(tile, lane, r) | fifth_bits(tile + HIGH, lane, r);
    }

    DEVICE uint32_t moved_code(const uint8_t* tile, int lane, int r) {
        const uint32_t flipped = ~((const uint32_t*)(tile + HIGH))[lane];
        return nibbles_moved<MOVED>(tile, lane, r) | (flipped << (7 - r) & 0x80808080u);
    }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        return half_to_float(((const uint16_t*)(tile + SCALES))[row * 2 + group]);
    }

    DEVICE void numbers(const uint8_t* tile, OfPiece, int row, float (&scale)[2], float (&)[2]) {
        two_halves(((const uint32_t*)(tile + SCALES))[row], scale[0], scale[1]);
    }
};

// Q5_1: codes of 5 bits under a scale and an offset m per 32: d q + m. Tile: 512 bytes of nibbles, 128 of fifth bits, 128
// of (d, m) in F16.
#pragma once
#include "codes.cuh"

struct q5_1 : WithMinimums<16> {
    static constexpr int HIGH = 16 * WARP, SCALES = HIGH + 4 * WARP, TILE_BYTES = SCALES + 128;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) {
        return nibbles(tile, lane, r) | fifth_bits(tile + HIGH, lane, r);
    }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        return half_to_float(((const uint16_t*)(tile + SCALES))[(row * 2 + group) * 2]);
    }

    DEVICE float minimum(const uint8_t* tile, const uint8_t*, int row, int group) {
        return -half_to_float(((const uint16_t*)(tile + SCALES))[(row * 2 + group) * 2 + 1]);
    }

    DEVICE void numbers(const uint8_t* tile, OfPiece, int row, float (&scale)[2], float (&minimum)[2]) {
        const uint2 pairs = ((const uint2*)(tile + SCALES))[row];
        two_halves(pairs.x, scale[0], minimum[0]), two_halves(pairs.y, scale[1], minimum[1]);
        minimum[0] = -minimum[0], minimum[1] = -minimum[1];
    }
};

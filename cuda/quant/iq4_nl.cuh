// IQ4_NL: indices into sixteen values under one scale per 32. Tile: 512 bytes of indices, 64 of scales (F16).
#pragma once
#include "codes.cuh"

struct iq4_nl : Symmetric<32> {
    static constexpr int SCALES = 16 * WARP, TILE_BYTES = SCALES + 64;

    // -127 -104 -83 -65  -49 -35 -22 -10  1 13 25 38  53 69 89 113, lowest byte first.
    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) {
        return look_up(tile, lane, r, 0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
    }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        return half_to_float(((const uint16_t*)(tile + SCALES))[row * 2 + group]);
    }

    DEVICE void numbers(const uint8_t* tile, OfPiece, int row, float (&scale)[2], float (&)[2]) {
        two_halves(((const uint32_t*)(tile + SCALES))[row], scale[0], scale[1]);
    }
};

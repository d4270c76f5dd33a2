// Q8_0: signed bytes under one scale per 32. Tile: 1024 bytes of codes, 64 of scales (F16).
#pragma once
#include "codes.cuh"

struct q8_0 : Symmetric<32> {
    static constexpr int SCALES = 2 * 16 * WARP, TILE_BYTES = SCALES + 64;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) { return code_bytes(tile, lane, r); }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        return half_to_float(((const uint16_t*)(tile + SCALES))[row * 2 + group]);
    }

    DEVICE void numbers(const uint8_t* tile, OfPiece, int row, float (&scale)[2], float (&)[2]) {
        two_halves(((const uint32_t*)(tile + SCALES))[row], scale[0], scale[1]);
    }
};

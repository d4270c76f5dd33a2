// MXFP4: E2M1 floats under a power of two per 32. Tile: 512 bytes of codes, 32 of exponents. As on the CPU, the doubled
// integers are multiplied by half the scale.
#pragma once
#include "codes.cuh"

struct mxfp4 : Symmetric<32> {
    static constexpr int SCALES = 16 * WARP, TILE_BYTES = SCALES + 32;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) { return doubled_e2m1(tile, lane, r); }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        return power(tile[SCALES + row * 2 + group]);
    }

    DEVICE float power(uint32_t e) { return bits_to_float(e < 2 ? 0x00200000u << e : (e - 1) << 23); }

    DEVICE void numbers(const uint8_t* tile, OfPiece, int row, float (&scale)[2], float (&)[2]) {
        const uint32_t both = ((const uint16_t*)(tile + SCALES))[row];
        scale[0] = power(both & 255), scale[1] = power(both >> 8);
    }
};

// NVFP4: E2M1 floats under a UE4M3 scale per 16. Tile: 512 bytes of codes, 64 of scales. As on the CPU, the doubled integers
// are multiplied by half the scale, and 0x7F counts as zero.
#pragma once
#include "codes.cuh"

struct nvfp4 : Symmetric<16> {
    static constexpr int SCALES = 16 * WARP, TILE_BYTES = SCALES + 64;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) { return doubled_e2m1(tile, lane, r); }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        return ue4m3(tile[SCALES + row * 4 + group]);
    }

    DEVICE void numbers(const uint8_t* tile, OfPiece, int row, float (&scale)[4], float (&)[2]) {
        const uint32_t four = ((const uint32_t*)(tile + SCALES))[row];
#pragma unroll
        for (int i = 0; i < 4; i++) scale[i] = ue4m3(four >> (8 * i) & 255);
    }

    DEVICE float ue4m3(uint32_t bits) {
        const float tiny = bits_to_float((bits & 0x7f) << 20); // exponent and mantissa where a float has them: 2^-119 of it
        return bits == 0x7f ? 0 : tiny * bits_to_float((127 + 119) << 23);
    }
};

// NVFP4: E2M1 floats under a UE4M3 scale per 16. Tile: 512 bytes of codes, 64 of scales. As on the CPU, the doubled integers
// are multiplied by half the scale, and 0x7F counts as zero.
#pragma once
#include "codes.cuh"

struct nvfp4 : Symmetric<16> {
    static constexpr int SCALES = 16 * WARP, TILE_BYTES = SCALES + 64;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) { return doubled_e2m1(tile, lane, r); }

    DEVICE float scale(const uint8_t* tile, const uint8_t*, int row, int group) {
        const uint32_t bits = tile[SCALES + row * 4 + group], exponent = bits >> 3 & 15, mantissa = bits & 7;
        if (bits == 0x7f) return 0;
        if (exponent == 0) return float(mantissa) / 1024.0f;
        return bits_to_float((exponent + 127 - 7 - 1) << 23 | mantissa << 20);
    }
};

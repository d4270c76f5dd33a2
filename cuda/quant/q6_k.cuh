// Q6_K: codes of 6 bits, 32 taken off, under a scale d s per 16. Tile: 512 bytes of nibbles, 256 of fifth and sixth bits, 64
// of signed s; for each 256 columns 64 bytes of d (F16, every other one unused) behind the row's tiles.
#pragma once
#include "codes.cuh"

struct q6_k : Symmetric<16, 32, 2> {
    static constexpr int HIGH = 16 * WARP, SCALES = HIGH + 8 * WARP, TILE_BYTES = SCALES + 64, SUPER_BYTES = 64;

    DEVICE uint32_t code(const uint8_t* tile, int lane, int r) {
        const uint32_t high = ((const uint32_t*)(tile + HIGH))[lane * 2 + r / 4];
        return nibbles(tile, lane, r) | (high >> (2 * (r % 4)) & 0x03030303u) << 4;
    }

    DEVICE uint32_t moved_code(const uint8_t* tile, int lane, int r) {
        const uint32_t flipped = flip_bits(((const uint32_t*)(tile + HIGH))[lane * 2 + r / 4], 0xaaaaaaaau);
        return nibbles_moved<MOVED>(tile, lane, r) | (flipped << (6 - 2 * (r % 4)) & 0xc0c0c0c0u);
    }

    DEVICE float scale(const uint8_t* tile, const uint8_t* super, int row, int group) {
        return half_to_float(((const uint16_t*)super)[row * 2]) * float(((const int8_t*)(tile + SCALES))[row * 4 + group]);
    }

    typedef float OfPiece; // d
    DEVICE OfPiece of_piece(const uint8_t* super, int row) { return half_to_float(((const uint16_t*)super)[row * 2]); }

    DEVICE void numbers(const uint8_t* tile, OfPiece d, int row, float (&scale)[4], float (&)[2]) {
        const uint32_t scales = ((const uint32_t*)(tile + SCALES))[row] ^ 0x80808080u; // 128 more than they are
#pragma unroll
        for (int i = 0; i < 4; i++) scale[i] = d * (byte_above_2_23(scales, i) - (8388608.0f + 128));
    }
};

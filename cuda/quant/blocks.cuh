// What pack.cu reads: the blocks of a file, whose byte diagrams are in src/quant/<format>.rs, as codes and scales of tiles.
// Apart from the formats' own files, since no other kernel knows blocks.
//
// `PIECE` bytes are 256 columns of a row. `codes(piece, column)`: four columns' codes, a byte each, as the tile stores them
// (indices, where it has a table); `BITS` of each count. `scales(piece, tile, half)`: the `SCALE` bytes that stand for half a
// row of tile 0..3; `super_scale(piece)`: the four that stand for the piece. Bytes that the file does not have are zero.
#pragma once
#include "../common.cuh"

// Four bytes from anywhere. The word behind the one in which they begin is read in any case.
DEVICE uint32_t four_bytes(const uint8_t* at) {
    const uint32_t shift = uint32_t(uint64_t(at) & 3);
    const uint32_t* words = (const uint32_t*)(at - shift);
    return uint32_t((uint64_t(words[1]) << 32 | words[0]) >> (8 * shift));
}

DEVICE uint32_t low_or_high_nibbles(uint32_t bytes, bool high) { return (high ? bytes >> 4 : bytes) & 0x0f0f0f0fu; }

// Bit 4 of four bytes from the low four bits: bit i goes to byte i. The products of the four bits do not meet.
DEVICE uint32_t as_fifth_bits(uint32_t bits) { return ((bits & 15) * 0x00204081u & 0x01010101u) << 4; }

struct NoSuper {
    DEVICE uint32_t super_scale(const uint8_t*) { return 0; }
};

// Blocks of 32 that begin with `SCALE_BYTES` bytes of scales and end with 16 bytes of nibbles, element j beside j + 16;
// FIFTH: where the 32 fifth bits are, if there are any.
template <int BYTES, int SCALE_BYTES, int FIFTH = 0, bool TABLE = false>
struct Nibbles32 : NoSuper {
    static constexpr int PIECE = 8 * BYTES, BITS = FIFTH ? 5 : 4, SCALE = SCALE_BYTES;
    static constexpr bool INDICES = TABLE;

    DEVICE uint32_t codes(const uint8_t* piece, int column) {
        const uint8_t* block = piece + column / 32 * BYTES;
        const uint32_t low = low_or_high_nibbles(four_bytes(block + BYTES - 16 + column % 16), column & 16);
        return FIFTH ? low | as_fifth_bits(four_bytes(block + FIFTH) >> column % 32) : low;
    }

    DEVICE uint32_t scales(const uint8_t* piece, int tile, int half) { return four_bytes(piece + (2 * tile + half) * BYTES); }
};

// Of the two zeros among E2M1's codes, the first is stored.
DEVICE uint32_t without_negative_zero(uint32_t codes) {
    const uint32_t seven = codes & 0x07070707u;
    return seven | (codes & (seven + 0x07070707u) & 0x08080808u);
}

// Eight scales s and eight minimums n of six bits each in twelve bytes: (s, n) of one of them.
DEVICE uint32_t scale_and_minimum(const uint8_t* packed, int k) {
    const uint32_t first = packed[k % 4], second = packed[k % 4 + 4], third = packed[k % 4 + 8];
    if (k < 4) return (first & 63) | (second & 63) << 8;
    return (third & 15) | first >> 6 << 4 | (third >> 4 | second >> 6 << 4) << 8;
}

// Q4_K and Q5_K: elements of sub-blocks of 32, two of which share their bytes' nibbles, at the end; FIFTH: where a byte per
// element l has the fifth bit of each sub-block's element l.
template <int BYTES, int FIFTH>
struct SubBlocks32 {
    static constexpr int PIECE = BYTES, BITS = FIFTH ? 5 : 4, SCALE = 2;
    static constexpr bool INDICES = false;

    DEVICE uint32_t codes(const uint8_t* piece, int column) {
        const int k = column / 32, l = column % 32;
        const uint32_t low = low_or_high_nibbles(four_bytes(piece + BYTES - 128 + k / 2 * 32 + l), k & 1);
        return FIFTH ? low | (four_bytes(piece + FIFTH + l) >> k & 0x01010101u) << 4 : low;
    }

    DEVICE uint32_t scales(const uint8_t* piece, int tile, int half) { return scale_and_minimum(piece + 4, 2 * tile + half); }
    DEVICE uint32_t super_scale(const uint8_t* piece) { return four_bytes(piece); }
};

template <int SIZE>
struct Numbers {
    static constexpr int PIECE = 256 * SIZE;
};

template <class Format>
struct Blocks;
template <> struct Blocks<struct f32> : Numbers<4> {};
template <> struct Blocks<struct f16> : Numbers<2> {};
template <> struct Blocks<struct bf16> : Numbers<2> {};
template <> struct Blocks<struct q5_k> : SubBlocks32<176, 16> {};
template <> struct Blocks<struct q5_1> : Nibbles32<24, 4, 4> {};
template <> struct Blocks<struct q5_0> : Nibbles32<22, 2, 2> {};
template <> struct Blocks<struct q4_k> : SubBlocks32<144, 0> {};
template <> struct Blocks<struct q4_1> : Nibbles32<20, 4> {};
template <> struct Blocks<struct q4_0> : Nibbles32<18, 2> {};
template <> struct Blocks<struct iq4_nl> : Nibbles32<18, 2, 0, true> {};

template <> struct Blocks<struct mxfp4> : Nibbles32<17, 1, 0, true> {
    DEVICE uint32_t codes(const uint8_t* piece, int column) {
        return without_negative_zero(Nibbles32::codes(piece, column));
    }
};

template <> struct Blocks<struct nvfp4> : NoSuper {
    static constexpr int PIECE = 4 * 36, BITS = 4, SCALE = 2;
    static constexpr bool INDICES = true;

    DEVICE uint32_t codes(const uint8_t* piece, int column) {
        const uint8_t* at = piece + column / 64 * 36 + 4 + column % 64 / 16 * 8 + column % 8;
        return without_negative_zero(low_or_high_nibbles(four_bytes(at), column & 8));
    }

    DEVICE uint32_t scales(const uint8_t* piece, int tile, int half) { return four_bytes(piece + tile * 36 + 2 * half); }
};

template <> struct Blocks<struct q8_0> : NoSuper {
    static constexpr int PIECE = 8 * 34, BITS = 8, SCALE = 2;
    static constexpr bool INDICES = false;

    DEVICE uint32_t codes(const uint8_t* piece, int column) {
        return four_bytes(piece + column / 32 * 34 + 2 + column % 32);
    }

    DEVICE uint32_t scales(const uint8_t* piece, int tile, int half) { return four_bytes(piece + (2 * tile + half) * 34); }
};

template <> struct Blocks<struct q6_k> {
    static constexpr int PIECE = 210, BITS = 6, SCALE = 2;
    static constexpr bool INDICES = false;

    DEVICE uint32_t codes(const uint8_t* piece, int column) {
        const int h = column / 128, k = column % 128 / 32, l = column % 32;
        const uint32_t low = low_or_high_nibbles(four_bytes(piece + 64 * h + k % 2 * 32 + l), k & 2);
        return low | (four_bytes(piece + 128 + 32 * h + l) >> 2 * k & 0x03030303u) << 4;
    }

    DEVICE uint32_t scales(const uint8_t* piece, int tile, int half) { return four_bytes(piece + 192 + tile * 4 + 2 * half); }
    DEVICE uint32_t super_scale(const uint8_t* piece) { return four_bytes(piece + 208) & 0xffffu; }
};

// What the quantized formats share. A weight lies on the device as tiles of 16 rows x 64 columns, each a record of
// `TILE_BYTES`, the tiles of 16 rows one after the other (`pack.cu` lays them out at upload):
//
// Lane 4 g + t of a warp owns the elements that the tensor-core instructions want from it, in eight registers of four
// bytes: register 4 j + 2 h + b is row g + 8 b, columns 32 j + 16 h + 4 t .. + 3. Nibbles are stored as a 16-byte word
// per lane (a coalesced load): byte i of 32-bit word 2 j + b holds register 4 j + b's byte i in its low nibble and register
// 4 j + 2 + b's in its high one, except for formats with a table of values, see `look_up`.
//
// A format says: `code(tile, lane, r)`, four bytes of register r; `scale(tile, super, row, group)` and, with MINIMUMS,
// `minimum(...)`. Bytes are signed where MIDDLE is 0. Otherwise they are below 64, and MIDDLE is the middle of what they can
// be: without minimums it is taken off (`signed_code`). An element is scale * signed_code - minimum, rounded after each
// operation.
//
// The same for products of bytes, in fewer instructions: `of_piece(super, row)`, what stands for 256 columns of a row;
// `numbers(tile, of_piece, row, scales, minimums)`, all of a row of a tile; with MOVED, `moved_code`, see `product_code`.
#pragma once
#include "../common.cuh"

template <int ELEMENTS_PER_SCALE, int TAKEN_OFF = 0, int UP = 0>
struct Symmetric {
    static constexpr bool MINIMUMS = false;
    static constexpr int GROUP = ELEMENTS_PER_SCALE, MIDDLE = TAKEN_OFF, MOVED = UP, SUPER_BYTES = 0, PARTS = 3;
    DEVICE float minimum(const uint8_t*, const uint8_t*, int, int) { return 0; }

    struct OfPiece {};
    DEVICE OfPiece of_piece(const uint8_t*, int) { return {}; }
};

template <int MIDDLE_CODE>
struct WithMinimums {
    static constexpr bool MINIMUMS = true;
    static constexpr int GROUP = 32, MIDDLE = MIDDLE_CODE, MOVED = 0, SUPER_BYTES = 0, PARTS = 3;

    struct OfPiece {};
    DEVICE OfPiece of_piece(const uint8_t*, int) { return {}; }
};

// Codes of whole bytes: register r of lane l is word 4 (r / 4) + r % 4 of two 16-byte words per lane, 512 bytes apart.
DEVICE uint32_t code_bytes(const uint8_t* tile, int lane, int r) {
    return ((const uint32_t*)tile)[(r / 4) * 4 * WARP + lane * 4 + r % 4];
}

DEVICE uint32_t nibbles(const uint8_t* tile, int lane, int r) {
    const uint32_t word = ((const uint32_t*)tile)[lane * 4 + (r / 4) * 2 + r % 2];
    return (r & 2 ? word >> 4 : word) & 0x0f0f0f0fu;
}

// Bit r of each byte of the lane's word is the fifth bit of register r's code there.
DEVICE uint32_t fifth_bits(const uint8_t* high, int lane, int r) {
    return (((const uint32_t*)high)[lane] >> r & 0x01010101u) << 4;
}

// Each byte, below 64, minus N, as a signed byte: adding 128 - N carries into no other byte, and flipping the top bit
// takes the 128 back.
template <int N>
DEVICE uint32_t minus_bytes(uint32_t codes) {
    return (codes + (128 - N) * 0x01010101u) ^ 0x80808080u;
}

// Nibbles in bits UP .. UP + 3 of each byte.
template <int UP>
DEVICE uint32_t nibbles_moved(const uint8_t* tile, int lane, int r) {
    const uint32_t word = ((const uint32_t*)tile)[lane * 4 + (r / 4) * 2 + r % 2];
    return (r & 2 ? word >> (4 - UP) : word << UP) & 0x0f0f0f0fu << UP;
}

template <class F>
DEVICE uint32_t signed_code(const uint8_t* tile, int lane, int r) {
    const uint32_t codes = F::code(tile, lane, r);
    return F::MINIMUMS || F::MIDDLE == 0 ? codes : minus_bytes<F::MIDDLE>(codes);
}

DEVICE void two_halves(uint32_t both, float& low, float& high) {
    low = half_to_float(uint16_t(both)), high = half_to_float(uint16_t(both >> 16));
}

// 2^23 + byte i of a word: the lowest bits of a float.
DEVICE float byte_above_2_23(uint32_t word, int i) { return bits_to_float(pick_bytes(word, 0x4b000000u, 0x7540u + i)); }

// Formats with (d, dmin) in F16 for 256 columns and (s, n) in bytes for 32: scales are d s, minimums dmin n, both exact.
template <int MIDDLE_CODE>
struct WithIntegerMinimums : WithMinimums<MIDDLE_CODE> {
    static constexpr int SUPER_BYTES = 64;

    typedef uint32_t OfPiece; // (d, dmin)
    DEVICE OfPiece of_piece(const uint8_t* super, int row) { return ((const uint32_t*)super)[row]; }

    // The 2^23 is taken off within the multiplication.
    DEVICE void scales(uint32_t pairs, OfPiece d, float (&scale)[2]) {
        const float factor = half_to_float(uint16_t(d)), base = -8388608.0f * factor;
        scale[0] = fmaf(byte_above_2_23(pairs, 0), factor, base), scale[1] = fmaf(byte_above_2_23(pairs, 2), factor, base);
    }

    // Two n, below 128, as bf16: 0x4300 is 128, whose lowest bits they become.
    DEVICE void minimums(uint32_t pairs, OfPiece d, uint32_t& both, float& factor) {
        both = fma_bf16(pick_bytes(pairs, 0x43000000u, 0x7371u), 0x3f803f80u, 0xc300c300u);
        factor = half_to_float(uint16_t(d >> 16));
    }
};

// Four signed bytes for products of bytes: codes less MIDDLE, times 1 << MOVED. In a byte's upper bits a code's middle is
// taken off by flipping the top one.
template <class F>
DEVICE uint32_t product_code(const uint8_t* tile, int lane, int r) {
    if constexpr (F::MOVED > 0) {
        return F::moved_code(tile, lane, r);
    } else {
        return signed_code<F>(tile, lane, r);
    }
}

// Indices into a table of sixteen bytes. Half a word per register, four nibbles in a row, as the selector of a byte
// permutation wants them: the low half of word 2 j + b is register 4 j + b, the high half register 4 j + 2 + b.
DEVICE uint32_t look_up(const uint8_t* tile, int lane, int r, uint32_t t0, uint32_t t1, uint32_t t2, uint32_t t3) {
    const uint32_t word = ((const uint32_t*)tile)[lane * 4 + (r / 4) * 2 + r % 2];
    const uint32_t indices = r & 2 ? word >> 16 : word & 0xffffu;
    const uint32_t low = pick_bytes(t0, t1, indices), high = pick_bytes(t2, t3, indices);
    // Byte i from `low` or `high`, by the top bit of index i.
    return pick_bytes(low, high, 0x3210u | (indices & 0x8888u) >> 1);
}

// 0 0.5 1 1.5 2 3 4 6, doubled, then their negatives.
DEVICE uint32_t doubled_e2m1(const uint8_t* tile, int lane, int r) {
    return look_up(tile, lane, r, 0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
}

// Four elements of register r: row `row` of the tile (g or g + 8 of the lane).
template <class F>
DEVICE void four_values(const uint8_t* tile, const uint8_t* super, int lane, int r, float (&v)[4]) {
    const int row = lane / 4 + r % 2 * 8, group = (r / 4 * 32 + (r & 2) * 8) / F::GROUP;
    const uint32_t codes = signed_code<F>(tile, lane, r);
    const float scale = F::scale(tile, super, row, group), minimum = F::minimum(tile, super, row, group);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float product = scale * float(int8_t(codes >> (8 * i)));
        v[i] = F::MINIMUMS ? product - minimum : product;
    }
}

// Four codes less MIDDLE as bf16, exact: the first and the third in `even`, the others in `odd`. 0x4300 is 128, whose lowest
// bits the seven lower bits of a byte become, and 0xc300 | m is -(128 + m); the eighth bit of a signed byte makes -256 of -128.
template <class F>
DEVICE void centred_bf16(uint32_t codes, uint32_t& even, uint32_t& odd) {
    const uint32_t one = 0x3f803f80u, upper = codes >> 8, centre = 0xc300c300u | F::MIDDLE * 0x00010001u;
    even = fma_bf16((codes & 0x007f007fu) | 0x43004300u, one, F::MIDDLE ? centre : centre | (codes & 0x00800080u));
    odd = fma_bf16((upper & 0x007f007fu) | 0x43004300u, one, F::MIDDLE ? centre : centre | (upper & 0x00800080u));
}

// Four elements of register r rounded to bf16, as are their scale and, with minimums, the element that MIDDLE stands for: the
// first and the third in `even`. That element is what codes from the middle are added to: the others are within its group's
// range, half of which the codes' share is at most, where codes from 0 times their scale can be twice as large as elements.
template <class F>
DEVICE void four_bf16(const uint8_t* tile, const uint8_t* super, int lane, int r, uint32_t& even, uint32_t& odd) {
    const int row = lane / 4 + r % 2 * 8, group = (r / 4 * 32 + (r & 2) * 8) / F::GROUP;
    const float of_codes = F::scale(tile, super, row, group);
    const float of_middle = F::MINIMUMS ? fmaf(float(F::MIDDLE), of_codes, -F::minimum(tile, super, row, group)) : 0;
    const uint32_t scale = pack_bf16(of_codes, of_codes), middle = pack_bf16(of_middle, of_middle);
    centred_bf16<F>(F::code(tile, lane, r), even, odd);
    even = fma_bf16(even, scale, middle);
    odd = fma_bf16(odd, scale, middle);
}
#define FORMAT_QUANTIZED 1

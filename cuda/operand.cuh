// The other side of a product: rows of activations, as `quantize.cu` leaves them. Per row one record for each 64 columns;
// columns beyond the matrix are zero.
//
//   Int8   64 signed bytes, two scales (per 32 columns), two sums of the rounded values (what minimums are multiplied with)
//   Bf16   64 numbers rounded to bf16
//   Exact  three times 64 bf16 numbers that add up to the floats: products then have the accuracy of f32
//
// RECORD: bytes in global memory; PITCH: bytes in shared memory; chunk: where 16 bytes of a record are there, so that rows
// which are read together lie in different banks; place: where a column is, in the order in which a lane multiplies them;
// TOKENS: rows of a tile; STAGES: tiles of 64 columns under way.
#pragma once
#include "common.cuh"

struct Int8 {
    static constexpr int RECORD = 80, PITCH = 80, TOKENS = 64, STAGES = 4, PARTS = 0;

    // Lane t of four multiplies columns 16 q + 4 t .. + 3 of all q, which are 16 bytes.
    DEVICE int place(int k) { return k / 4 % 4 * 16 + k / 16 * 4 + k % 4; }

    // Two rows' bytes fill all banks once if the numbers of one lie before them, those of the other behind.
    DEVICE int chunk(int row, int part) { return (part + 1 - row % 2) % 5; }

    // Element k of a record as the product sees it.
    DEVICE float value(const uint8_t* record, int k) {
        return float(((const int8_t*)record)[place(k)]) * ((const float*)(record + 64))[k / 32];
    }
};

struct Bf16 {
    static constexpr int RECORD = 128, PITCH = 128, TOKENS = 64, STAGES = 3, PARTS = 1;

    // The halves of every other row change places.
    DEVICE int chunk(int row, int part) { return part ^ row % 2 * 4; }

    // Lane t of four multiplies columns 16 q + 4 t .. + 3: its columns of two q are 16 bytes, and columns
    // 0 and 2, 1 and 3 of four are pairs, since those are the pairs that codes of bytes become without moving them.
    DEVICE int place(int k) { return k / 32 * 32 + k / 4 % 4 * 8 + k / 16 % 2 * 4 + k % 2 * 2 + k / 2 % 2; }

    DEVICE float value(const uint8_t* record, int k) { return bf16_to_float(((const uint16_t*)record)[place(k)]); }
};

struct Exact {
    static constexpr int RECORD = 384, PITCH = 416, TOKENS = 32, STAGES = 2, PARTS = 3;

    DEVICE int chunk(int, int part) { return part; }

    DEVICE float value(const uint8_t* record, int k) {
        const uint16_t* at = (const uint16_t*)record + k;
        return bf16_to_float(at[0]) + (bf16_to_float(at[64]) + bf16_to_float(at[128]));
    }
};

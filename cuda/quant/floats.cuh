// What the float formats share: the tiles of 16 x 64 and the lanes' registers of codes.cuh, with numbers in place of codes.
#pragma once
#include "../common.cuh"

template <class F>
DEVICE void four_values(const uint8_t* tile, const uint8_t* super, int lane, int r, float (&v)[4]);

// Four elements of register r rounded to bf16: the first and the third in `even`, the others in `odd`.
template <class F>
DEVICE void four_bf16(const uint8_t* tile, const uint8_t* super, int lane, int r, uint32_t& even, uint32_t& odd) {
    if (F::PARTS == 1) { // they are bf16
        const uint32_t* at = (const uint32_t*)tile + (r * WARP + lane) * 2;
        even = pick_bytes(at[0], at[1], 0x5410u), odd = pick_bytes(at[0], at[1], 0x7632u);
        return;
    }
    float v[4];
    four_values<F>(tile, super, lane, r, v);
    even = pack_bf16(v[0], v[2]), odd = pack_bf16(v[1], v[3]);
}
#define FORMAT_QUANTIZED 0

// One operand record (operand.cuh) from the 64 numbers that a warp holds, two neighbouring columns per lane.
//
// Int8: the largest of 32 columns becomes 127, rounding to nearest even; below 1e-36, where the quotient would overflow, all
// become 0.
#pragma once
#include "operand.cuh"

// Sum and maximum over the 16 lanes that hold 32 columns.
DEVICE float half_warp_sum(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
    return x;
}

DEVICE float half_warp_max(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, step));
    return x;
}

// `store` false: the lanes only take part.
DEVICE void write_record(Exact, uint8_t* record, float low, float high, bool store) {
    if (!store) return;
    uint32_t lows[Exact::PARTS], highs[Exact::PARTS];
    split_bf16(low, lows);
    split_bf16(high, highs);
#pragma unroll
    for (int i = 0; i < Exact::PARTS; i++) ((uint32_t*)record)[i * 32 + lane()] = lows[i] | highs[i] << 16;
}

// Of four columns in two lanes, the even lane stores 0 and 2, the odd one 1 and 3.
DEVICE void write_record(Bf16, uint8_t* record, float low, float high, bool store) {
    const bool odd = lane() % 2;
    const float other = __shfl_xor_sync(ALL, odd ? low : high, 1);
    if (store) ((uint32_t*)record)[Bf16::place(2 * lane() - odd) / 2] = odd ? pack_bf16(other, high) : pack_bf16(low, other);
}

DEVICE void write_record(Int8, uint8_t* record, float low, float high, bool store) {
    const float largest = half_warp_max(fmaxf(fabsf(low), fabsf(high)));
    const float scale = largest / 127.0f, inverse = largest > 1e-36f ? 127.0f / largest : 0;
    const int first = int(rintf(low * inverse)), second = int(rintf(high * inverse));
    const float sum = half_warp_sum(float(first + second));
    if (!store) return;
    ((uint16_t*)record)[Int8::place(2 * lane()) / 2] = uint16_t((first & 255) | (second & 255) << 8);
    if (lane() % 16 == 0) {
        float* numbers = (float*)(record + 64);
        numbers[lane() / 16] = scale;
        numbers[2 + lane() / 16] = scale * sum;
    }
}

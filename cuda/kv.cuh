// Cached keys and values: numbers of one of three types, KvType of src/backend/mod.rs: 0 f32, 1 f16, 2 bf16.
#pragma once
#include "common.cuh"

DEVICE float kv_load(const uint8_t* cache, int kind, int64_t at) {
    if (kind == 0) return ((const float*)cache)[at];
    const uint16_t bits = ((const uint16_t*)cache)[at];
    return kind == 1 ? half_to_float(bits) : bf16_to_float(bits);
}

DEVICE void kv_store(uint8_t* cache, int kind, int64_t at, float x) {
    if (kind == 0) {
        ((float*)cache)[at] = x;
    } else {
        ((uint16_t*)cache)[at] = kind == 1 ? float_to_half(x) : uint16_t(float_to_bf16(x));
    }
}

// x as it would come back from the cache.
DEVICE float kv_rounded(float x, int kind) {
    if (kind == 0) return x;
    return kind == 1 ? half_to_float(float_to_half(x)) : bf16_to_float(float_to_bf16(x));
}

// What every kernel needs: fixed-width types, warp and block helpers, and the few instructions that C++ has no name for.
//
// Each wrapper has two bodies: PTX for nvcc and NVRTC, and C++ for `tests/cuda/cusim/`, which runs the same kernels on the
// host. Kernels call nothing below these wrappers, use no `__shared__` arrays (all shared memory is dynamic, so that the
// host can give every block exactly what it asked for), and include no headers (NVRTC has none).
//
// Compile with -fmad=false: a product and a sum are one rounding only where the code says fmaf, so that decoded weights
// have the same bits as on the CPU. Next: tile.cuh (the matrix product), quant/ (formats).
#pragma once

#ifdef __CUDACC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
// Registers: up to 128 per thread, where as many blocks as hold 512 threads are to fit an SM; KERNEL_OF says another number.
#define KERNEL(threads) KERNEL_OF(threads, (threads < 512 ? 512 / threads : 1))
#define KERNEL_OF(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define DEVICE static __device__ __forceinline__
#else
#define KERNEL(threads) extern "C" void
#define KERNEL_OF(threads, blocks) extern "C" void
#define DEVICE static inline __attribute__((always_inline, unused))
#endif

// Entry points of kernels that are compiled once per tensor format: `matmul_int8` of q4_k is `matmul_int8_q4_k`.
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define ENTRY(name) JOIN(name, FORMAT)
#define STRING_(x) #x
#define STRING(x) STRING_(x)

static constexpr int WARP = 32;
static const uint32_t ALL = 0xffffffffu;
#define NEGATIVE_INFINITY bits_to_float(0xff800000u)

DEVICE int lane() { return int(threadIdx.x) % WARP; }
DEVICE int warp() { return int(threadIdx.x) / WARP; }

// The block's dynamic shared memory, 16-byte aligned.
DEVICE uint8_t* shared_memory() {
#ifdef __CUDACC__
    extern __shared__ uint4 dynamic_shared[];
    return (uint8_t*)dynamic_shared;
#else
    return cusim::shared_memory();
#endif
}

// Starts a copy of 16 bytes from global to shared memory; both ends aligned. It has arrived after cp_async_wait.
DEVICE void cp_async(void* shared, const void* global) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(global)
                 : "memory");
#else
    cusim::cp_async(shared, global);
#endif
}

// The same of BYTES bytes, 8 or 16, if `wanted`, without a branch.
template <int BYTES>
DEVICE void cp_async_if(bool wanted, void* shared, const void* global) {
#ifdef __CUDACC__
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    if (BYTES == 16) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; @p cp.async.cg.shared.global [%0], [%1], 16;}" ::"r"(to),
                     "l"(global), "r"((int)wanted)
                     : "memory");
    } else {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; @p cp.async.ca.shared.global [%0], [%1], 8;}" ::"r"(to),
                     "l"(global), "r"((int)wanted)
                     : "memory");
    }
#else
    if (wanted) cusim::cp_async(shared, global, BYTES);
#endif
}

// base + i * SIZE. The compiler keeps what is added later apart from it, as the constant that a copy or a load can add.
template <int SIZE>
DEVICE const uint8_t* element_at(const uint8_t* base, uint32_t i) {
#ifdef __CUDACC__
    const uint8_t* at;
    asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(at) : "r"(i), "n"(SIZE), "l"(base));
    return at;
#else
    return base + uint64_t(i) * SIZE;
#endif
}

// Closes a group of copies.
DEVICE void cp_async_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    cusim::cp_async_commit();
#endif
}

// Waits until at most `PENDING` of this thread's groups are under way. Other threads' copies need a barrier besides.
template <int PENDING>
DEVICE void cp_async_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#else
    cusim::cp_async_wait(PENDING);
#endif
}

// c[16, 8] += a[16, 32] b[32, 8] in signed bytes. Lane 4 g + t holds of a: rows g and g + 8 of columns 4 t .. 4 t + 3
// (a[0], a[1]) and of columns 16 + 4 t .. (a[2], a[3]); of b: the same columns' rows of column g; of c: row g, columns
// 2 t and 2 t + 1 (c[0], c[1]), and row g + 8 (c[2], c[3]).
DEVICE void mma_s8(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
    cusim::mma_s8(c, a0, a1, a2, a3, b0, b1);
#endif
}

// The same for 16 columns of a: only a[0], a[1] and b[0].
DEVICE void mma_s8_k16(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(b0));
#else
    cusim::mma_s8(c, a0, a1, 0, 0, b0, 0);
#endif
}

// c[16, 8] += a[16, 16] b[16, 8] in bf16 with f32 sums. Lane 4 g + t holds of a: columns 2 t, 2 t + 1 of rows g and g + 8
// (a0, a1), columns 8 + 2 t, 9 + 2 t of them (a2, a3); of b: rows 2 t, 2 t + 1 (b0) and 8 + 2 t, 9 + 2 t (b1) of column g.
DEVICE void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
    cusim::mma_bf16(c, a0, a1, a2, a3, b0, b1);
#endif
}

// Two 8 x 8 matrices of 16-bit numbers from shared memory, transposed: lanes 0 to 15 give the addresses of their rows
// (16-byte aligned), lane 4 g + t receives rows 2 t and 2 t + 1 of column g of each.
DEVICE void ldmatrix_transposed(uint32_t& m0, uint32_t& m1, const void* row) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(m0), "=r"(m1)
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
#else
    cusim::ldmatrix_transposed(m0, m1, row);
#endif
}

// The same in half precision.
DEVICE void mma_f16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
    cusim::mma_f16(c, a0, a1, a2, a3, b0, b1);
#endif
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory: lanes 8 i to 8 i + 7 give the addresses of the rows of matrix i
// (16-byte aligned), lane 4 g + t receives elements 2 t and 2 t + 1 of row g of each.
DEVICE void ldmatrix4(uint32_t (&m)[4], const void* row) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
#else
    cusim::ldmatrix4(m, row, false);
#endif
}

// The same, transposed: rows 2 t and 2 t + 1 of column g of each.
DEVICE void ldmatrix4_transposed(uint32_t (&m)[4], const void* row) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
#else
    cusim::ldmatrix4(m, row, true);
#endif
}

// Four bytes of the eight in `low` and `high`, chosen by the low three bits of each of the selector's four nibbles.
DEVICE uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t selector) {
#ifdef __CUDACC__
    return __byte_perm(low, high, selector & 0x7777);
#else
    return cusim::pick_bytes(low, high, selector & 0x7777);
#endif
}

// The bits of `mask` flipped, in one instruction: what is shifted and masked from the result is not flipped piece by piece.
DEVICE uint32_t flip_bits(uint32_t word, uint32_t mask) {
#ifdef __CUDACC__
    uint32_t flipped;
    asm("xor.b32 %0, %1, %2;" : "=r"(flipped) : "r"(word), "r"(mask));
    return flipped;
#else
    return word ^ mask;
#endif
}

DEVICE float bits_to_float(uint32_t bits) {
#ifdef __CUDACC__
    return __uint_as_float(bits);
#else
    return __builtin_bit_cast(float, bits);
#endif
}

DEVICE uint32_t float_to_bits(float x) {
#ifdef __CUDACC__
    return __float_as_uint(x);
#else
    return __builtin_bit_cast(uint32_t, x);
#endif
}

// A half-precision number.
DEVICE float half_to_float(uint16_t h) {
#ifdef __CUDACC__
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
#else
    return cusim::half_to_float(h);
#endif
}

// Rounded to half precision, to nearest even.
DEVICE uint16_t float_to_half(float x) {
#ifdef __CUDACC__
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
#else
    return cusim::float_to_half(x);
#endif
}

DEVICE float bf16_to_float(uint32_t bits) { return bits_to_float(bits << 16); }

// Rounded to bf16, to nearest even; the bits.
DEVICE uint32_t float_to_bf16(float x) {
    const uint32_t bits = float_to_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40; // NaN stays one
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

// Two floats rounded to half precision, `low` in the low half; beyond its range, the largest there is.
DEVICE uint32_t pack_f16(float low, float high) {
    low = fminf(fmaxf(low, -65504.0f), 65504.0f), high = fminf(fmaxf(high, -65504.0f), 65504.0f);
#ifdef __CUDACC__
    uint32_t both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return cusim::float_to_half(low) | uint32_t(cusim::float_to_half(high)) << 16;
#endif
}

// Two floats rounded to bf16.
DEVICE uint32_t pack_bf16(float low, float high) {
#ifdef __CUDACC__
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return float_to_bf16(low) | float_to_bf16(high) << 16;
#endif
}

// a b + c of two bf16 numbers each, rounded once.
DEVICE uint32_t fma_bf16(uint32_t a, uint32_t b, uint32_t c) {
#ifdef __CUDACC__
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#else
    const float low = fmaf(bf16_to_float(a & 0xffff), bf16_to_float(b & 0xffff), bf16_to_float(c & 0xffff));
    return pack_bf16(low, fmaf(bf16_to_float(a >> 16), bf16_to_float(b >> 16), bf16_to_float(c >> 16)));
#endif
}

// 2^x, off by 2^-22 of it at most; results below 2^-126 may become 0.
DEVICE float exp2_near(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

// The next `PARTS` terms of x = bf16 + bf16 + ...; three hold every bit of a float.
template <int PARTS>
DEVICE void split_bf16(float x, uint32_t (&parts)[PARTS]) {
#pragma unroll
    for (int i = 0; i < PARTS; i++) {
        parts[i] = float_to_bf16(x);
        x -= bf16_to_float(parts[i]);
    }
}

DEVICE float warp_sum(float x) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
    return x;
}

DEVICE float warp_max(float x) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, step));
    return x;
}

// The sum of all threads' x, the same for each. `scratch`: a float per warp, free again after the next barrier.
DEVICE float block_sum(float x, float* scratch) {
    x = warp_sum(x);
    if (lane() == 0) scratch[warp()] = x;
    __syncthreads();
    float sum = 0;
    for (int w = 0; w < int(blockDim.x) / WARP; w++) sum += scratch[w];
    return sum;
}

// GELU in its tanh form, as the model was trained with.
DEVICE float gelu_tanh(float x) {
    const float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + tanhf(inner));
}

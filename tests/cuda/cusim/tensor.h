// Tensor-core instructions over the fragments of a warp's 32 lanes, and ldmatrix. Part of cusim.h. Layouts: the PTX manual,
// "Matrix Fragments for mma.m16n8k32" and "... m16n8k16".
namespace cusim {

// All lanes' fragments, once everybody has given its own.
CUSIM_RUNTIME inline const Fragment* gather(uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                            uint32_t b1) {
    Warp& w = warp();
    const unsigned phase = fiber->phase++ & 1;
    w.fragments[phase][lane()] = Fragment{{a0, a1, a2, a3}, {b0, b1}};
    wait(w.barrier);
    return w.fragments[phase];
}

CUSIM_RUNTIME inline void mma_s8(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                 uint32_t b1) {
    const Fragment* all = gather(a0, a1, a2, a3, b0, b1);
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 32; k++) { // element k: lane k / 4 % 4 of its row, byte k % 4, half k / 16
            const uint32_t a = all[row % 8 * 4 + k / 4 % 4].a[row / 8 + k / 16 * 2];
            const uint32_t b = all[column * 4 + k / 4 % 4].b[k / 16];
            c[i] += int(int8_t(a >> k % 4 * 8)) * int(int8_t(b >> k % 4 * 8));
        }
    }
}

inline float bf16(uint32_t two, unsigned i) {
    const uint32_t bits = i ? two & 0xffff0000u : two << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline float f16(uint32_t two, unsigned i) { return half_to_float(uint16_t(i ? two >> 16 : two)); }

// m16n8k16; `number` reads one of two numbers.
template <float number(uint32_t, unsigned)>
CUSIM_RUNTIME inline void mma_16bit(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                    uint32_t b1) {
    const Fragment* all = gather(a0, a1, a2, a3, b0, b1);
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
        float sum = 0;
        for (unsigned k = 0; k < 16; k++) { // element k: lane k / 2 % 4 of its row, number k % 2, half k / 8
            const uint32_t a = all[row % 8 * 4 + k / 2 % 4].a[row / 8 + k / 8 * 2];
            const uint32_t b = all[column * 4 + k / 2 % 4].b[k / 8];
            sum += number(a, k % 2) * number(b, k % 2); // the product is exact: 16 or 22 bits
        }
        c[i] += sum;
    }
}

CUSIM_RUNTIME inline void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                   uint32_t b1) {
    mma_16bit<bf16>(c, a0, a1, a2, a3, b0, b1);
}

CUSIM_RUNTIME inline void mma_f16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                  uint32_t b1) {
    mma_16bit<f16>(c, a0, a1, a2, a3, b0, b1);
}

// Reads for another lane's address: what the race checker sees.
inline uint16_t read(const void* row, unsigned i) { return static_cast<const uint16_t*>(row)[i]; }

inline void ldmatrix_transposed(uint32_t& m0, uint32_t& m1, const void* row) {
    if (reinterpret_cast<uintptr_t>(row) % 16) fail("ldmatrix: a row is not aligned to 16");
    Warp& w = warp();
    const unsigned phase = fiber->phase++ & 1, g = lane() / 4, t = lane() % 4;
    w.slots[phase][lane()] = reinterpret_cast<uint64_t>(row);
    wait(w.barrier);
    for (unsigned m = 0; m < 2; m++) {
        const void* first = reinterpret_cast<const void*>(w.slots[phase][m * 8 + 2 * t]);
        const void* second = reinterpret_cast<const void*>(w.slots[phase][m * 8 + 2 * t + 1]);
        (m ? m1 : m0) = uint32_t(read(first, g)) | uint32_t(read(second, g)) << 16;
    }
}

inline void ldmatrix4(uint32_t (&m)[4], const void* row, bool transposed) {
    if (reinterpret_cast<uintptr_t>(row) % 16) fail("ldmatrix: a row is not aligned to 16");
    Warp& w = warp();
    const unsigned phase = fiber->phase++ & 1, g = lane() / 4, t = lane() % 4;
    w.slots[phase][lane()] = reinterpret_cast<uint64_t>(row);
    wait(w.barrier);
    for (unsigned i = 0; i < 4; i++) {
        const auto at = [&](unsigned r, unsigned c) {
            return uint32_t(read(reinterpret_cast<const void*>(w.slots[phase][i * 8 + r]), c));
        };
        m[i] = transposed ? at(2 * t, g) | at(2 * t + 1, g) << 16 : at(g, 2 * t) | at(g, 2 * t + 1) << 16;
    }
}

} // namespace cusim

// Number conversions and the functions of CUDA that C++ lacks. Part of cusim.h.
namespace cusim {

inline uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t bytes = uint64_t(high) << 32 | low;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) out |= uint32_t(bytes >> (selector >> (4 * i) & 7) * 8 & 255) << (8 * i);
    return out;
}

inline float half_to_float(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 0) { // zero or subnormal: mantissa * 2^-24
        const float x = float(mantissa) * 0x1p-24f;
        return sign ? -x : x;
    }
    const uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | mantissa << 13;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline uint16_t float_to_half(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return sign | 0x7e00;
    if (bits >= 0x47800000) return sign | 0x7c00; // 65536 and more
    if (bits < 0x38800000) {                      // below 2^-14: units of 2^-24
        float small;
        std::memcpy(&small, &bits, 4);
        return sign | uint16_t(std::lrintf(small * 0x1p24f));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return sign | uint16_t((bits >> 13) - (112 << 10));
}

} // namespace cusim

using std::max;
using std::min;
inline void sincospif(float x, float* sine, float* cosine) {
    *sine = float(std::sin(M_PI * double(x)));
    *cosine = float(std::cos(M_PI * double(x)));
}

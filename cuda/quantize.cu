// Rows of activations become operand records (operand.cuh): x `[rows, k]` f32, out `[rows, k_tiles]` records, columns from k
// on are zero.
//
// quantize_*: grid (k_tiles, rows / 4), 4 warps, a warp per record. gelu_mul_*: the same of gelu_tanh(gate) * up, which does not
// reach memory in f32; the same bits as from elementwise.cu.
// rms_norm_*: of the rows' norm (rms_norm.cu), which does not reach memory in f32; the same bits. Grid (rows), 256 threads per
// row. Shared memory: a float per warp.
#include "norm.cuh"
#include "record.cuh"

// `value(i)`: number i of `[rows, k]`.
template <class X, class Value>
DEVICE void quantize(int rows, int k, int k_tiles, uint8_t* out, Value value) {
    const int row = blockIdx.y * 4 + warp(), column = blockIdx.x * 64 + lane() * 2;
    const int64_t at = int64_t(row) * k + column;
    const float low = row < rows && column < k ? value(at) : 0, high = row < rows && column + 1 < k ? value(at + 1) : 0;
    write_record(X(), out + (int64_t(row) * k_tiles + blockIdx.x) * X::RECORD, low, high, row < rows);
}

template <class X>
DEVICE void rms_norm_record(const float* x, const float* weight, int k, int k_tiles, float eps, uint8_t* out) {
    x += int64_t(blockIdx.x) * k;
    const float factor = norm_factor(x, k, eps, (float*)shared_memory());
    for (int tile = warp(); tile < k_tiles; tile += int(blockDim.x) / WARP) {
        const int column = tile * 64 + lane() * 2;
        const float low = column < k ? x[column] * (factor * weight[column]) : 0;
        const float high = column + 1 < k ? x[column + 1] * (factor * weight[column + 1]) : 0;
        write_record(X(), out + (int64_t(blockIdx.x) * k_tiles + tile) * X::RECORD, low, high, true);
    }
}

#define QUANTIZE(X, name)                                                                                              \
    KERNEL(128) quantize_##name(const float* x, int rows, int k, int k_tiles, uint8_t* out) {                          \
        quantize<X>(rows, k, k_tiles, out, [&](int64_t i) { return x[i]; });                                           \
    }                                                                                                                  \
    KERNEL(128) gelu_mul_##name(const float* gate, const float* up, int rows, int k, int k_tiles, uint8_t* out) {      \
        quantize<X>(rows, k, k_tiles, out, [&](int64_t i) { return gelu_tanh(gate[i]) * up[i]; });                     \
    }                                                                                                                  \
    KERNEL(256) rms_norm_##name(const float* x, const float* weight, int k, int k_tiles, float eps, uint8_t* out) {    \
        rms_norm_record<X>(x, weight, k, k_tiles, eps, out);                                                           \
    }

QUANTIZE(Int8, int8)
QUANTIZE(Bf16, bf16)
QUANTIZE(Exact, exact)

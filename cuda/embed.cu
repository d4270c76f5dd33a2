// out[t, :] = table[ids[t], :] * scale: table `[vocab, k]` in tiles, out `[rows, k]` f32.
//
// Grid (rows), 128 threads, each with four columns at a time: one register of one lane of a tile (quant/codes.cuh).
#include "quant/format.cuh"
#include "element.cuh"

KERNEL(128) ENTRY(embed)(const uint8_t* table, int k, int k_tiles, const uint32_t* ids, float scale, float* out) {
    const int64_t row = ids[blockIdx.x];
    for (int column = threadIdx.x * 4; column < k; column += blockDim.x * 4) {
        float v[4];
        elements<FORMAT>(table, k_tiles, row, column, v);
        for (int i = 0; i < 4 && column + i < k; i++) out[int64_t(blockIdx.x) * k + column + i] = v[i] * scale;
    }
}

// soft[t, :] = soft[t, :] * rescale[t] + sum over the chunk's tokens v of e[t, v] * embedding[first + v, :]: e `[rows, width]`
// f32 and the run sums as head_statistics.cu left them, embedding `[vocab, hidden]` in tiles, soft `[rows, hidden]` f32.
//
// Grid (hidden / 64, rows / 64), 4 warps with 16 rows each. For 64 tokens at a time (a run): if no row of the block has more
// than 1e-12 there - the run then moves the result by less than f32 holds - it is skipped; else its e and its part of the
// embedding go to shared memory in bf16 parts (one, or three that hold all of f32) and through the tensor cores. After the
// first steps of a block most runs are skipped. Shared memory: 2 * PARTS * 64 rows of 72 bf16.
#include "quant/format.cuh"
#include "element.cuh"
#include "head.cuh"

static constexpr int ROWS = 64, COLUMNS = 64, PITCH = 72;
static constexpr float LEAST = 1e-12f;

template <int PARTS>
DEVICE void store_parts(uint8_t* memory, int row, int column, float x) {
    uint32_t parts[PARTS];
    split_bf16(x, parts);
#pragma unroll
    for (int p = 0; p < PARTS; p++) ((uint16_t*)memory)[(p * 64 + row) * PITCH + column] = uint16_t(parts[p]);
}

template <int PARTS>
DEVICE void soft_embedding(const uint8_t* embedding, int k_tiles, int hidden, const float* e, int width, int first, int n,
                           const HeadRow* state, const float* run_sums, int runs, int rows, float* soft) {
    uint8_t* probabilities = shared_memory();
    uint8_t* tokens = probabilities + PARTS * 64 * PITCH * 2;
    const int first_row = blockIdx.y * ROWS, first_column = blockIdx.x * COLUMNS;
    const int count = min(rows - first_row, ROWS), g = lane() / 4, t = lane() % 4;
    float sums[8][4];
    bool still = true; // nothing to rescale
#pragma unroll
    for (int n8 = 0; n8 < 8; n8++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = first_row + warp() * 16 + g + i / 2 * 8, column = first_column + n8 * 8 + 2 * t + i % 2;
            const bool inside = row < rows && column < hidden;
            const float factor = inside && first > 0 ? state[row].rescale : 1;
            still = still && factor == 1.0f;
            sums[n8][i] = inside && first > 0 ? soft[int64_t(row) * hidden + column] * factor : 0;
        }
    bool any = false;
    for (int run = 0; run * RUN < n; run++) {
        const int row = first_row + threadIdx.x;
        const bool mine = int(threadIdx.x) < count && run_sums[int64_t(row) * runs + first / RUN + run] > LEAST;
        if (!__syncthreads_or(mine)) continue; // also: everybody is done with the run before
        any = true;
        const int run_tokens = min(n - run * RUN, RUN);
        for (int i = threadIdx.x; i < ROWS * RUN; i += blockDim.x) {
            const int r = i / RUN, token = i % RUN;
            const bool inside = r < count && token < run_tokens;
            store_parts<PARTS>(probabilities, r, token,
                               inside ? e[int64_t(first_row + r) * width + run * RUN + token] : 0);
        }
        for (int i = threadIdx.x; i < RUN * COLUMNS / 4; i += blockDim.x) {
            const int token = i / (COLUMNS / 4), column = i % (COLUMNS / 4) * 4;
            float v[4] = {0, 0, 0, 0};
            if (token < run_tokens) {
                elements<FORMAT>(embedding, k_tiles, first + run * RUN + token, first_column + column, v);
            }
#pragma unroll
            for (int j = 0; j < 4; j++) store_parts<PARTS>(tokens, token, column + j, v[j]);
        }
        __syncthreads();
#pragma unroll
        for (int k16 = 0; k16 < RUN; k16 += 16) {
            uint32_t a[PARTS][4];
#pragma unroll
            for (int p = 0; p < PARTS; p++) {
                const uint16_t* at = (const uint16_t*)probabilities + (p * 64 + warp() * 16 + g) * PITCH + k16 + 2 * t;
                a[p][0] = *(const uint32_t*)at, a[p][1] = *(const uint32_t*)(at + 8 * PITCH);
                a[p][2] = *(const uint32_t*)(at + 8), a[p][3] = *(const uint32_t*)(at + 8 * PITCH + 8);
            }
#pragma unroll
            for (int n8 = 0; n8 < 8; n8++) {
#pragma unroll
                for (int p = PARTS - 1; p >= 0; p--) {
                    uint32_t b0, b1;
                    const uint16_t* at = (const uint16_t*)tokens + (p * 64 + k16 + lane() % 16) * PITCH + n8 * 8;
                    ldmatrix_transposed(b0, b1, at);
#pragma unroll
                    for (int m = PARTS - 1; m >= 0; m--) {
                        if (m + p < PARTS) mma_bf16(sums[n8], a[m][0], a[m][1], a[m][2], a[m][3], b0, b1);
                    }
                }
            }
        }
    }
    if (!__syncthreads_or(any || !still || first == 0)) return;
#pragma unroll
    for (int n8 = 0; n8 < 8; n8++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = first_row + warp() * 16 + g + i / 2 * 8, column = first_column + n8 * 8 + 2 * t + i % 2;
            if (row < rows && column < hidden) soft[int64_t(row) * hidden + column] = sums[n8][i];
        }
}

#define SOFT_EMBEDDING(name, PARTS)                                                                                    \
    KERNEL(128) ENTRY(name)(const uint8_t* embedding, int k_tiles, int hidden, const float* e, int width, int first,   \
                            int n, const HeadRow* state, const float* run_sums, int runs, int rows, float* soft) {     \
        soft_embedding<PARTS>(embedding, k_tiles, hidden, e, width, first, n, state, run_sums, runs, rows, soft);      \
    }

SOFT_EMBEDDING(soft_embedding_bf16, 1)
SOFT_EMBEDDING(soft_embedding_exact, 3)

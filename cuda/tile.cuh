// The matrix product with dequantization fused: a block multiplies 64 rows of a weight (16 per warp) with up to
// `X::TOKENS` rows of activations.
//
//   for each 64 columns, STAGES - 1 ahead:        cp.async: the warp's weight tile, the block's activation records
//       unpack the tile into registers            16 rows x 64 columns, eight registers of four codes per lane
//       for each 8 tokens:                        mma.sync, the weight on the side of 16, tokens on the side of 8
//           Int8: two products over 32 columns in integers, each scaled into the f32 sums
//           Bf16: four products over 16 columns; a load of activations serves all weight tiles of the warp
//           Exact: four products over 16 columns, for each pair of parts that matters
//
// The order of a sum depends on the columns alone, so an element is the same bits whatever tile it is computed in.
#pragma once
#include "operand.cuh"

// Where a weight's tiles start: `rows` rows of 16 x `k_tiles` tiles each.
template <class F>
DEVICE int64_t row_tile_bytes(int k_tiles) {
    return int64_t(k_tiles) * F::TILE_BYTES + int64_t(k_tiles / 4) * F::SUPER_BYTES;
}

template <class F, class X, int W>
struct Product {
    static constexpr int WARPS = 4, GROUPS = X::TOKENS / 8, WEIGHT_BYTES = F::TILE_BYTES + F::SUPER_BYTES;
    static constexpr int STAGE_BYTES = X::TOKENS * X::PITCH + WARPS * W * WEIGHT_BYTES;

    // What a thread copies for each 64 columns does not change but for where they start, so it is found once: 16 bytes
    // at a time, of the records for the whole block (`from`, in 16 bytes from `x`, `to` in the stage) and of the tiles for
    // its warp. A tile's last chunks and the numbers of 256 columns, which lie elsewhere, are copied together.
    static constexpr int CHUNKS = X::RECORD / 16, COPIES = (X::TOKENS * CHUNKS + WARPS * WARP - 1) / (WARPS * WARP);
    static constexpr int TILE_CHUNKS = F::TILE_BYTES / 16, WEIGHT_CHUNKS = WEIGHT_BYTES / 16;

    struct Share {
        uint32_t from[COPIES], to[COPIES];
        int copies; // those i that are below: i * 128 < copies
    };

    DEVICE void share(Share& mine, int k_tiles, const uint32_t* row_of, int first, int tokens) {
        mine.copies = tokens * CHUNKS - int(threadIdx.x);
#pragma unroll
        for (int c = 0; c < COPIES; c++) {
            const int i = int(threadIdx.x) + c * WARPS * WARP, token = i / CHUNKS, part = i % CHUNKS;
            mine.to[c] = token * X::PITCH + (X::SWIZZLED ? part ^ token % 2 * 4 : part) * 16;
            if (c * WARPS * WARP >= mine.copies) continue;
            const uint32_t row = row_of ? row_of[first + token] : uint32_t(first + token);
            mine.from[c] = row * uint32_t(k_tiles * CHUNKS) + part;
        }
    }

    // Copies this thread's share of columns `64 kt ..` into the stage's memory.
    DEVICE void fetch(uint8_t* stage, const uint8_t* const (&weight)[W], int k_tiles, int kt, const uint8_t* x,
                      const Share& mine) {
        const uint8_t* records = x + int64_t(kt) * X::RECORD;
#pragma unroll
        for (int c = 0; c < COPIES; c++) {
            if (c * WARPS * WARP < mine.copies) cp_async(stage + mine.to[c], records + uint64_t(mine.from[c]) * 16);
        }
        uint8_t* to = stage + X::TOKENS * X::PITCH + warp() * (W * WEIGHT_BYTES) + lane() * 16;
        const uint32_t tile = kt * F::TILE_BYTES, super = k_tiles * F::TILE_BYTES + (kt / 4) * F::SUPER_BYTES;
#pragma unroll
        for (int w = 0; w < W; w++) {
            if (!weight[w]) continue;
#pragma unroll
            for (int first = 0; first < WEIGHT_CHUNKS; first += WARP) {
                const int chunk = first + lane();
                const uint32_t at = chunk < TILE_CHUNKS ? tile + chunk * 16 : super + (chunk - TILE_CHUNKS) * 16;
                if (chunk < WEIGHT_CHUNKS) cp_async(to + w * WEIGHT_BYTES + first * 16, weight[w] + at);
            }
        }
    }

#if FORMAT_QUANTIZED
    DEVICE void multiply_int8(float (&sums)[GROUPS][4], const uint8_t* tile, const uint8_t* x, int tokens) {
        const int g = lane() / 4, t = lane() % 4;
        const uint8_t* super = tile + F::TILE_BYTES;
        uint32_t a[8];
#pragma unroll
        for (int r = 0; r < 8; r++) a[r] = signed_code<F>(tile, lane(), r);
        float scale[2][64 / F::GROUP], minimum[2][2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int i = 0; i < 64 / F::GROUP; i++) scale[half][i] = F::scale(tile, super, g + 8 * half, i);
#pragma unroll
            for (int j = 0; j < 2; j++) minimum[half][j] = F::MINIMUMS ? F::minimum(tile, super, g + 8 * half, j) : 0;
        }
#pragma unroll
        for (int n = 0; n < GROUPS; n++) {
            if (n * 8 >= tokens) break;
            const uint8_t* mine = x + (n * 8 + g) * X::PITCH + 4 * t;
            const float* left = (const float*)(x + (n * 8 + 2 * t) * X::PITCH + 64);
            const float* right = (const float*)(x + (n * 8 + 2 * t + 1) * X::PITCH + 64);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const uint32_t b0 = *(const uint32_t*)(mine + 32 * j), b1 = *(const uint32_t*)(mine + 32 * j + 16);
                if (F::GROUP == 32) {
                    int c[4] = {0, 0, 0, 0};
                    mma_s8(c, a[4 * j], a[4 * j + 1], a[4 * j + 2], a[4 * j + 3], b0, b1);
                    add(sums[n], c, scale[0][j], scale[1][j], left[j], right[j]);
                } else {
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        int c[4] = {0, 0, 0, 0};
                        mma_s8_k16(c, a[4 * j + 2 * h], a[4 * j + 2 * h + 1], h ? b1 : b0);
                        const int group = (2 * j + h) % (64 / F::GROUP);
                        add(sums[n], c, scale[0][group], scale[1][group], left[j], right[j]);
                    }
                }
                if (F::MINIMUMS) {
                    sums[n][0] = fmaf(-minimum[0][j], left[2 + j], sums[n][0]);
                    sums[n][1] = fmaf(-minimum[0][j], right[2 + j], sums[n][1]);
                    sums[n][2] = fmaf(-minimum[1][j], left[2 + j], sums[n][2]);
                    sums[n][3] = fmaf(-minimum[1][j], right[2 + j], sums[n][3]);
                }
            }
        }
    }

    // sums += integers x scales; `upper` and `lower` of the weight's rows, `left` and `right` of the tokens.
    DEVICE void add(float (&sums)[4], const int (&c)[4], float upper, float lower, float left, float right) {
        sums[0] = fmaf(float(c[0]), upper * left, sums[0]);
        sums[1] = fmaf(float(c[1]), upper * right, sums[1]);
        sums[2] = fmaf(float(c[2]), lower * left, sums[2]);
        sums[3] = fmaf(float(c[3]), lower * right, sums[3]);
    }
#endif

    // Eight lanes read 16 bytes at a time: of two rows, one half of each, which SWIZZLED puts in different banks.
    DEVICE void multiply_bf16(float (&sums)[W][GROUPS][4], const uint8_t* tiles, const uint8_t* x, int tokens) {
        const int g = lane() / 4, t = lane() % 4;
        uint32_t a[W][4][4];
#pragma unroll
        for (int w = 0; w < W; w++)
#pragma unroll
            for (int r = 0; r < 8; r++) {
                const uint8_t* tile = tiles + w * WEIGHT_BYTES;
                four_bf16<F>(tile, tile + F::TILE_BYTES, lane(), r, a[w][r / 2][r % 2], a[w][r / 2][r % 2 + 2]);
            }
        const uint8_t* halves[2] = {x + g * X::PITCH + g % 2 * 64 + t * 16, x + g * X::PITCH + (1 - g % 2) * 64 + t * 16};
#pragma unroll
        for (int n = 0; n < GROUPS; n++) {
            if (n * 8 >= tokens) break;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const uint4 b = *(const uint4*)(halves[half] + n * 8 * X::PITCH);
#pragma unroll
                for (int w = 0; w < W; w++) {
                    const uint32_t(&first)[4] = a[w][2 * half], (&second)[4] = a[w][2 * half + 1];
                    mma_bf16(sums[w][n], first[0], first[1], first[2], first[3], b.x, b.y);
                    mma_bf16(sums[w][n], second[0], second[1], second[2], second[3], b.z, b.w);
                }
            }
        }
    }

    DEVICE void multiply_exact(float (&sums)[GROUPS][4], const uint8_t* tile, const uint8_t* x, int tokens) {
        static constexpr int PARTS = X::PARTS < 1 ? 1 : X::PARTS, MINE = F::PARTS < PARTS ? F::PARTS : PARTS;
        const int g = lane() / 4, t = lane() % 4;
#pragma unroll
        for (int q = 0; q < 4; q++) { // 16 columns: element 4 t + i of them takes place 2 t + i % 2 + 8 (i / 2) of the mma
            uint32_t a[MINE][4];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float v[4];
                four_values<F>(tile, tile + F::TILE_BYTES, lane(), 4 * (q / 2) + 2 * (q % 2) + half, v);
                uint32_t parts[4][MINE];
#pragma unroll
                for (int i = 0; i < 4; i++) split_bf16(v[i], parts[i]);
#pragma unroll
                for (int p = 0; p < MINE; p++) {
                    a[p][half] = parts[0][p] | parts[1][p] << 16;
                    a[p][half + 2] = parts[2][p] | parts[3][p] << 16;
                }
            }
#pragma unroll
            for (int n = 0; n < GROUPS; n++) {
                if (n * 8 >= tokens) break;
#pragma unroll
                for (int p = PARTS - 1; p >= 0; p--) { // small products first
                    const uint2 b = *(const uint2*)(x + (n * 8 + g) * X::PITCH + p * 128 + (16 * q + 4 * t) * 2);
#pragma unroll
                    for (int m = MINE - 1; m >= 0; m--) {
                        if (m + p < PARTS) mma_bf16(sums[n], a[m][0], a[m][1], a[m][2], a[m][3], b.x, b.y);
                    }
                }
            }
        }
    }

    DEVICE void multiply(float (&sums)[W][GROUPS][4], const uint8_t* tiles, const uint8_t* x, int tokens) {
        if (X::PARTS == 1) multiply_bf16(sums, tiles, x, tokens);
#pragma unroll
        for (int w = 0; w < W; w++) {
#if FORMAT_QUANTIZED
            if (X::PARTS == 0) multiply_int8(sums[w], tiles + w * WEIGHT_BYTES, x, tokens);
#endif
            if (X::PARTS == 3) multiply_exact(sums[w], tiles + w * WEIGHT_BYTES, x, tokens);
        }
    }

    // Products of the warp's weight tiles (16 rows each, from column 0; all null: none) with rows `first .. first + tokens` of
    // `x`, or with rows row_of[first ..]. Every warp of the block takes part.
    DEVICE void run(float (&sums)[W][GROUPS][4], const uint8_t* const (&weight)[W], int k_tiles, const uint8_t* x,
                    const uint32_t* row_of, int first, int tokens) {
        uint8_t* memory = shared_memory();
#pragma unroll
        for (int w = 0; w < W; w++)
#pragma unroll
            for (int n = 0; n < GROUPS; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) sums[w][n][i] = 0;
        Share mine;
        share(mine, k_tiles, row_of, first, tokens);
#pragma unroll 1
        for (int s = 0; s < X::STAGES - 1; s++) {
            if (s < k_tiles) fetch(memory + s * STAGE_BYTES, weight, k_tiles, s, x, mine);
            cp_async_commit();
        }
        for (int kt = 0; kt < k_tiles; kt++) {
            cp_async_wait<X::STAGES - 2>();
            __syncthreads(); // the stage is there for all warps, and all are done with the one before it
            const int ahead = kt + X::STAGES - 1;
            if (ahead < k_tiles) {
                fetch(memory + ahead % X::STAGES * STAGE_BYTES, weight, k_tiles, ahead, x, mine);
            }
            cp_async_commit();
            const uint8_t* stage = memory + kt % X::STAGES * STAGE_BYTES;
            const uint8_t* tiles = stage + X::TOKENS * X::PITCH + warp() * W * WEIGHT_BYTES;
            if (weight[0]) multiply(sums, tiles, stage, tokens);
        }
        __syncthreads(); // the memory may be used again
    }
};

// Calls store(row in the tile, token, value) for a lane's sums of one weight tile.
template <int GROUPS, class Store>
DEVICE void each_sum(const float (&sums)[GROUPS][4], int tokens, Store store) {
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < GROUPS; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = n * 8 + 2 * t + i % 2;
            if (token < tokens) store(g + i / 2 * 8, token, sums[n][i]);
        }
}

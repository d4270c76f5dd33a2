// The matrix product with dequantization fused: each warp of a block multiplies W times 16 rows of weights with up to
// `X::TOKENS` rows of activations.
//
//   for each 64 columns, STAGES - 1 ahead:        cp.async: the warp's weight tiles, the block's activation records
//       unpack the tiles into registers           16 rows x 64 columns, eight registers of four codes per lane
//       for each 8 tokens:                        mma.sync, the weight on the side of 16, tokens on the side of 8
//           Int8: two products over 32 columns in integers, each scaled into the f32 sums
//           Bf16: four products over 16 columns
//           Int8, Bf16: a load of activations serves all weight tiles of the warp
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
    // Shared memory: STAGES times the records of the block and the tiles of each warp; then twice, for 256 columns and for
    // the next, what stands for 256 columns of each warp's rows, and with MINIMUMS_OF_256 the tokens' sums of 32 columns.
    static constexpr int WARPS = 4, GROUPS = X::TOKENS / 8, STAGE_BYTES = X::TOKENS * X::PITCH + WARPS * W * F::TILE_BYTES;
    static constexpr int SUPERS_BYTES = WARPS * W * F::SUPER_BYTES;

    // 8-bit products with minimums that are integers times a number for 256 columns: the tensor cores multiply those
    // integers, eight of a row, with the tokens' sums, in bf16: integers are exact in it, and sums have two parts.
#if FORMAT_QUANTIZED
    static constexpr bool MINIMUMS_OF_256 = X::PARTS == 0 && F::MINIMUMS && F::SUPER_BYTES > 0;
#else
    static constexpr bool MINIMUMS_OF_256 = false;
#endif
    static constexpr int PIECE_BYTES = SUPERS_BYTES + (MINIMUMS_OF_256 ? X::TOKENS * 32 : 0);

    // What a thread copies for each 64 columns, 16 bytes at a time: its share of the records for the whole block and of the
    // tiles for its warp. The copies are one run of instructions, some of them switched off: branches would cost more.
    static constexpr int CHUNKS = X::RECORD / 16, ROUND = WARPS * WARP / CHUNKS & ~1; // tokens at once, an even number
    static constexpr int COPIES = (X::TOKENS + ROUND - 1) / ROUND;
    static constexpr int TILE_CHUNKS = F::TILE_BYTES / 16, SUPER_CHUNKS = F::SUPER_BYTES / 16;

    // Tiles of a pass of the loop. With four, as many as there are stages, the compiler knows where each stage lies.
    static constexpr int UNROLL = X::STAGES == 4 ? 4 : 1;

    struct Share {
        const uint8_t *records, *tiles[W], *super;
        uint32_t from[COPIES]; // in 16 bytes from `records`
        int to;                // in a stage
        // Those copies are made that are below: c * ROUND < tokens, 16-byte c < chunks of a tile, 0 < supers.
        int tokens, chunks, supers;
    };

    DEVICE void share(Share& mine, const uint8_t* const (&weight)[W], int k_tiles, const uint8_t* x, const uint32_t* row_of,
                      int first, int tokens) {
        const int token = int(threadIdx.x) / CHUNKS, part = int(threadIdx.x) % CHUNKS;
        mine.records = x, mine.super = nullptr;
        mine.to = token * X::PITCH + X::chunk(token, part) * 16;
        mine.tokens = token < ROUND ? tokens - token : 0;
#pragma unroll
        for (int c = 0; c < COPIES; c++) {
            mine.from[c] = 0;
            if (c * ROUND >= mine.tokens) continue;
            const int at = first + token + c * ROUND;
            mine.from[c] = (row_of ? row_of[at] : uint32_t(at)) * uint32_t(k_tiles * CHUNKS) + part;
        }
        mine.chunks = weight[0] ? TILE_CHUNKS - lane() : 0;
        mine.supers = weight[0] ? W * SUPER_CHUNKS - lane() : 0;
#pragma unroll
        for (int w = 0; w < W; w++) mine.tiles[w] = weight[w] + lane() * 16;
        if constexpr (F::SUPER_BYTES > 0) {
            const int w = W > 1 && lane() >= SUPER_CHUNKS; // whose numbers this lane copies
            mine.super = (w ? weight[W - 1] : weight[0]) + int64_t(k_tiles) * F::TILE_BYTES;
            mine.super += (lane() - w * SUPER_CHUNKS) * 16;
        }
    }

    // Copies this thread's share of the columns `ahead` tiles from where it is; of the first tile of 256 columns, what
    // stands for all of them, too.
    DEVICE void fetch(uint8_t* stage, uint8_t* piece, const Share& mine, int ahead, bool first) {
#pragma unroll
        for (int c = 0; c < COPIES; c++) {
            uint8_t* to = stage + mine.to + c * ROUND * X::PITCH;
            cp_async_if<16>(c * ROUND < mine.tokens, to, element_at<16>(mine.records, mine.from[c]) + ahead * X::RECORD);
        }
        uint8_t* to = stage + X::TOKENS * X::PITCH + warp() * (W * F::TILE_BYTES) + lane() * 16;
#pragma unroll
        for (int w = 0; w < W; w++)
#pragma unroll
            for (int c = 0; c < TILE_CHUNKS; c += WARP) {
                const uint8_t* from = mine.tiles[w] + ahead * F::TILE_BYTES;
                cp_async_if<16>(c < mine.chunks, to + w * F::TILE_BYTES + c * 16, from + c * 16);
            }
        if (MINIMUMS_OF_256 && first) { // the four threads that copy a token's codes copy its sums, of 64 columns each
            const int token = int(threadIdx.x) / CHUNKS, part = int(threadIdx.x) % CHUNKS;
            uint8_t* sums = piece + SUPERS_BYTES + token * 32 + part * 8;
#pragma unroll
            for (int c = 0; c < COPIES; c++) {
                const uint8_t* at = element_at<16>(mine.records + part * (X::RECORD - 16), mine.from[c]) + X::RECORD - 8;
                cp_async_if<8>(part < 4 && c * ROUND < mine.tokens, sums + c * ROUND * 32, at + ahead * X::RECORD);
            }
        }
        if (F::SUPER_BYTES && first) {
            cp_async_if<16>(mine.supers > 0, piece + warp() * (W * F::SUPER_BYTES) + lane() * 16, mine.super);
        }
    }

    DEVICE void advance(Share& mine, int tiles) {
        mine.records += tiles * X::RECORD;
#pragma unroll
        for (int w = 0; w < W; w++) mine.tiles[w] += tiles * F::TILE_BYTES;
    }

#if FORMAT_QUANTIZED
    struct OfPiece {
        typename F::OfPiece of[W][2];
        uint32_t pairs[W][2]; // with MINIMUMS_OF_256: lane 4 g + t has those of tile t
    };

    // What stands for 256 columns of the lane's rows g and g + 8.
    DEVICE void read_piece(OfPiece& to, const uint8_t* supers) {
#pragma unroll
        for (int w = 0; w < W; w++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                to.of[w][half] = F::of_piece(supers + w * F::SUPER_BYTES, lane() / 4 + 8 * half);
            }
    }

    // Weights FIRST to FIRST + N - 1. The records are read from shared memory once for all of them.
    template <int FIRST, int N>
    DEVICE void multiply_int8(float (&sums)[W][GROUPS][4], const uint8_t* tiles, int quarter, OfPiece& of_piece,
                              const uint8_t* x, int tokens) {
        const int g = lane() / 4, t = lane() % 4;
        uint32_t a[W][8];
        float scale[W][2][64 / F::GROUP], minimum[W][2][2];
#pragma unroll
        for (int w = FIRST; w < FIRST + N; w++) {
            const uint8_t* tile = tiles + w * F::TILE_BYTES;
#pragma unroll
            for (int r = 0; r < 8; r++) a[w][r] = product_code<F>(tile, lane(), r);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                if constexpr (MINIMUMS_OF_256) {
                    const uint32_t pairs = F::pairs(tile, g + 8 * half);
                    F::scales(pairs, of_piece.of[w][half], scale[w][half]);
                    of_piece.pairs[w][half] = quarter == t ? pairs : of_piece.pairs[w][half];
                } else {
                    F::numbers(tile, of_piece.of[w][half], g + 8 * half, scale[w][half], minimum[w][half]);
                }
            }
        }
        const uint8_t* codes = x + g * X::PITCH + (X::chunk(g, 0) + t) * 16;
        const uint8_t* even = x + 2 * t * X::PITCH + X::chunk(0, 4) * 16;
        const uint8_t* odd = x + (2 * t + 1) * X::PITCH + X::chunk(1, 4) * 16;
#pragma unroll
        for (int n = 0; n < GROUPS; n++) {
            if (n * 8 >= tokens) break;
            const uint4 b = *(const uint4*)(codes + n * 8 * X::PITCH);
            const float4 left = *(const float4*)(even + n * 8 * X::PITCH), right = *(const float4*)(odd + n * 8 * X::PITCH);
#pragma unroll
            for (int w = FIRST; w < FIRST + N; w++) {
                multiply_32(sums[w][n], a[w], 0, scale[w], b.x, b.y, left.x, right.x);
                multiply_32(sums[w][n], a[w], 1, scale[w], b.z, b.w, left.y, right.y);
                if (F::MINIMUMS && !MINIMUMS_OF_256) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        const float l = j ? left.w : left.z, r = j ? right.w : right.z;
                        sums[w][n][0] = fmaf(-minimum[w][0][j], l, sums[w][n][0]);
                        sums[w][n][1] = fmaf(-minimum[w][0][j], r, sums[w][n][1]);
                        sums[w][n][2] = fmaf(-minimum[w][1][j], l, sums[w][n][2]);
                        sums[w][n][3] = fmaf(-minimum[w][1][j], r, sums[w][n][3]);
                    }
                }
            }
        }
    }

    // Takes the minimums of 256 columns off; `x_sums`: of each token eight, of 32 columns each.
    DEVICE void take_minimums(float (&sums)[W][GROUPS][4], const OfPiece& of_piece, const uint8_t* x_sums, int tokens) {
        uint32_t a[W][2];
        float factor[W][2];
#pragma unroll
        for (int w = 0; w < W; w++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                F::minimums(of_piece.pairs[w][half], of_piece.of[w][half], a[w][half], factor[w][half]);
            }
#pragma unroll
        for (int n = 0; n < GROUPS; n++) {
            if (n * 8 >= tokens) break;
            const float2 two = *(const float2*)(x_sums + n * 8 * 32 + lane() * 8);
            const uint32_t high = pack_bf16(two.x, two.y);
            const uint32_t low = pack_bf16(two.x - bf16_to_float(high), two.y - bits_to_float(high & 0xffff0000u));
#pragma unroll
            for (int w = 0; w < W; w++) {
                float c[4] = {0, 0, 0, 0};
                mma_bf16(c, a[w][0], a[w][1], a[w][0], a[w][1], high, low);
#pragma unroll
                for (int i = 0; i < 4; i++) sums[w][n][i] = fmaf(-factor[w][i / 2], c[i], sums[w][n][i]);
            }
        }
    }

    // Columns 32 j and on of the 64.
    DEVICE void multiply_32(float (&sums)[4], const uint32_t (&a)[8], int j, const float (&scale)[2][64 / F::GROUP],
                            uint32_t b0, uint32_t b1, float left, float right) {
        if constexpr (F::GROUP == 32) {
            int c[4] = {0, 0, 0, 0};
            mma_s8(c, a[4 * j], a[4 * j + 1], a[4 * j + 2], a[4 * j + 3], b0, b1);
            add(sums, c, scale[0][j], scale[1][j], left, right);
        } else {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int c[4] = {0, 0, 0, 0};
                mma_s8_k16(c, a[4 * j + 2 * h], a[4 * j + 2 * h + 1], h ? b1 : b0);
                add(sums, c, scale[0][2 * j + h], scale[1][2 * j + h], left, right);
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
#else
    struct OfPiece {};
#endif

    // Eight lanes read 16 bytes at a time: of two rows, one half of each, which `chunk` puts in different banks.
    DEVICE void multiply_bf16(float (&sums)[W][GROUPS][4], const uint8_t* tiles, const uint8_t* supers, const uint8_t* x,
                              int tokens) {
        const int g = lane() / 4, t = lane() % 4;
        uint32_t a[W][4][4];
#pragma unroll
        for (int w = 0; w < W; w++)
#pragma unroll
            for (int r = 0; r < 8; r++) {
                const uint8_t *tile = tiles + w * F::TILE_BYTES, *super = supers + w * F::SUPER_BYTES;
                four_bf16<F>(tile, super, lane(), r, a[w][r / 2][r % 2], a[w][r / 2][r % 2 + 2]);
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

    DEVICE void multiply_exact(float (&sums)[GROUPS][4], const uint8_t* tile, const uint8_t* super, const uint8_t* x,
                               int tokens) {
        static constexpr int PARTS = X::PARTS < 1 ? 1 : X::PARTS, MINE = F::PARTS < PARTS ? F::PARTS : PARTS;
        const int g = lane() / 4, t = lane() % 4;
#pragma unroll
        for (int q = 0; q < 4; q++) { // 16 columns: element 4 t + i of them takes place 2 t + i % 2 + 8 (i / 2) of the mma
            uint32_t a[MINE][4];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float v[4];
                four_values<F>(tile, super, lane(), 4 * (q / 2) + 2 * (q % 2) + half, v);
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

    // `quarter`: which 64 of 256 columns, or -1 where that is not known; then `of_piece` is not used.
    DEVICE void multiply(float (&sums)[W][GROUPS][4], const uint8_t* stage, const uint8_t* piece,
                         [[maybe_unused]] int quarter, [[maybe_unused]] OfPiece& of_piece, int tokens) {
        const uint8_t* tiles = stage + X::TOKENS * X::PITCH + warp() * (W * F::TILE_BYTES);
        const uint8_t* supers = piece + warp() * (W * F::SUPER_BYTES);
        if constexpr (X::PARTS == 1) {
            multiply_bf16(sums, tiles, supers, stage, tokens);
        } else if constexpr (X::PARTS == 3) {
#pragma unroll
            for (int w = 0; w < W; w++) {
                multiply_exact(sums[w], tiles + w * F::TILE_BYTES, supers + w * F::SUPER_BYTES, stage, tokens);
            }
        } else {
#if FORMAT_QUANTIZED
            // Twice as many scales leave no registers for two.
            static constexpr int TOGETHER = F::GROUP == 32 ? W : 1, REST = W - TOGETHER;
            if (quarter == 0) read_piece(of_piece, supers);
            multiply_int8<0, TOGETHER>(sums, tiles, quarter, of_piece, stage, tokens);
            if constexpr (REST > 0) multiply_int8<TOGETHER, REST>(sums, tiles, quarter, of_piece, stage, tokens);
            if constexpr (MINIMUMS_OF_256) {
                if (quarter == 3) take_minimums(sums, of_piece, piece + SUPERS_BYTES, tokens);
            }
#endif
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
        share(mine, weight, k_tiles, x, row_of, first, tokens);
        uint8_t *last = memory + (X::STAGES - 1) * STAGE_BYTES, *pieces = last + STAGE_BYTES;
#pragma unroll 1
        for (int s = 0; s < X::STAGES - 1; s++) {
            if (s < k_tiles) fetch(memory + s * STAGE_BYTES, pieces, mine, s, s == 0);
            cp_async_commit();
        }
        mine.super += F::SUPER_BYTES;
        advance(mine, UNROLL);
        uint8_t *stage = memory, *before = last;
        OfPiece of_piece;
#pragma unroll 1
        for (int kt = 0; kt < k_tiles; kt += UNROLL) {
#pragma unroll
            for (int i = 0; i < UNROLL; i++) {
                // Rows of formats with numbers for 256 columns end with those.
                if (i > 0 && F::SUPER_BYTES == 0 && kt + i >= k_tiles) break;
                cp_async_wait<X::STAGES - 2>();
                __syncthreads(); // the stage is there for all warps, and all are done with the one before it
                const int ahead = i + X::STAGES - 1;
                if (UNROLL > 1) stage = memory + i * STAGE_BYTES, before = memory + ahead % X::STAGES * STAGE_BYTES;
                if (kt + ahead < k_tiles) {
                    const bool next = (UNROLL > 1 ? ahead : kt + ahead) % 4 == 0;
                    fetch(before, pieces + ((kt + ahead) / 4 & 1) * PIECE_BYTES, mine, ahead - UNROLL, next);
                    if (next) mine.super += F::SUPER_BYTES;
                }
                cp_async_commit();
                const uint8_t* piece = pieces + (kt / 4 & 1) * PIECE_BYTES;
                if (weight[0]) multiply(sums, stage, piece, UNROLL > 1 ? i : -1, of_piece, tokens);
                before = stage;
                stage = stage == last ? memory : stage + STAGE_BYTES;
            }
            advance(mine, UNROLL);
        }
#if FORMAT_QUANTIZED
        if (X::PARTS == 0 && F::MOVED > 0) {
#pragma unroll
            for (int w = 0; w < W; w++)
#pragma unroll
                for (int n = 0; n < GROUPS; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) sums[w][n][i] *= 1.0f / (1 << F::MOVED);
        }
#endif
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

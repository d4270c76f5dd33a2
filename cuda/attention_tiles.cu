// out = softmax(q k^T) v as in attention.cu, on tensor cores: products of 16-bit numbers, sums in f32. Numbers are f16 where
// K/V are f16 or f32 (q and k are normed per head, so an element is at most sqrt(dim) times a norm's weight), bf16 where they
// are bf16. Rounded are: q, once; K/V of f32; and the softmax's terms. Stated and tested: tests/cuda/attention.rs.
//
// attention_operands_*: q * log2(e) and the fresh k, v `[n, dim]` f32 in a row of 16-bit numbers, 8 per thread.
//
// attention_*: a block takes 64 query vectors that share a K/V head (all heads of the group, then the next rows), and walks
// over N positions at a time:
//
//   for each tile of N positions, counted from position 0:
//       scores = queries keys^T      8 warps: 32 vectors x N / 2 positions x half of the dim each; both halves to memory
//       softmax, online              4 lanes per vector: maximum, sum, terms as 16-bit numbers over the scores' place
//       sums = sums * rescale + terms values      8 warps: 64 vectors x dim / 8 columns each, in registers
//
// Keys and values come through cp.async into STAGES places of [N, C]: while one is multiplied, the next arrives. C < dim cuts
// tiles by columns, for devices with little shared memory. Scores are in units of log2, so that a term is one exp2. It is
// multiplied by 2^15, which the quotient takes back: f16 then holds terms down to 2^-29 of the largest with full accuracy.
//
// A vector's result does not depend on which others are in its block: a masked term is exactly 0, a factor of 1 changes
// nothing, and tiles begin at multiples of N. It does depend on where a long prefix is split (blockIdx.z, see
// grid::attention_tiles): each split leaves (maximum, sum, sums) in `partial`, attention_merge adds up, in order.
//
// Grid (rows * group / 64, kv_heads, splits), 256 threads. dim a multiple of 8, at most D. 16-byte pieces of rows in shared
// memory are permuted (piece j of row r lies at j ^ r % 8), so that eight rows of a matrix are in different banks.
#include "attention.cuh"

struct F16Numbers {
    DEVICE uint32_t pack(float low, float high) { return pack_f16(low, high); }
    DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        mma_f16(c, a[0], a[1], a[2], a[3], b0, b1);
    }
};

struct Bf16Numbers {
    DEVICE uint32_t pack(float low, float high) { return pack_bf16(low, high); }
    DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        mma_bf16(c, a[0], a[1], a[2], a[3], b0, b1);
    }
};

static constexpr float LOG2_E = 1.4426950408889634f, TERM_SCALE_LOG2 = 15;

// Eight floats as 16 bytes.
template <class T>
DEVICE uint4 pack8(const float* x) {
    const float4 a = ((const float4*)x)[0], b = ((const float4*)x)[1];
    uint4 packed;
    packed.x = T::pack(a.x, a.y), packed.y = T::pack(a.z, a.w);
    packed.z = T::pack(b.x, b.y), packed.w = T::pack(b.z, b.w);
    return packed;
}

template <class T>
DEVICE void attention_operands(const float* q, const float* k, const float* v, int64_t q_numbers, int64_t k_numbers,
                               uint8_t* out) {
    int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
    if (i >= q_numbers + 2 * k_numbers) return;
    uint4* to = (uint4*)(out + i * 2);
    if (i < q_numbers) {
        float scaled[8];
#pragma unroll
        for (int j = 0; j < 8; j++) scaled[j] = q[i + j] * LOG2_E;
        uint4 packed;
        packed.x = T::pack(scaled[0], scaled[1]), packed.y = T::pack(scaled[2], scaled[3]);
        packed.z = T::pack(scaled[4], scaled[5]), packed.w = T::pack(scaled[6], scaled[7]);
        *to = packed;
    } else {
        i -= q_numbers;
        *to = pack8<T>(i < k_numbers ? k + i : v + (i - k_numbers));
    }
}

template <class T, int D, int N, int C, int STAGES>
struct Tiles {
    static constexpr int VECTORS = 64, THREADS = 256, PITCH = N + 4, COLUMNS = C / 8, CHUNKS = D / C;
    static constexpr int STAGE_BYTES = N * C * 2, SCORES = VECTORS * PITCH;
    static_assert(COLUMNS % 16 == 0 && N % 32 == 0, "a warp takes 16 columns and 16 positions at a time");

    // Piece `piece` of row `row` of a matrix with rows of `width` numbers.
    DEVICE uint8_t* piece_at(uint8_t* matrix, int width, int row, int piece) {
        return matrix + (row * (width / 8) + (piece ^ (row % 8))) * 16;
    }

    // Columns `C chunk ..` of positions `first ..` of K or V; zeros from `end` on and beyond dim.
    DEVICE void fetch(const Shape& s, const uint8_t* cache, const uint8_t* fresh, int head, int first, int end, int chunk,
                      uint8_t* stage) {
        int slot = first % s.capacity;
        for (int i = threadIdx.x; i < N * (C / 8); i += THREADS) {
            const int row = i / (C / 8), piece = i % (C / 8), position = first + row, column = chunk * C + piece * 8;
            uint8_t* to = piece_at(stage, C, row, piece);
            if (position >= end || column >= s.dim) {
                *(uint4*)to = uint4{0, 0, 0, 0};
            } else if (position >= s.start) {
                const int64_t at = (int64_t(position - s.start) * s.kv_heads + head) * s.dim + column;
                cp_async(to, fresh + at * 2);
            } else {
                int place = slot + row;
                while (place >= s.capacity) place -= s.capacity;
                const int64_t at = (int64_t(head) * s.capacity + place) * s.dim + column;
                if (s.kind == 0) {
                    *(uint4*)to = pack8<T>((const float*)cache + at);
                } else {
                    cp_async(to, cache + at * 2);
                }
            }
        }
    }

    // sums += queries[32 of the warp, columns of its half] keys^T for one chunk of columns.
    DEVICE void add_scores(float (&sums)[2][N / 16][4], uint8_t* queries, uint8_t* keys, int chunk) {
        const int vector = warp() % 2 * 32, position = warp() / 2 % 2 * (N / 2), half = warp() / 4 * (C / 16);
#pragma unroll 4
        for (int k16 = 0; k16 < C / 32; k16++) {
            const int piece = half + k16 * 2;
            uint32_t a[2][4];
#pragma unroll
            for (int m = 0; m < 2; m++) {
                ldmatrix4(a[m], piece_at(queries, D, vector + m * 16 + lane() % 16, chunk * (C / 8) + piece + lane() / 16));
            }
#pragma unroll
            for (int pair = 0; pair < N / 32; pair++) {
                uint32_t b[4];
                const int row = position + pair * 16 + lane() / 16 * 8 + lane() % 8;
                ldmatrix4(b, piece_at(keys, C, row, piece + lane() / 8 % 2));
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    T::mma(sums[m][2 * pair], a[m], b[0], b[1]);
                    T::mma(sums[m][2 * pair + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    DEVICE void store_scores(const float (&sums)[2][N / 16][4], float* scores) {
        const int g = lane() / 4, t = lane() % 4;
        float* mine = scores + warp() / 4 * SCORES + (warp() % 2 * 32 + g) * PITCH + warp() / 2 % 2 * (N / 2) + 2 * t;
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int n = 0; n < N / 16; n++) {
                float* at = mine + m * 16 * PITCH + n * 8;
                *(float2*)at = float2{sums[m][n][0], sums[m][n][1]};
                *(float2*)(at + 8 * PITCH) = float2{sums[m][n][2], sums[m][n][3]};
            }
    }

    // A lane's quarter of a vector's scores becomes terms, 16-bit numbers in the first half of the place. `begin .. end`:
    // what the vector sees, counted from the tile's first position. Answers the factor for sums so far.
    DEVICE float softmax(float* scores, int begin, int end, float& maximum, float& total) {
        const int vector = threadIdx.x / 4, quarter = threadIdx.x % 4;
        float* row = scores + vector * PITCH;
        float x[N / 16][4], largest = maximum;
#pragma unroll
        for (int i = 0; i < N / 16; i++) {
            const int at = i * 16 + quarter * 4;
            const float4 a = *(const float4*)(row + at), b = *(const float4*)(row + SCORES + at);
            x[i][0] = a.x + b.x, x[i][1] = a.y + b.y, x[i][2] = a.z + b.z, x[i][3] = a.w + b.w;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (at + j < begin || at + j >= end) x[i][j] = NEGATIVE_INFINITY;
                largest = fmaxf(largest, x[i][j]);
            }
        }
        largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(ALL, largest, 2)); // also: all four have read what is written now
        const float shift = largest == NEGATIVE_INFINITY ? 0 : TERM_SCALE_LOG2 - largest;
        const float factor = largest == NEGATIVE_INFINITY ? 1 : exp2_near(maximum - largest);
        float sum = 0;
#pragma unroll
        for (int i = 0; i < N / 16; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                x[i][j] = exp2_near(x[i][j] + shift);
                sum += x[i][j];
            }
            uint32_t* to = (uint32_t*)row + i * 8 + quarter * 2;
            to[0] = T::pack(x[i][0], x[i][1]), to[1] = T::pack(x[i][2], x[i][3]);
        }
        maximum = largest;
        total = total * factor + sum;
        return factor;
    }

    // sums += terms values[., COLUMNS of the warp].
    DEVICE void add_values(float (&sums)[4][COLUMNS / 8][4], const float* scores, uint8_t* values) {
#pragma unroll
        for (int k16 = 0; k16 < N / 16; k16++) {
            uint32_t a[4][4];
#pragma unroll
            for (int m = 0; m < 4; m++) {
                ldmatrix4(a[m], (const uint8_t*)(scores + (m * 16 + lane() % 16) * PITCH) + k16 * 32 + lane() / 16 * 16);
            }
#pragma unroll
            for (int pair = 0; pair < COLUMNS / 16; pair++) {
                uint32_t b[4];
                const int piece = warp() * (COLUMNS / 8) + pair * 2 + lane() / 16;
                ldmatrix4_transposed(b, piece_at(values, C, k16 * 16 + lane() % 16, piece));
#pragma unroll
                for (int m = 0; m < 4; m++) {
                    T::mma(sums[m][2 * pair], a[m], b[0], b[1]);
                    T::mma(sums[m][2 * pair + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    DEVICE void run(const uint8_t* q, const uint8_t* k, const uint8_t* v, const uint8_t* k_cache, const uint8_t* v_cache,
                    const Shape& s, int per_split, float* out, float* partial) {
        uint8_t* queries = shared_memory();
        uint8_t* stages = queries + VECTORS * D * 2;
        float* scores = (float*)(stages + STAGES * STAGE_BYTES);
        float* factors = scores + 2 * SCORES;
        const int group = s.heads / s.kv_heads, head = blockIdx.y, first_vector = blockIdx.x * VECTORS;
        const int vectors = min(s.rows * group - first_vector, VECTORS);
        // Vector i of the block: row (first_vector + i) / group, query head head * group + (first_vector + i) % group.
        for (int i = threadIdx.x; i < VECTORS * (D / 8); i += THREADS) {
            const int vector = i / (D / 8), piece = i % (D / 8), of = first_vector + vector;
            uint8_t* to = piece_at(queries, D, vector, piece);
            if (vector < vectors && piece * 8 < s.dim) {
                cp_async(to, q + ((int64_t(of / group) * s.heads + head * group + of % group) * s.dim + piece * 8) * 2);
            } else {
                *(uint4*)to = uint4{0, 0, 0, 0};
            }
        }
        const int from = visible_first(s, first_vector / group) / N * N + int(blockIdx.z) * per_split;
        const int to = min(from + per_split, visible_end(s, (first_vector + vectors - 1) / group));
        const int items = to > from ? (to - from + N - 1) / N * (2 * CHUNKS) : 0;
        // Item i: of tile i / (2 CHUNKS), the chunks of K, then those of V.
        const auto fetch_item = [&](int item) {
            const int part = item % (2 * CHUNKS), first = from + item / (2 * CHUNKS) * N;
            const bool keys = part < CHUNKS;
            fetch(s, keys ? k_cache : v_cache, keys ? k : v, head, first, to, part % CHUNKS,
                  stages + item % STAGES * STAGE_BYTES);
        };
        for (int i = 0; i < STAGES - 1; i++) {
            if (i < items) fetch_item(i);
            cp_async_commit();
        }
        // The next item's memory, once it has arrived for all, who are then done with the one before.
        const auto next = [&](int item) {
            cp_async_wait<STAGES - 2>();
            __syncthreads();
            if (item + STAGES - 1 < items) fetch_item(item + STAGES - 1);
            cp_async_commit();
            return stages + item % STAGES * STAGE_BYTES;
        };
        const int row = (first_vector + threadIdx.x / 4) / group;
        const bool mine = int(threadIdx.x) / 4 < vectors;
        const int begin = mine ? visible_first(s, row) : 0, end = mine ? min(visible_end(s, row), to) : 0;
        float maximum = NEGATIVE_INFINITY, total = 0, sums[CHUNKS][4][COLUMNS / 8][4];
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) sums[c][m][n][i] = 0;
        int item = 0;
        for (int first = from; first < to; first += N) {
            float products[2][N / 16][4];
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int n = 0; n < N / 16; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) products[m][n][i] = 0;
#pragma unroll 1
            for (int c = 0; c < CHUNKS; c++) add_scores(products, queries, next(item++), c);
            store_scores(products, scores);
            bool changed = false;
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                uint8_t* values = next(item++);
                if (c == 0) {
                    const float factor = softmax(scores, begin - first, end - first, maximum, total);
                    if (threadIdx.x % 4 == 0) factors[threadIdx.x / 4] = factor;
                    changed = __syncthreads_or(factor != 1.0f);
                }
                if (changed) multiply_rows(sums[c], factors);
                add_values(sums[c], scores, values);
            }
        }
        finish(s, sums, maximum, total, factors, first_vector, vectors, out, partial);
    }

    DEVICE void multiply_rows(float (&sums)[4][COLUMNS / 8][4], const float* factors) {
#pragma unroll
        for (int m = 0; m < 4; m++) {
            const float upper = factors[m * 16 + lane() / 4], lower = factors[m * 16 + lane() / 4 + 8];
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++) {
                sums[m][n][0] *= upper, sums[m][n][1] *= upper;
                sums[m][n][2] *= lower, sums[m][n][3] *= lower;
            }
        }
    }

    // Results, or the split's part of them.
    DEVICE void finish(const Shape& s, float (&sums)[CHUNKS][4][COLUMNS / 8][4], float maximum, float total,
                       float* factors, int first_vector, int vectors, float* out, float* partial) {
        const int group = s.heads / s.kv_heads, head = blockIdx.y, width = s.dim + 2;
        const auto place = [&](int vector) {
            const int of = first_vector + vector;
            return int64_t(of / group) * s.heads + head * group + of % group;
        };
        total += __shfl_xor_sync(ALL, total, 1);
        total += __shfl_xor_sync(ALL, total, 2);
        __syncthreads(); // the last factors have been read
        const int own = threadIdx.x / 4;
        if (threadIdx.x % 4 == 0) {
            factors[own] = partial ? 1.0f : 1.0f / total;
            if (partial && own < vectors) {
                float* numbers = partial + (place(own) * gridDim.z + blockIdx.z) * width;
                numbers[0] = maximum, numbers[1] = total;
            }
        }
        __syncthreads();
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            if (!partial) multiply_rows(sums[c], factors);
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int vector = m * 16 + half * 8 + lane() / 4;
                    if (vector >= vectors) continue;
                    float* to = partial ? partial + (place(vector) * gridDim.z + blockIdx.z) * width + 2
                                        : out + place(vector) * s.dim;
#pragma unroll
                    for (int n = 0; n < COLUMNS / 8; n++) {
                        const int column = c * C + warp() * COLUMNS + n * 8 + lane() % 4 * 2;
                        if (column >= s.dim) continue;
                        *(float2*)(to + column) = float2{sums[c][m][n][2 * half], sums[c][m][n][2 * half + 1]};
                    }
                }
        }
    }
};

#define OPERANDS(name, T)                                                                                              \
    KERNEL(256) name(const float* q, const float* k, const float* v, int64_t q_numbers, int64_t k_numbers,             \
                     uint8_t* out) {                                                                                   \
        attention_operands<T>(q, k, v, q_numbers, k_numbers, out);                                                     \
    }

OPERANDS(attention_operands_f16, F16Numbers)
OPERANDS(attention_operands_bf16, Bf16Numbers)

#define ATTENTION(name, blocks, T, D, N, C, STAGES)                                                                    \
    KERNEL_OF(256, blocks) name(const uint8_t* q, const uint8_t* k, const uint8_t* v, const uint8_t* k_cache,          \
                                const uint8_t* v_cache, Shape s, int per_split, float* out, float* partial) {          \
        Tiles<T, D, N, C, STAGES>::run(q, k, v, k_cache, v_cache, s, per_split, out, partial);                         \
    }

ATTENTION(attention_f16_128, 2, F16Numbers, 128, 32, 128, 2)
ATTENTION(attention_f16_256, 2, F16Numbers, 256, 32, 256, 2)
ATTENTION(attention_f16_512_small, 1, F16Numbers, 512, 32, 128, 2)
ATTENTION(attention_f16_512, 1, F16Numbers, 512, 32, 512, 2)
ATTENTION(attention_f16_512_large, 1, F16Numbers, 512, 64, 512, 2)
ATTENTION(attention_bf16_128, 2, Bf16Numbers, 128, 32, 128, 2)
ATTENTION(attention_bf16_256, 2, Bf16Numbers, 256, 32, 256, 2)
ATTENTION(attention_bf16_512_small, 1, Bf16Numbers, 512, 32, 128, 2)
ATTENTION(attention_bf16_512, 1, Bf16Numbers, 512, 32, 512, 2)
ATTENTION(attention_bf16_512_large, 1, Bf16Numbers, 512, 64, 512, 2)

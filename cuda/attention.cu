// out = softmax(q k^T) v, scale 1, in f32: q and out `[rows, heads, dim]`, fresh k and v `[rows, kv_heads, dim]`, the cache as in
// kv_append.cu. Row t sees positions first .. end of the cache (`0 .. start`) and of the fresh rows (`start ..`):
//   causal   end = start + t + 1, first = end - window (or 0)
//   canvas   end = start + rows, first = start + 1 - window (or 0), the same for every row
//
// A block takes 16 query vectors that share a K/V head (all heads of the group, then the next rows: a grouped query is
// packed, so that K and V are read once for the group), walks over 32 positions at a time with an online softmax, and
// holds its part of the sums in registers:
//   scores   thread (vector, position mod 16): two dot products over dim, K in shared memory
//   sums     thread c: columns c and c + 256 of all 16 vectors, V in the memory where K was
// Long prefixes are split over blockIdx.z; each split leaves (maximum, sum, sums) in `partial`, attention_merge adds up.
//
// Grid (rows * group / 16, kv_heads, splits), 256 threads; dim at most 512, a multiple of 4. Shared memory: queries
// 16 * dim, K or V 32 * (dim + 4), scores 16 * 32, three numbers per vector; floats.
#include "attention.cuh"

static constexpr int VECTORS = 16, POSITIONS = 32, THREADS = 256;

// Rows `first .. first + count` of one head's keys or values into shared memory, `pitch` floats apart.
DEVICE void load_rows(const Shape& s, const uint8_t* cache, const float* fresh, int head, int first, int count, int pitch,
                      float* to) {
    for (int i = threadIdx.x; i < count * s.dim; i += THREADS) {
        const int position = first + i / s.dim, column = i % s.dim;
        float x;
        if (position < s.start) {
            x = kv_load(cache, s.kind, (int64_t(head) * s.capacity + position % s.capacity) * s.dim + column);
        } else {
            x = fresh[(int64_t(position - s.start) * s.kv_heads + head) * s.dim + column];
        }
        to[i / s.dim * pitch + column] = x;
    }
}

KERNEL(256) attention(const float* q, const float* k, const float* v, const uint8_t* k_cache, const uint8_t* v_cache,
                      Shape s, int per_split, float* out, float* partial) {
    const int group = s.heads / s.kv_heads, head = blockIdx.y, pitch = s.dim + 4;
    float* queries = (float*)shared_memory();
    float* keys = queries + VECTORS * s.dim;
    float* scores = keys + POSITIONS * pitch;
    float* maximum = scores + VECTORS * POSITIONS;
    float* rescale = maximum + VECTORS;
    float* total = rescale + VECTORS;
    const int first_vector = blockIdx.x * VECTORS, all = s.rows * group;
    const int vectors = min(all - first_vector, VECTORS);
    // Vector i of the block: row (first_vector + i) / group, query head head * group + (first_vector + i) % group.
    for (int i = threadIdx.x; i < vectors * s.dim; i += THREADS) {
        const int vector = first_vector + i / s.dim;
        queries[i] = q[(int64_t(vector / group) * s.heads + head * group + vector % group) * s.dim + i % s.dim];
    }
    if (threadIdx.x < VECTORS) maximum[threadIdx.x] = NEGATIVE_INFINITY, total[threadIdx.x] = 0;
    const int last_row = (first_vector + vectors - 1) / group;
    const int least = visible_first(s, first_vector / group), most = visible_end(s, last_row);
    const int from = least + blockIdx.z * per_split, to = min(from + per_split, most);
    float sums[2][VECTORS];
#pragma unroll
    for (int i = 0; i < VECTORS; i++) sums[0][i] = sums[1][i] = 0;
    const int vector = threadIdx.x / 16, slot = threadIdx.x % 16, row = (first_vector + vector) / group;
    for (int first = from; first < to; first += POSITIONS) {
        const int count = min(to - first, POSITIONS);
        __syncthreads();
        load_rows(s, k_cache, k, head, first, count, pitch, keys);
        __syncthreads();
        float score[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int p = slot + 16 * i;
            score[i] = NEGATIVE_INFINITY;
            const bool seen = vector < vectors && p < count && first + p >= visible_first(s, row) &&
                              first + p < visible_end(s, row);
            if (!seen) continue;
            const float *a = queries + vector * s.dim, *b = keys + p * pitch;
            float dot[4] = {0, 0, 0, 0};
            for (int c = 0; c < s.dim; c += 4) {
                const float4 x = *(const float4*)(a + c), y = *(const float4*)(b + c);
                dot[0] = fmaf(x.x, y.x, dot[0]), dot[1] = fmaf(x.y, y.y, dot[1]);
                dot[2] = fmaf(x.z, y.z, dot[2]), dot[3] = fmaf(x.w, y.w, dot[3]);
            }
            score[i] = (dot[0] + dot[1]) + (dot[2] + dot[3]);
        }
        // The 16 lanes of a vector agree on its maximum and sum.
        float max = fmaxf(score[0], score[1]);
#pragma unroll
        for (int step = 8; step > 0; step /= 2) max = fmaxf(max, __shfl_xor_sync(ALL, max, step));
        const float before = maximum[vector], now = fmaxf(before, max);
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float p = score[i] == NEGATIVE_INFINITY ? 0 : expf(score[i] - now);
            scores[vector * POSITIONS + slot + 16 * i] = p;
            sum += p;
        }
#pragma unroll
        for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(ALL, sum, step);
        __syncwarp(); // every lane has read the old maximum
        if (slot == 0) {
            const float factor = before == NEGATIVE_INFINITY ? 0 : expf(before - now);
            rescale[vector] = factor;
            maximum[vector] = now;
            total[vector] = total[vector] * factor + sum;
        }
        __syncthreads();
        load_rows(s, v_cache, v, head, first, count, pitch, keys);
        __syncthreads();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int column = threadIdx.x + half * THREADS;
            if (column >= s.dim) break;
#pragma unroll
            for (int i = 0; i < VECTORS; i++) sums[half][i] *= rescale[i];
            for (int p = 0; p < count; p++) {
                const float x = keys[p * pitch + column];
#pragma unroll
                for (int i = 0; i < VECTORS; i++) sums[half][i] = fmaf(scores[i * POSITIONS + p], x, sums[half][i]);
            }
        }
    }
    __syncthreads();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int column = threadIdx.x + half * THREADS;
        if (column >= s.dim) break;
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            if (i >= vectors) break;
            const int vector = first_vector + i;
            const int64_t at = int64_t(vector / group) * s.heads + head * group + vector % group;
            if (partial) {
                float* mine = partial + (at * gridDim.z + blockIdx.z) * (s.dim + 2);
                mine[2 + column] = sums[half][i];
                if (column == 0) mine[0] = maximum[i], mine[1] = total[i];
            } else {
                out[at * s.dim + column] = sums[half][i] / total[i];
            }
        }
    }
}

// out `[vectors, dim]` from partial `[vectors, splits, dim + 2]`. Maxima are in units of
// `unit`: of 1, or of ln 2 (attention_tiles.cu). Grid (vectors), 256 threads.
KERNEL(256) attention_merge(const float* partial, int splits, int dim, float unit, float* out) {
    partial += int64_t(blockIdx.x) * splits * (dim + 2);
    float max = NEGATIVE_INFINITY;
    for (int i = 0; i < splits; i++) max = fmaxf(max, partial[int64_t(i) * (dim + 2)]);
    for (int column = threadIdx.x; column < dim; column += blockDim.x) {
        float total = 0, sum = 0;
        for (int i = 0; i < splits; i++) {
            const float* part = partial + int64_t(i) * (dim + 2);
            if (part[1] == 0) continue; // a split of which this row saw nothing
            const float factor = expf((part[0] - max) * unit);
            total = fmaf(part[1], factor, total);
            sum = fmaf(part[2 + column], factor, sum);
        }
        out[int64_t(blockIdx.x) * dim + column] = sum / total;
    }
}

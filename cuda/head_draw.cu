// The draw by inverse CDF: sampled[t] = the first token whose cumulative probability exceeds uniforms[t].
//
// The run sums of head_statistics.cu lead to the run of 64 tokens where the sum crosses u * total; only that run's logits
// are computed again, from the same operand records as before (x `[rows, k_tiles]`). Rounding can leave the target just
// above the run's end: then its last possible token is the nearest.
//
// Grid (rows), 128 threads: thread 0 finds the run, each warp computes 16 of its logits. Shared memory: 64 logits, 4 numbers.
#include "quant/format.cuh"
#include "element.cuh"
#include "head.cuh"
#include "operand.cuh"

static constexpr float NEVER = -1e38f;

template <class X>
DEVICE void head_draw(const uint8_t* table, int vocab, int k, int k_tiles, const uint8_t* x, const float* uniforms,
                      float cap, const float* bias, const float* temperature, const HeadRow* state,
                      const float* run_sums, int runs, const float* maxima, int chunks, int chunk_tokens,
                      uint32_t* sampled) {
    float* logits = (float*)shared_memory();
    double* below = (double*)(logits + RUN);
    int* run = (int*)(below + 1);
    const int row = blockIdx.x;
    const HeadRow s = state[row];
    const double target = double(uniforms[row]) * s.sum;
    if (threadIdx.x == 0) {
        double sum = 0;
        int at = 0;
        for (int r = 0; r < runs; r++) {
            const double factor = exp(double(maxima[int64_t(row) * chunks + r * RUN / chunk_tokens]) - double(s.max));
            const double next = sum + double(run_sums[int64_t(row) * runs + r]) * factor;
            at = r;
            if (next > target || r + 1 == runs) break;
            sum = next;
        }
        *below = sum, *run = at;
    }
    __syncthreads();
    const int first = *run * RUN, n = min(vocab - first, RUN);
    const uint8_t* records = x + int64_t(row) * k_tiles * X::RECORD;
    for (int i = warp(); i < n; i += int(blockDim.x) / WARP) {
        float sum = 0;
        for (int column = lane() * 4; column < k; column += WARP * 4) {
            float v[4];
            elements<FORMAT, X::PARTS == 1>(table, k_tiles, first + i, column, v);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sum = fmaf(v[j], X::value(records + column / 64 * X::RECORD, column % 64 + j), sum);
            }
        }
        float l = warp_sum(sum);
        if (cap > 0) l = cap * tanhf(l / cap);
        if (bias) l += bias[first + i];
        if (lane() == 0) logits[i] = l == NEGATIVE_INFINITY ? NEVER : l / *temperature;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    double sum = *below;
    int last = -1;
    for (int i = 0; i < n; i++) {
        sum += exp(double(logits[i]) - double(s.max));
        if (logits[i] > NEVER) last = i;
        if (sum > target) {
            last = i;
            break;
        }
    }
    sampled[row] = last < 0 ? s.argmax : uint32_t(first + last);
}

#define DRAW(name, X)                                                                                                  \
    KERNEL(128) ENTRY(name)(const uint8_t* table, int vocab, int k, int k_tiles, const uint8_t* x,                     \
                            const float* uniforms, float cap, const float* bias, const float* temperature,             \
                            const HeadRow* state, const float* run_sums, int runs, const float* maxima, int chunks,    \
                            int chunk_tokens, uint32_t* sampled) {                                                     \
        head_draw<X>(table, vocab, k, k_tiles, x, uniforms, cap, bias, temperature, state, run_sums, runs, maxima,     \
                     chunks, chunk_tokens, sampled);                                                                   \
    }

#if FORMAT_QUANTIZED
DRAW(head_draw_int8, Int8)
#endif
#if FORMAT_QUANTIZED || FORMAT_HALF
DRAW(head_draw_bf16, Bf16)
#endif
DRAW(head_draw_exact, Exact)

// Token statistics of a chunk of logits, joined to those of the chunks before: logits `[rows, width]` f32 of tokens
// `first .. first + n`; on return they are exp(l - max), max being the largest tempered logit so far.
//
//   l = (cap * tanh(logit / cap) + bias[token]) / temperature        bias: dense, or null; minus infinity bans
//   temperature: one number, so that a recorded launch finds another one at each step; null: 1
//   max, sum of e = exp(l - max), sum of e (l - max), argmax (the smallest id on a tie)
//   run_sums `[rows, runs]`: sums of e over 64 tokens, runs[first / 64 ..]; maxima `[rows, chunks]`: max at this chunk
//
// head_start: grid (rows / 128); head_statistics: grid (rows), 256 threads; runs summed by a warp each, in f32, chunks in
// f64. Shared memory: 3 floats per warp, 2 per run. head_finish: grid (rows / 128): entropy = ln sum - weighted / sum and the
// most probable token's log-probability -ln sum.
#include "head.cuh"

static constexpr float NEVER = -1e38f; // a banned token: its exponential is 0 beside any other

KERNEL(128) head_start(HeadRow* state, int rows) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    HeadRow fresh;
    fresh.sum = fresh.weighted = 0;
    fresh.max = NEGATIVE_INFINITY;
    fresh.rescale = 1;
    fresh.argmax = fresh.unused = 0;
    state[row] = fresh;
}

KERNEL(256) head_statistics(float* logits, int width, int first, int n, float cap, const float* bias,
                            const float* temperature, HeadRow* state, float* run_sums, int runs, float* maxima, int chunks,
                            int chunk) {
    const float divisor = temperature ? *temperature : 1.0f;
    const int row = blockIdx.x, warps = blockDim.x / WARP, chunk_runs = (n + RUN - 1) / RUN;
    float* best = (float*)shared_memory();
    int* best_at = (int*)(best + warps);
    float* sums = (float*)(best_at + warps);
    float* weighted = sums + chunk_runs;
    logits += int64_t(row) * width;
    float max = NEGATIVE_INFINITY;
    int at = n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float l = logits[i];
        if (cap > 0) l = cap * tanhf(l / cap);
        if (bias) l += bias[first + i];
        l = l == NEGATIVE_INFINITY ? NEVER : l / divisor;
        logits[i] = l;
        if (at == n || l > max) max = l, at = i;
    }
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(ALL, max, step);
        const int other_at = __shfl_xor_sync(ALL, at, step);
        if (other > max || (other == max && other_at < at)) max = other, at = other_at;
    }
    if (lane() == 0) best[warp()] = max, best_at[warp()] = at;
    __syncthreads();
    for (int w = 0; w < warps; w++) {
        if (best[w] > max || (best[w] == max && best_at[w] < at)) max = best[w], at = best_at[w];
    }
    const HeadRow old = state[row];
    const float now = fmaxf(old.max, max);
    for (int run = warp(); run < chunk_runs; run += warps) {
        float sum = 0, sum_weighted = 0;
        for (int i = run * RUN + lane(); i < min(run * RUN + RUN, n); i += WARP) {
            const float difference = logits[i] - now, e = expf(difference);
            logits[i] = e;
            sum += e;
            sum_weighted = fmaf(e, difference, sum_weighted);
        }
        sum = warp_sum(sum), sum_weighted = warp_sum(sum_weighted);
        if (lane() == 0) {
            sums[run] = sum, weighted[run] = sum_weighted;
            run_sums[int64_t(row) * runs + first / RUN + run] = sum;
        }
    }
    __syncthreads();
    if (threadIdx.x >= WARP) return;
    float sum = 0, sum_weighted = 0;
    for (int run = lane(); run < chunk_runs; run += WARP) sum += sums[run], sum_weighted += weighted[run];
    sum = warp_sum(sum), sum_weighted = warp_sum(sum_weighted);
    if (lane() > 0) return;
    HeadRow next = old;
    next.rescale = 1;
    if (old.sum > 0) {
        next.rescale = expf(old.max - now);
        const double factor = next.rescale, shift = double(old.max) - double(now);
        next.weighted = (old.weighted + shift * old.sum) * factor;
        next.sum = old.sum * factor;
    }
    next.sum += sum, next.weighted += sum_weighted;
    if (max > old.max) next.argmax = first + at;
    next.max = now;
    state[row] = next;
    maxima[int64_t(row) * chunks + chunk] = now;
}

KERNEL(128) head_finish(const HeadRow* state, int rows, uint32_t* argmax, float* entropy, float* log_prob) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    const HeadRow s = state[row];
    const double log_sum = log(s.sum);
    argmax[row] = s.argmax;
    entropy[row] = fmaxf(float(log_sum - s.weighted / s.sum), 0.0f);
    log_prob[row] = float(-log_sum);
}

// Log-probabilities: head_pick keeps the soft-capped logits of those `wanted` = (row, token) pairs whose token lies in this
// chunk, before head_statistics overwrites them; head_log_probs takes max and ln sum off at the end. A thread per pair.
KERNEL(128) head_pick(const float* logits, int width, int first, int n, float cap, const uint32_t* wanted, int count,
                      float* out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const int row = wanted[2 * i], token = wanted[2 * i + 1];
    if (token < first || token >= first + n) return;
    const float l = logits[int64_t(row) * width + token - first];
    out[i] = cap > 0 ? cap * tanhf(l / cap) : l;
}

KERNEL(128) head_log_probs(const uint32_t* wanted, int count, const HeadRow* state, float* out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const HeadRow s = state[wanted[2 * i]];
    out[i] = float(double(out[i]) - double(s.max) - log(s.sum));
}

// soft = soft * scale / sum: soft `[rows, hidden]`. Grid (hidden / 256, rows).
KERNEL(256) head_scale(const HeadRow* state, float scale, int hidden, float* soft) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < hidden) soft[int64_t(blockIdx.y) * hidden + column] *= float(double(scale) / state[blockIdx.y].sum);
}

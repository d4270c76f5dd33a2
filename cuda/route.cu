// The router's choice and the order of the experts' work.
//
// route: per row softmax over `experts` logits, the `top_k` largest (the smaller id on a tie), their probabilities divided by
// their sum and multiplied by expert_scale. Grid (rows / 4), a warp per row; up to 32 * 32 experts. f32, since only ratios of
// the largest count.
//
// route_group: slots sorted by expert, within an expert by row: offsets `[experts + 1]`, row_of `[slots]` and slot_of
// `[rows, top_k]`. One block of 1024 threads; a warp counts and places one expert after the other, so that the order is
// the same at every run. Shared memory: experts + 1 counters.
#include "common.cuh"


KERNEL(128) route(const float* logits, const float* expert_scale, int rows, int experts, int top_k, uint32_t* chosen,
                  float* weights) {
    const int row = blockIdx.x * 4 + warp();
    if (row >= rows) return;
    logits += int64_t(row) * experts;
    float max = NEGATIVE_INFINITY;
    for (int e = lane(); e < experts; e += WARP) max = fmaxf(max, logits[e]);
    max = warp_max(max);
    uint32_t taken = 0; // bit i: expert 32 i + lane
    float sum = 0, mine = 0;
    uint32_t my_choice = 0;
    for (int n = 0; n < top_k; n++) {
        float best = NEGATIVE_INFINITY;
        int at = experts;
        for (int i = 0; i * WARP + lane() < experts; i++) {
            const float l = logits[i * WARP + lane()];
            if (!(taken >> i & 1) && (at == experts || l > best)) best = l, at = i * WARP + lane();
        }
#pragma unroll
        for (int step = WARP / 2; step > 0; step /= 2) {
            const float other = __shfl_xor_sync(ALL, best, step);
            const int other_at = __shfl_xor_sync(ALL, at, step);
            const bool better = other_at < experts && (at == experts || other > best || (other == best && other_at < at));
            if (better) best = other, at = other_at;
        }
        const float p = expf(best - max);
        sum += p;
        if (at % WARP == lane()) taken |= 1u << (at / WARP);
        if (lane() == n % WARP) mine = p, my_choice = at;
        if (n % WARP == WARP - 1 || n == top_k - 1) { // at most 32 at a time: the unnormalised probabilities
            const int64_t to = int64_t(row) * top_k + n / WARP * WARP + lane();
            if (lane() <= n % WARP) chosen[to] = my_choice, weights[to] = mine;
        }
    }
    __syncwarp();
    for (int n = lane(); n < top_k; n += WARP) {
        const int64_t at = int64_t(row) * top_k + n;
        weights[at] = weights[at] / sum * expert_scale[chosen[at]];
    }
}

KERNEL(1024) route_group(const uint32_t* chosen, int rows, int experts, int top_k, uint32_t* offsets, uint32_t* row_of,
                         uint32_t* slot_of) {
    uint32_t* counts = (uint32_t*)shared_memory();
    const int slots = rows * top_k, warps = blockDim.x / WARP;
    for (int e = warp(); e < experts; e += warps) {
        uint32_t count = 0;
        for (int first = 0; first < slots; first += WARP) {
            const int i = first + lane();
            count += __popc(__ballot_sync(ALL, i < slots && chosen[i] == uint32_t(e)));
        }
        if (lane() == 0) counts[e] = count;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t sum = 0;
        for (int e = 0; e <= experts; e++) {
            const uint32_t count = e < experts ? counts[e] : 0;
            offsets[e] = counts[e] = sum;
            sum += count;
        }
    }
    __syncthreads();
    for (int e = warp(); e < experts; e += warps) {
        uint32_t next = counts[e];
        for (int first = 0; first < slots; first += WARP) {
            const int i = first + lane();
            const bool hit = i < slots && chosen[i] == uint32_t(e);
            const uint32_t hits = __ballot_sync(ALL, hit);
            if (hit) {
                const uint32_t slot = next + __popc(hits & ((1u << lane()) - 1));
                row_of[slot] = i / top_k;
                slot_of[i] = slot;
            }
            next += __popc(hits);
        }
    }
}

// The sampler between two passes of a canvas: the numbers that a step draws, and what becomes of the canvas after it. The
// definition is src/sampler/canvas.rs; same numbers, same order of sums, same bits.
//
// sampler_noise: Philox 4x32-10 (src/sampler/philox.rs), key = seed, counter = (block, step, position, purpose): uniforms
// in (0, 1) and fresh tokens, one per position, unless the host has put its own there. Grid (rows / 128).
//
// sampler_decide: pinned positions keep their token; what changed; positions by rising entropy are accepted while the sum of
// the entropies before them is at most the bound; accepted ones keep their draw, others get a fresh token; whether the draft
// is stable and confident. One block of 256 threads. A position's place in the order is counted, rows^2 comparisons; the
// two sums run in one thread each, in f64 and in the order of the definition: 256 additions in a row are some microseconds.
// Shared memory: 12 bytes per row, and 8.
#include "sampler.cuh"

DEVICE uint32_t philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        const unsigned long long p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0, c1 = uint32_t(p1);
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1, c3 = uint32_t(p0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return c0;
}

KERNEL(128) sampler_noise(const StepArguments* arguments, int rows, float* uniforms, uint32_t* fresh) {
    const StepArguments a = *arguments;
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows || a.given) return;
    const uint32_t draw = philox(a.block, a.step, row, DRAW, a.seed_low, a.seed_high);
    uniforms[row] = (float(draw >> 9) + 0.5f) / 8388608.0f; // the 23 high bits and a half: exact
    const uint32_t token = philox(a.block, a.step, row, RENOISE, a.seed_low, a.seed_high);
    fresh[row] = uint32_t((unsigned long long)token * a.vocab >> 32);
}

// Integers in the total order of floats.
DEVICE int ordered(float x) {
    const int bits = int(float_to_bits(x));
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

KERNEL(256) sampler_decide(const StepArguments* arguments, int rows, const uint32_t* pinned, const uint32_t* fresh,
                           uint32_t* canvas, uint32_t* sampled, uint32_t* argmax, const float* entropy,
                           uint32_t* accepted, uint32_t* changed, uint32_t* unchanged, uint32_t* draft,
                           BlockState* state) {
    const StepArguments a = *arguments;
    int* keys = (int*)shared_memory();
    float* sorted = (float*)(keys + rows);
    int* order = (int*)(sorted + rows);
    int* count = order + rows; // how many are accepted; whether the mean entropy is low
    bool moved = false;
    for (int i = threadIdx.x; i < rows; i += blockDim.x) {
        if (pinned[i]) argmax[i] = sampled[i] = canvas[i];
        const uint32_t token = argmax[i];
        const bool change = token != (a.step == 0 ? canvas[i] : draft[i]);
        changed[i] = change;
        unchanged[i] = change || a.step == 0 ? 0 : unchanged[i] + 1;
        moved = moved || change;
        draft[i] = token;
        keys[i] = pinned[i] ? 0 : ordered(entropy[i]); // a pinned position is certain
    }
    moved = __syncthreads_or(moved);
    for (int i = threadIdx.x; i < rows; i += blockDim.x) {
        const int key = keys[i];
        int place = 0; // equal entropies in the order of their positions
        for (int j = 0; j < rows; j++) place += keys[j] < key || (keys[j] == key && j < i);
        sorted[place] = pinned[i] ? 0 : entropy[i];
        order[place] = i;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double before = 0;
        int n = 0;
        for (; n < rows && !(before > double(a.bound)); n++) before += double(sorted[n]);
        count[0] = n;
    } else if (threadIdx.x == WARP) {
        double sum = 0;
        int open = 0;
        for (int i = 0; i < rows; i++) {
            if (!pinned[i]) sum += double(entropy[i]), open++;
        }
        count[1] = float(sum / double(max(open, 1))) < a.confidence;
    }
    __syncthreads();
    for (int place = threadIdx.x; place < rows; place += blockDim.x) {
        const int i = order[place];
        const bool accept = place < count[0];
        accepted[i] = accept;
        canvas[i] = accept ? sampled[i] : fresh[i];
    }
    if (threadIdx.x > 0) return;
    // The last `stability` drafts were all equal to this one.
    const uint32_t same = moved || a.step == 0 ? 0 : state->same + 1;
    state->same = same;
    state->finished = same >= a.stability && count[1];
}

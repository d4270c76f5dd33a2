// Fresh keys and values enter the cache: position p of head h lies at ((h * capacity) + p % capacity) * dim.
//
// kv_append: k and v `[rows, kv_heads, dim]` f32 of positions `start ..`, of which rows `first ..` are stored (the launcher
// leaves out what would be overwritten at once). Grid (rows - first, kv_heads), 128 threads.
// kv_round: x as it would come back from the cache, `n` elements in place. 256 threads per block.
#include "kv.cuh"

KERNEL(128) kv_append(const float* k, const float* v, int first, int start, int capacity, int kv_heads, int dim, int kind,
                      uint8_t* k_cache, uint8_t* v_cache) {
    const int row = first + blockIdx.x, head = blockIdx.y;
    const int64_t from = (int64_t(row) * kv_heads + head) * dim;
    const int64_t to = (int64_t(head) * capacity + (start + row) % capacity) * dim;
    for (int i = threadIdx.x; i < dim; i += blockDim.x) {
        kv_store(k_cache, kind, to + i, k[from + i]);
        kv_store(v_cache, kind, to + i, v[from + i]);
    }
}

KERNEL(256) kv_round(float* x, int kind, int64_t n) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    x[i] = kv_rounded(x[i], kind);
}

// Runs CUDA kernels on the host: the same .cu files, compiled by a C++ compiler with `-include cusim.h`.
//
//   a thread of a block    a fiber with a stack of its own; a scheduler walks over them and goes on where a barrier opened
//   shared memory          allocated for each block in exactly the size of the launch, filled with 0xCD
//   barriers, shuffles     collectives over the block or a warp (warp.h); who waits for somebody who never comes is a
//                          deadlock, reported with block and thread
//   cp.async               the target is filled with 0xCD at once; the data arrive when the kernel waits for them (copy.h)
//   tensor cores           emulated over the fragments of a warp's lanes (tensor.h)
//
// Under -fsanitize=address, reads and writes beyond a buffer of global or shared memory are reported where they happen.
// Under -fsanitize=thread, each fiber is a thread of its own to the checker and only barriers order them, so two accesses to
// shared memory that no barrier separates are reported although the result may be right.
//
// Not modelled: memory order within a warp, bank conflicts, occupancy. Blocks run one after the other.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <sys/mman.h>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}
#endif

// The machinery itself is not under the race checker: only kernels are.
#if defined(__SANITIZE_THREAD__)
#define CUSIM_RUNTIME __attribute__((no_sanitize("thread"), noinline))
#define CUSIM_RELEASE(p) __tsan_release(p)
#define CUSIM_ACQUIRE(p) __tsan_acquire(p)
#else
#define CUSIM_RUNTIME
#define CUSIM_RELEASE(p) (void)0
#define CUSIM_ACQUIRE(p) (void)0
#endif

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

namespace cusim {

#if defined(__SANITIZE_ADDRESS__)
const size_t STACK = 256 << 10; // its frames are larger
#else
const size_t STACK = 64 << 10;
#endif
const unsigned LANES = 32;

struct Barrier {
    unsigned needed = 0, arrived = 0, generation = 0;
};

struct Fragment {
    uint32_t a[4], b[2];
};

// What the lanes of a warp tell each other: two buffers, since a collective can begin while others still read the one
// before.
struct Warp {
    Barrier barrier;
    uint64_t slots[2][LANES];
    Fragment fragments[2][LANES];
};

struct Copy {
    void* to;
    const void* from;
    unsigned bytes;
};

struct Fiber {
    void* stack_pointer = nullptr;
    char* stack = nullptr;
    void* tsan = nullptr;
    dim3 thread;
    unsigned index = 0, phase = 0, votes = 0, seen = 0;
    Barrier* waits = nullptr;
    bool done = false;
    std::vector<Copy> copies;     // issued, not arrived
    std::vector<size_t> groups;   // how many of them each group closed, counted from the first

    // The threads of all tests would leave more mappings behind than a process may have.
    ~Fiber() {
        if (!stack) return;
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(stack, STACK); // whatever is mapped there next
#endif
        munmap(stack, STACK);
    }
};

struct Block {
    dim3 index, size, grid;
    Barrier barrier;
    std::vector<Warp> warps;
    std::vector<Fiber*> fibers;
    std::function<void()> body;
    std::unique_ptr<char[]> memory;
    char* shared = nullptr;
    bool votes[3] = {false, false, false};
    void* stack_pointer = nullptr;
    void* tsan = nullptr;
};

inline thread_local Block* block;
inline thread_local Fiber* fiber;
inline thread_local std::vector<std::unique_ptr<Fiber>> pool; // stacks are kept for the next launch

[[noreturn]] inline void fail(const char* what) {
    const dim3 b = block->index;
    std::fprintf(stderr, "cusim: %s (block %u,%u,%u thread %u)\n", what, b.x, b.y, b.z, fiber ? fiber->index : 0);
    std::abort();
}

#include "fiber.h"

// Waits until every thread that has not ended is here.
CUSIM_RUNTIME inline void wait(Barrier& barrier) {
    CUSIM_RELEASE(&barrier);
    if (++barrier.arrived == barrier.needed) {
        barrier.arrived = 0;
        barrier.generation++;
    } else {
        fiber->waits = &barrier;
        fiber->seen = barrier.generation;
        to_scheduler();
    }
    CUSIM_ACQUIRE(&barrier);
}

// A thread that has ended is waited for no more.
CUSIM_RUNTIME inline void leave(Barrier& barrier) {
    if (--barrier.needed > 0 && barrier.arrived == barrier.needed) {
        barrier.arrived = 0;
        barrier.generation++;
    }
}

CUSIM_RUNTIME inline void run_block(Block& b) {
    block = &b;
    const unsigned threads = b.size.x * b.size.y * b.size.z;
    b.barrier = Barrier{threads, 0, 0};
    b.warps.assign((threads + LANES - 1) / LANES, Warp());
    for (unsigned w = 0; w < b.warps.size(); w++) b.warps[w].barrier.needed = std::min(LANES, threads - w * LANES);
    while (pool.size() < threads) pool.push_back(new_fiber());
    for (unsigned i = 0; i < threads; i++) prepare(*pool[i], i, b.size);
    for (unsigned alive = threads; alive > 0;) {
        bool moved = false;
        for (unsigned i = 0; i < threads; i++) {
            Fiber& f = *pool[i];
            if (f.done || (f.waits && f.waits->generation == f.seen)) continue;
            f.waits = nullptr;
            moved = true;
            to_fiber(f);
            if (!f.done) continue;
            CUSIM_ACQUIRE(&f);
            alive--;
            if (!f.copies.empty() || f.groups.size() > 64) f.copies.clear();
            leave(b.barrier);
            leave(b.warps[i / LANES].barrier);
        }
        if (!moved) {
            for (unsigned i = 0; i < threads && !fiber; i++) fiber = pool[i]->done ? nullptr : pool[i].get();
            fail("deadlock: threads wait at different barriers, or for one that ended");
        }
    }
}

// Runs `body` as a kernel.
inline void launch(dim3 grid, dim3 size, size_t shared_bytes, std::function<void()> body) {
    Block b;
    b.size = size;
    b.grid = grid;
    b.body = std::move(body);
#if defined(__SANITIZE_THREAD__)
    b.tsan = __tsan_get_current_fiber();
#endif
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                b.index = {x, y, z};
                b.memory.reset(new char[shared_bytes + 16]);
                // The end of the memory is the end of the allocation, for the address checker; the start is aligned.
                b.shared = b.memory.get() + (16 - shared_bytes % 16) % 16;
                std::memset(b.shared, 0xCD, shared_bytes);
                run_block(b);
            }
    block = nullptr;
}

inline uint8_t* shared_memory() { return reinterpret_cast<uint8_t*>(block->shared); }

} // namespace cusim

#define threadIdx (cusim::fiber->thread)
#define blockIdx (cusim::block->index)
#define blockDim (cusim::block->size)
#define gridDim (cusim::block->grid)

#include "warp.h"
#include "copy.h"
#include "numbers.h"
#include "tensor.h"

// Barriers, votes and shuffles. Part of cusim.h.
namespace cusim {

CUSIM_RUNTIME inline Warp& warp() { return block->warps[fiber->index / LANES]; }
CUSIM_RUNTIME inline unsigned lane() { return fiber->index % LANES; }

// Lane `from`'s value.
CUSIM_RUNTIME inline uint64_t exchange(uint64_t mine, unsigned from) {
    Warp& w = warp();
    const unsigned phase = fiber->phase++ & 1;
    w.slots[phase][lane()] = mine;
    wait(w.barrier);
    return w.slots[phase][from % LANES];
}

CUSIM_RUNTIME inline uint32_t ballot(bool mine) {
    Warp& w = warp();
    const unsigned phase = fiber->phase++ & 1;
    w.slots[phase][lane()] = mine;
    wait(w.barrier);
    uint32_t all = 0;
    for (unsigned i = 0; i < LANES; i++) all |= uint32_t(w.slots[phase][i]) << i;
    return all;
}

// Three votes in turn: whoever begins one clears the next, which nobody reads any more.
CUSIM_RUNTIME inline bool any(bool mine) {
    const unsigned turn = fiber->votes++ % 3;
    block->votes[(turn + 1) % 3] = false;
    if (mine) block->votes[turn] = true;
    wait(block->barrier);
    return block->votes[turn];
}

} // namespace cusim

inline void __syncthreads() { cusim::wait(cusim::block->barrier); }
inline int __syncthreads_or(int mine) { return cusim::any(mine != 0); }
inline void __syncwarp(uint32_t = ~0u) { cusim::wait(cusim::warp().barrier); }
inline uint32_t __ballot_sync(uint32_t, int mine) { return cusim::ballot(mine != 0); }
inline int __popc(uint32_t x) { return __builtin_popcount(x); }

template <class T>
T __shfl_xor_sync(uint32_t, T mine, int mask) {
    static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &mine, sizeof mine);
    bits = cusim::exchange(bits, cusim::lane() ^ unsigned(mask));
    std::memcpy(&mine, &bits, sizeof mine);
    return mine;
}

// Asynchronous copies. Part of cusim.h.
namespace cusim {

// In words of 8 bytes: the compiler expands a copy of 16 after the race checker's pass, unseen.
inline void put(void* to, const void* from, unsigned bytes) {
    for (unsigned i = 0; i < bytes / 8; i++) {
        static_cast<uint64_t*>(to)[i] = from ? static_cast<const uint64_t*>(from)[i] : 0xCDCDCDCDCDCDCDCDull;
    }
}

inline void cp_async(void* to, const void* from, unsigned bytes = 16) {
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes) fail("cp.async: not aligned");
    put(to, nullptr, bytes);
    fiber->copies.push_back({to, from, bytes});
}

inline void cp_async_commit() { fiber->groups.push_back(fiber->copies.size()); }

inline void cp_async_wait(unsigned pending) {
    auto& groups = fiber->groups;
    if (groups.size() <= pending) return;
    const size_t closed = groups.size() - pending, arrived = groups[closed - 1];
    for (size_t i = 0; i < arrived; i++) put(fiber->copies[i].to, fiber->copies[i].from, fiber->copies[i].bytes);
    fiber->copies.erase(fiber->copies.begin(), fiber->copies.begin() + arrived);
    groups.erase(groups.begin(), groups.begin() + closed);
    for (auto& group : groups) group -= arrived;
}

} // namespace cusim

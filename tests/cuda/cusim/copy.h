// Asynchronous copies. Part of cusim.h.
namespace cusim {

// In words of 8 bytes: the compiler expands a copy of 16 after the race checker's pass, unseen.
inline void put(void* to, const void* from) {
    for (int i = 0; i < 2; i++) {
        static_cast<uint64_t*>(to)[i] = from ? static_cast<const uint64_t*>(from)[i] : 0xCDCDCDCDCDCDCDCDull;
    }
}

inline void cp_async(void* to, const void* from) {
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16) fail("cp.async: not aligned to 16");
    put(to, nullptr);
    fiber->copies.push_back({to, from});
}

inline void cp_async_commit() { fiber->groups.push_back(fiber->copies.size()); }

inline void cp_async_wait(unsigned pending) {
    auto& groups = fiber->groups;
    if (groups.size() <= pending) return;
    const size_t closed = groups.size() - pending, arrived = groups[closed - 1];
    for (size_t i = 0; i < arrived; i++) put(fiber->copies[i].to, fiber->copies[i].from);
    fiber->copies.erase(fiber->copies.begin(), fiber->copies.begin() + arrived);
    groups.erase(groups.begin(), groups.begin() + closed);
    for (auto& group : groups) group -= arrived;
}

} // namespace cusim

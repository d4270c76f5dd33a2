// Fibers: a stack each and a switch of eight instructions (x86-64; the registers that a call must preserve). Part of
// cusim.h, inside its namespace.

#if !defined(__x86_64__)
#error "cusim: fibers are written for x86-64"
#endif

extern "C" void cusim_switch(void** save, void* to);
asm(R"(
.text
.weak cusim_switch
.type cusim_switch,@function
cusim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cusim_switch, .-cusim_switch
)");

// What the address checker has to know about the scheduler's stack.
inline thread_local void* scheduler_fake_stack;
inline thread_local const void* scheduler_stack;
inline thread_local size_t scheduler_stack_bytes;

CUSIM_RUNTIME inline void to_fiber(Fiber& f) {
    fiber = &f;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, f.stack, STACK);
#elif defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(f.tsan, 1); // 1: the switch itself orders nothing
#endif
    cusim_switch(&block->stack_pointer, f.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
    fiber = nullptr;
}

CUSIM_RUNTIME inline void to_scheduler() {
    Fiber& f = *fiber;
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(f.done ? nullptr : &fake_stack, scheduler_stack, scheduler_stack_bytes);
#elif defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(block->tsan, 1);
#endif
    cusim_switch(&f.stack_pointer, block->stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

// Where a fiber starts.
CUSIM_RUNTIME inline void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    CUSIM_ACQUIRE(fiber);
    block->body();
    CUSIM_RELEASE(fiber);
    fiber->done = true;
    to_scheduler();
    __builtin_unreachable();
}

CUSIM_RUNTIME inline std::unique_ptr<Fiber> new_fiber() {
    auto f = std::make_unique<Fiber>();
    void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, 4096, PROT_NONE) != 0) fail("no memory for a stack");
    f->stack = static_cast<char*>(stack);
#if defined(__SANITIZE_THREAD__)
    f->tsan = __tsan_create_fiber(0);
#endif
    return f;
}

CUSIM_RUNTIME inline void prepare(Fiber& f, unsigned i, dim3 size) {
    f.index = i;
    f.thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    f.phase = f.votes = f.seen = 0;
    f.waits = nullptr;
    f.done = false;
    f.copies.clear();
    f.groups.clear();
    CUSIM_RELEASE(&f);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f.stack, STACK); // the fiber before ended without returning from its frames
#endif
    // Stack tops of different colours: equal ones would fight for the same lines of the cache.
    void** top = reinterpret_cast<void**>(f.stack + STACK - i % 61 * 256) - 2;
    *top = reinterpret_cast<void*>(enter);
    top -= 6;
    std::memset(top, 0, 6 * sizeof(void*));
    f.stack_pointer = top;
}

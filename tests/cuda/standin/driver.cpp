// A stand-in for libcuda.so.1: the driver entry points that the library uses, with kernels run on the host (cusim).
//
// Device memory is host memory of exactly the size asked for, so the address checker watches every access of a kernel. Work
// on a stream is done at once, but for copies from page-locked memory: those are done as late as the rules allow, when their
// stream goes on or something waits for them, so that a missing wait shows. Images are read whole but not understood: every
// kernel that registered itself is in every module.
//
// Failures on demand, per thread, so that tests can run side by side:
//   standin_fail(call, n, code, for_good)   the n-th call from now of that name answers `code`; with for_good every call does
//                                           from then on, as after a lost device
//   standin_memory(bytes)                   what the device has, for allocations of this thread; 0: 8 GiB
//   standin_shared(bytes)                   shared memory that a block can have; 0: 99 KiB, the least of all devices
//   standin_capability(ten_times)           compute capability; 0: 86, of the devices with the least shared memory
//   standin_driver(version)                 what cuDriverGetVersion says; 0: 13000
//   standin_devices(n)                      how many there are; -1: cuInit answers CUDA_ERROR_NO_DEVICE
// and standin_allocated(): bytes of device memory in use, by all threads; standin_allocated_here(): of those that this thread
// asked for; standin_page_locked_here(): the same of page-locked memory; standin_most_allocated_here(),
// standin_most_page_locked_here(): the most of either, since the last time that was asked; standin_launches(): kernels run by this thread;
// standin_copies_in_order(): copies beside a stream with kernels, by this thread, that had waited for all kernels there before
// they began; standin_copies_out_of_order(): those that had not; standin_copy_lag(): of these, the most kernels that one had
// not waited for, since the last time that was asked;
// standin_image(&hash): bytes of the image that this thread loaded last, and their FNV-1a hash;
// standin_calls(call): calls of that name by this thread. What a stream is asked for while it records is in graph.h.
// standin_clock(kernel, start, wait): from now on this thread's streams have clocks of their own, which go on by so many
// nanoseconds for each kernel of a graph but the empty one, for each node that starts, and for each wait for an event of the
// stream; zeros: the host's clock.
#include "graph.h"
#include "registry.h"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

typedef int Result;
typedef unsigned long long Address;

static thread_local struct {
    const char* call = "";
    int after = 0, code = 0;
    bool for_good = false, lost = false;
} failing;
static thread_local size_t memory_bytes = 0, shared_bytes = 101376, launches = 0;
static thread_local int capability = 86, driver_version = 13000, devices = 1;
static std::atomic<size_t> allocated{0};
static std::mutex sizes_lock;
static std::unordered_map<Address, size_t> sizes;
static std::map<Address, size_t> page_locked; // by the same lock
static thread_local size_t allocated_here = 0, page_locked_here = 0, in_order = 0, out_of_order = 0, lag = 0;
static thread_local size_t most_allocated_here = 0, most_page_locked_here = 0;

// Copies that were asked for and not done yet, and how far this stream waits for the kernels of others.
struct Copy {
    Address to, from;
    size_t bytes;
};
struct Stream {
    std::deque<Copy> late;
    size_t asked = 0, done = 0, launched = 0;
    std::map<Stream*, size_t> waited;
    uint64_t nanoseconds = 0;
};
struct Event {
    bool timed;
    Stream* stream = nullptr;
    size_t asked = 0, launched = 0;
    uint64_t nanoseconds = 0;
};
static thread_local struct {
    uint64_t kernel, start, wait;
} clocks = {};
static std::recursive_mutex streams_lock;
static std::set<Stream*> streams;

static void catch_up(Stream* stream, size_t until) {
    std::lock_guard<std::recursive_mutex> lock(streams_lock);
    while (stream->done < until) {
        const Copy& copy = stream->late.front();
        std::memcpy(reinterpret_cast<void*>(copy.to), reinterpret_cast<void*>(copy.from), copy.bytes);
        stream->late.pop_front();
        stream->done++;
    }
}
static void catch_up(void* stream) {
    std::lock_guard<std::recursive_mutex> lock(streams_lock);
    catch_up(static_cast<Stream*>(stream), static_cast<Stream*>(stream)->asked);
}

// Freeing waits for copies from or to what is freed.
static void catch_up_with(Address memory, size_t bytes) {
    std::lock_guard<std::recursive_mutex> lock(streams_lock);
    const auto within = [=](Address at) { return at >= memory && at < memory + bytes; };
    const auto concerned = [=](const Copy& copy) { return within(copy.to) || within(copy.from); };
    for (Stream* stream : streams)
        if (std::any_of(stream->late.begin(), stream->late.end(), concerned)) catch_up(stream, stream->asked);
}

static bool is_page_locked(const void* memory) {
    std::lock_guard<std::mutex> lock(sizes_lock);
    const auto next = page_locked.upper_bound(Address(memory));
    if (next == page_locked.begin()) return false;
    const auto& [start, bytes] = *std::prev(next);
    return Address(memory) < start + bytes;
}

static void goes_on(void* stream, const Node& node) {
    static_cast<Stream*>(stream)->nanoseconds += clocks.start + (node.kind == KERNEL_NODE ? clocks.kernel : 0);
}
static uint64_t nanoseconds(const Stream* stream) {
    if (clocks.kernel || clocks.start || clocks.wait) return stream->nanoseconds;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static thread_local std::unordered_map<std::string, size_t> calls;

static int failure(const char* call) {
    calls[call]++;
    if (failing.lost) return failing.code;
    if (std::strcmp(failing.call, call) != 0 || --failing.after > 0) return 0;
    failing.call = "";
    failing.lost = failing.for_good;
    return failing.code;
}

#define EXPORT extern "C" __attribute__((visibility("default")))
#define CALL(name, ...) EXPORT Result name(__VA_ARGS__)
#define MAY_FAIL                                                                                                       \
    if (const int code = failure(__func__)) return code

EXPORT void standin_fail(const char* call, int n, int code, int for_good) {
    static thread_local std::string name;
    name = call;
    failing = {name.c_str(), n, code, for_good != 0, false};
}
EXPORT void standin_memory(size_t bytes) { memory_bytes = bytes; }
EXPORT void standin_shared(size_t bytes) { shared_bytes = bytes ? bytes : 101376; }
EXPORT void standin_capability(int ten_times) { capability = ten_times ? ten_times : 86; }
EXPORT void standin_driver(int version) { driver_version = version ? version : 13000; }
EXPORT void standin_devices(int n) { devices = n; }
EXPORT void standin_clock(size_t kernel, size_t start, size_t wait) { clocks = {kernel, start, wait}; }
EXPORT size_t standin_allocated() { return allocated; }
EXPORT size_t standin_allocated_here() { return allocated_here; }
EXPORT size_t standin_page_locked_here() { return page_locked_here; }
EXPORT size_t standin_most_allocated_here() { return std::exchange(most_allocated_here, allocated_here); }
EXPORT size_t standin_most_page_locked_here() { return std::exchange(most_page_locked_here, page_locked_here); }
EXPORT size_t standin_launches() { return launches; }
EXPORT size_t standin_copies_in_order() { return in_order; }
EXPORT size_t standin_copies_out_of_order() { return out_of_order; }
EXPORT size_t standin_copy_lag() { return std::exchange(lag, 0); }

EXPORT size_t standin_calls(const char* call) { return calls[call]; }

#define NOT_RECORDED                                                                                                   \
    MAY_FAIL;                                                                                                          \
    if (const int code = refused()) return code

CALL(cuInit, unsigned) {
    MAY_FAIL;
    return devices < 0 ? 100 : 0;
}
CALL(cuDriverGetVersion, int* version) {
    MAY_FAIL;
    *version = driver_version;
    return 0;
}
CALL(cuDeviceGetCount, int* count) {
    MAY_FAIL;
    *count = devices;
    return 0;
}
CALL(cuDeviceGet, int* device, int ordinal) {
    MAY_FAIL;
    *device = ordinal;
    return ordinal < devices ? 0 : 101;
}
CALL(cuDeviceGetName, char* name, int bytes, int) {
    MAY_FAIL;
    std::snprintf(name, bytes, "stand-in");
    return 0;
}
CALL(cuDeviceGetAttribute, int* value, int attribute, int) {
    MAY_FAIL;
    switch (attribute) {
    case 16: *value = 4; break;       // multiprocessors
    case 75: *value = capability / 10; break;
    case 76: *value = capability % 10; break;
    case 97: *value = int(shared_bytes); break; // shared memory per block, on request
    default: return 1;
    }
    return 0;
}
CALL(cuDeviceTotalMem_v2, size_t* bytes, int) {
    MAY_FAIL;
    *bytes = memory_bytes ? memory_bytes : size_t(8) << 30;
    return 0;
}
CALL(cuDevicePrimaryCtxRetain, void** context, int) {
    MAY_FAIL;
    *context = reinterpret_cast<void*>(1);
    return 0;
}
CALL(cuDevicePrimaryCtxRelease_v2, int) { return 0; }
CALL(cuCtxSetCurrent, void*) {
    MAY_FAIL;
    return 0;
}
CALL(cuMemGetInfo_v2, size_t* free, size_t* total) {
    NOT_RECORDED;
    *total = memory_bytes ? memory_bytes : size_t(8) << 30;
    *free = *total > allocated_here ? *total - allocated_here : 0;
    return 0;
}
// The bytes of an image: as many as a fatbin's header says, or the eight that the stand-in compiler makes; 0: neither.
static size_t image_bytes(const void* image) {
    struct {
        uint32_t magic;
        uint16_t version, header;
        uint64_t rest;
    } fatbin;
    if (std::memcmp(image, "\x7f" "ELFfake", 8) == 0) return 8;
    std::memcpy(&fatbin, image, sizeof fatbin);
    return fatbin.magic == 0xba55ed50 && fatbin.version == 1 ? fatbin.header + fatbin.rest : 0;
}
static thread_local size_t last_image_bytes = 0;
static thread_local uint64_t last_image_hash = 0;
EXPORT size_t standin_image(uint64_t* hash) {
    *hash = last_image_hash;
    return last_image_bytes;
}
CALL(cuModuleLoadData, void** module, const void* image) {
    NOT_RECORDED;
    last_image_bytes = image_bytes(image);
    if (last_image_bytes == 0) return 200;
    last_image_hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < last_image_bytes; i++) {
        last_image_hash = (last_image_hash ^ static_cast<const unsigned char*>(image)[i]) * 0x100000001b3;
    }
    *module = reinterpret_cast<void*>(2);
    return 0;
}
CALL(cuModuleUnload, void*) { return 0; }
CALL(cuModuleGetFunction, void** function, void*, const char* name) {
    NOT_RECORDED;
    const auto found = registry().find(name);
    if (found == registry().end()) return 500;
    *function = &found->second;
    return 0;
}
CALL(cuFuncSetAttribute, void*, int, int value) {
    MAY_FAIL;
    return size_t(value) > shared_bytes ? 1 : 0;
}
CALL(cuStreamCreate, void** stream, unsigned) {
    MAY_FAIL;
    Stream* made = new Stream;
    std::lock_guard<std::recursive_mutex> lock(streams_lock);
    streams.insert(made);
    *stream = made;
    return 0;
}
CALL(cuStreamDestroy_v2, void* stream) {
    std::lock_guard<std::recursive_mutex> lock(streams_lock);
    catch_up(stream);
    streams.erase(static_cast<Stream*>(stream));
    delete static_cast<Stream*>(stream);
    return 0;
}
CALL(cuStreamSynchronize, void* stream) {
    NOT_RECORDED;
    catch_up(stream);
    return 0;
}
CALL(cuStreamWaitEvent, void* stream, void* event, unsigned) {
    NOT_RECORDED;
    std::lock_guard<std::recursive_mutex> lock(streams_lock);
    const Event& e = *static_cast<Event*>(event);
    if (!e.stream) return 0;
    catch_up(e.stream, e.asked);
    size_t& waited = static_cast<Stream*>(stream)->waited[e.stream];
    waited = std::max(waited, e.launched);
    return 0;
}
CALL(cuEventCreate, void** event, unsigned flags) {
    MAY_FAIL;
    *event = new Event{(flags & 2) == 0};
    return 0;
}
CALL(cuEventRecord, void* event, void* stream) {
    NOT_RECORDED;
    std::lock_guard<std::recursive_mutex> lock(streams_lock);
    Stream* s = static_cast<Stream*>(stream);
    Event& e = *static_cast<Event*>(event);
    e = {e.timed, s, s->asked, s->launched, nanoseconds(s)};
    return 0;
}
CALL(cuEventSynchronize, void* event) {
    NOT_RECORDED;
    const Event& e = *static_cast<Event*>(event);
    if (!e.stream) return 0;
    catch_up(e.stream, e.asked);
    e.stream->nanoseconds += clocks.wait;
    return 0;
}
CALL(cuEventElapsedTime_v2, float* milliseconds, void* from, void* to) {
    MAY_FAIL;
    const Event &a = *static_cast<Event*>(from), &b = *static_cast<Event*>(to);
    if (!a.timed || !b.timed || !a.stream || !b.stream) return 400;
    *milliseconds = float(double(int64_t(b.nanoseconds - a.nanoseconds)) / 1e6);
    return 0;
}
CALL(cuEventDestroy_v2, void* event) {
    delete static_cast<Event*>(event);
    return 0;
}
CALL(cuMemHostAlloc, void** memory, size_t bytes, unsigned) {
    NOT_RECORDED;
    *memory = std::malloc(bytes);
    if (!*memory) return 2;
    page_locked_here += bytes;
    most_page_locked_here = std::max(most_page_locked_here, page_locked_here);
    std::lock_guard<std::mutex> lock(sizes_lock);
    page_locked[Address(*memory)] = bytes;
    return 0;
}
CALL(cuMemFreeHost, void* memory) {
    refused();
    size_t bytes;
    {
        std::lock_guard<std::mutex> lock(sizes_lock);
        bytes = page_locked[Address(memory)];
        page_locked_here -= bytes;
        page_locked.erase(Address(memory));
    }
    catch_up_with(Address(memory), bytes);
    std::free(memory);
    return 0;
}
CALL(cuMemAlloc_v2, Address* memory, size_t bytes) {
    NOT_RECORDED;
    if (memory_bytes && allocated_here + bytes > memory_bytes) return 2;
    *memory = Address(std::malloc(bytes));
    if (!*memory) return 2;
    std::memset(reinterpret_cast<void*>(*memory), 0xCD, bytes);
    allocated += bytes, allocated_here += bytes;
    most_allocated_here = std::max(most_allocated_here, allocated_here);
    std::lock_guard<std::mutex> lock(sizes_lock);
    sizes[*memory] = bytes;
    return 0;
}
CALL(cuMemFree_v2, Address memory) {
    refused();
    size_t bytes;
    {
        std::lock_guard<std::mutex> lock(sizes_lock);
        bytes = sizes[memory];
        allocated -= bytes, allocated_here -= bytes;
        sizes.erase(memory);
    }
    catch_up_with(memory, bytes);
    std::free(reinterpret_cast<void*>(memory));
    return 0;
}
CALL(cuMemsetD8Async, Address to, unsigned char value, size_t bytes, void* stream) {
    MAY_FAIL;
    catch_up(stream);
    return work(stream, FILL, [=] { std::memset(reinterpret_cast<void*>(to), value, bytes); });
}
CALL(cuMemcpyHtoDAsync_v2, Address to, const void* from, size_t bytes, void* stream) {
    MAY_FAIL;
    if (!is_page_locked(from) && refused()) return UNSUPPORTED;
    if (captures.count(stream)) {
        return work(stream, COPY_IN, [=] { std::memcpy(reinterpret_cast<void*>(to), from, bytes); });
    }
    std::lock_guard<std::recursive_mutex> lock(streams_lock);
    Stream& s = *static_cast<Stream*>(stream);
    if (!is_page_locked(from)) {
        catch_up(stream);
        std::memcpy(reinterpret_cast<void*>(to), from, bytes);
        return 0;
    }
    if (!s.launched) {
        for (const auto& [other, waited] : s.waited) {
            (waited == other->launched ? in_order : out_of_order)++;
            lag = std::max(lag, other->launched - waited);
        }
    }
    s.late.push_back({to, Address(from), bytes});
    s.asked++;
    return 0;
}
CALL(cuMemcpyDtoDAsync_v2, Address to, Address from, size_t bytes, void* stream) {
    MAY_FAIL;
    catch_up(stream);
    const auto copy = [=] { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes); };
    return work(stream, COPY_WITHIN, copy);
}
CALL(cuMemcpyDtoHAsync_v2, void* to, Address from, size_t bytes, void* stream) {
    MAY_FAIL;
    if (!is_page_locked(to) && refused()) return UNSUPPORTED;
    catch_up(stream);
    return work(stream, COPY_OUT, [=] { std::memcpy(to, reinterpret_cast<void*>(from), bytes); });
}

struct Copy2D { // CUDA_MEMCPY2D
    size_t from_x, from_y;
    unsigned from_type;
    const void* from_host;
    Address from_device;
    void* from_array;
    size_t from_pitch, to_x, to_y;
    unsigned to_type;
    void* to_host;
    Address to_device;
    void* to_array;
    size_t to_pitch, width, height;
};

CALL(cuMemcpy2DAsync_v2, const Copy2D* copy, void* stream) {
    NOT_RECORDED;
    catch_up(stream);
    if (copy->from_type != 2 || copy->to_type != 1) return 1; // from the device to the host
    for (size_t y = 0; y < copy->height; y++) {
        std::memcpy(static_cast<char*>(copy->to_host) + (copy->to_y + y) * copy->to_pitch + copy->to_x,
                    reinterpret_cast<char*>(copy->from_device) + (copy->from_y + y) * copy->from_pitch + copy->from_x,
                    copy->width);
    }
    return 0;
}
CALL(cuLaunchKernel, void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
     unsigned shared, void* stream, void** arguments, void**) {
    MAY_FAIL;
    catch_up(stream);
    if (!gx || gx > 0x7fffffff || !gy || gy > 65535 || !gz || gz > 65535 || bx * by * bz > 1024) return 1;
    if (shared > shared_bytes) return 1;
    const auto thread = (*static_cast<Bind*>(function))(arguments);
    if (!captures.count(stream)) {
        std::lock_guard<std::recursive_mutex> lock(streams_lock);
        static_cast<Stream*>(stream)->launched++;
    }
    return work(stream, function == &registry()["peak_nothing"] ? NOTHING : KERNEL_NODE, [=] {
        launches++;
        cusim::launch({gx, gy, gz}, {bx, by, bz}, shared, thread);
    });
}
CALL(cuStreamBeginCapture_v2, void* stream, int mode) {
    MAY_FAIL;
    return begin_capture(stream, mode);
}
CALL(cuStreamEndCapture, void* stream, void** graph) {
    const int code = end_capture(stream, reinterpret_cast<Graph**>(graph)); // the recording ends in any case
    MAY_FAIL;
    return code;
}
CALL(cuGraphInstantiateWithFlags, void** executable, void* graph, unsigned long long) {
    NOT_RECORDED;
    *executable = new Graph(*static_cast<Graph*>(graph));
    return 0;
}
CALL(cuGraphGetNodes, void* graph, void** nodes, size_t* count) {
    NOT_RECORDED;
    if (nodes) return 1;
    *count = static_cast<Graph*>(graph)->size();
    return 0;
}
CALL(cuGraphExecUpdate_v2, void* executable, void* graph, void*) {
    NOT_RECORDED;
    return update(static_cast<Graph*>(executable), static_cast<Graph*>(graph));
}
CALL(cuGraphLaunch, void* executable, void* stream) {
    NOT_RECORDED;
    catch_up(stream);
    for (const Node& node : *static_cast<Graph*>(executable)) {
        work(stream, node.kind, node.run);
        goes_on(stream, node);
    }
    return 0;
}
CALL(cuGraphExecDestroy, void* executable) {
    delete static_cast<Graph*>(executable);
    return 0;
}
CALL(cuGraphDestroy, void* graph) {
    delete static_cast<Graph*>(graph);
    return 0;
}
CALL(cuGetErrorName, int code, const char** name) {
    switch (code) {
    case 1: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case 2: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case 100: *name = "CUDA_ERROR_NO_DEVICE"; break;
    case 101: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
    case 200: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
    case 400: *name = "CUDA_ERROR_INVALID_HANDLE"; break;
    case 500: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case 900: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
    case 901: *name = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"; break;
    case 910: *name = "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE"; break;
    case 719: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
    default: return 1;
    }
    return 0;
}

// Recorded work: between cuStreamBeginCapture and cuStreamEndCapture, what is asked of a stream becomes a node of a graph,
// with the values that its arguments have then. Part of driver.cpp.
//
// As strict as the driver where a thread records for itself (CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), or stricter: memory, code
// and waits of this thread, and copies from memory that is not page-locked, are refused and spoil the recording, which then
// has no graph at its end. Not modelled: two threads on a stream that records, events in graphs.
#pragma once
#include <functional>
#include <map>
#include <vector>

enum Kind { KERNEL_NODE, NOTHING, COPY_IN, COPY_OUT, COPY_WITHIN, FILL };

struct Node {
    Kind kind;
    std::function<void()> run;
};
typedef std::vector<Node> Graph;

struct Capture {
    Graph* graph;
    bool spoiled;
};
static thread_local std::map<void*, Capture> captures; // by stream
static const int UNSUPPORTED = 900, INVALIDATED = 901, UPDATE_FAILURE = 910;

// The answer to a call that cannot be recorded: an error if this thread records.
static int refused() {
    for (auto& [stream, capture] : captures) capture.spoiled = true;
    return captures.empty() ? 0 : UNSUPPORTED;
}

// Notes work for a stream that records, or does it.
static int work(void* stream, Kind kind, std::function<void()> run) {
    const auto found = captures.find(stream);
    if (found == captures.end()) {
        run();
        return 0;
    }
    if (found->second.spoiled) return INVALIDATED;
    found->second.graph->push_back({kind, std::move(run)});
    return 0;
}

static int begin_capture(void* stream, int mode) {
    if (mode != 1 || captures.count(stream)) return 1;
    captures[stream] = {new Graph, false};
    return 0;
}

static int end_capture(void* stream, Graph** graph) {
    const auto found = captures.find(stream);
    if (found == captures.end()) return 1;
    const Capture capture = found->second;
    captures.erase(found);
    *graph = capture.spoiled ? nullptr : capture.graph;
    if (capture.spoiled) delete capture.graph;
    return capture.spoiled ? INVALIDATED : 0;
}

// Replaces what an executable does, if the graph has the same shape.
static int update(Graph* executable, const Graph* graph) {
    bool same = executable->size() == graph->size();
    for (size_t i = 0; same && i < graph->size(); i++) same = (*executable)[i].kind == (*graph)[i].kind;
    if (same) *executable = *graph;
    return same ? 0 : UPDATE_FAILURE;
}

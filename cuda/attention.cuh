// What a call of attention looks like, and who sees whom: `AttentionShape` of src/backend/mod.rs.
//   causal   row t sees positions up to its own: end = start + t + 1, first = end - window (or 0)
//   canvas   every row sees all fresh rows: end = start + rows, first = start + 1 - window (or 0)
#pragma once
#include "kv.cuh"

struct Shape {
    int rows, start, heads, kv_heads, dim, window, causal, capacity, kind;
};

DEVICE int visible_first(const Shape& s, int row) {
    const int end = s.causal ? s.start + row + 1 : s.start + 1;
    return s.window > 0 && end > s.window ? end - s.window : 0;
}

DEVICE int visible_end(const Shape& s, int row) { return s.causal ? s.start + row + 1 : s.start + s.rows; }

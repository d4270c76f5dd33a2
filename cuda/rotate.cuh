// The rotary embedding of a pair. The angle is rounded to f32, as in the reference; then it is reduced in f64, so that a
// position of 262,143 costs no accuracy and no slow path.
#pragma once
#include "common.cuh"

DEVICE void rotate(float a, float b, int position, float inv_freq, float& to_a, float& to_b) {
    const float angle = float(position) * inv_freq;
    const double turns = double(angle) * 0.31830988618379067; // of half a turn
    const float rest = float(turns - 2.0 * rint(turns * 0.5));
    float sine, cosine;
    sincospif(rest, &sine, &cosine);
    to_a = a * cosine - b * sine;
    to_b = b * cosine + a * sine;
}

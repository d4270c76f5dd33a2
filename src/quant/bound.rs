//! How far decoded values may be from what was encoded: for the conformance tests, and for whoever verifies a file.

use super::Format;

/// The largest error that encoding and decoding a block may leave at `x`: half a step of the codes, plus what rounding
/// the scale (and the minimum) to F16, half a unit in 11 bits, does to the largest code.
pub fn error_bound(format: &Format, block: &[f32], x: f32) -> f32 {
    const HALF_ULP_F16: f32 = 1.0 / 2048.0;
    const SMALLEST_F16: f32 = 6e-8;
    let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
    let min = block.iter().fold(f32::INFINITY, |m, &x| m.min(x));
    let max = block.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    let slack = 1e-6 * largest;
    let searched = |step, scales, codes| 1.5 * step + scales + largest * HALF_ULP_F16 + codes * SMALLEST_F16 + slack;
    match format.name {
        "F32" => 0.0,
        "F16" => (x.abs() * HALF_ULP_F16).max(SMALLEST_F16 / 2.0),
        "BF16" => x.abs() / 256.0,
        "Q8_0" => largest / 127.0 / 2.0 + largest * HALF_ULP_F16 + 127.0 * SMALLEST_F16 + slack,
        // The far end has only 7 (15) steps where the near one has 8 (16): up to a whole step is lost there.
        "Q4_0" => largest / 8.0 + largest * HALF_ULP_F16 + 8.0 * SMALLEST_F16 + slack,
        "Q5_0" => largest / 16.0 + largest * HALF_ULP_F16 + 16.0 * SMALLEST_F16 + slack,
        "Q4_1" | "Q5_1" => {
            let steps = if format.name == "Q4_1" { 15.0 } else { 31.0 };
            (max - min) / steps / 2.0 + (max - min + largest) * HALF_ULP_F16 + (steps + 1.0) * SMALLEST_F16 + slack
        }
        // Steps of 2 between the largest codes, 4 and 6, and 8, which is cut off to 6: a quarter of the largest magnitude.
        "MXFP4" => largest / 4.0 + slack,
        // The scale has four bits and an end at 2^-9 and at 448; half of the largest step, of 2 in 6, and its rounding.
        "NVFP4" => largest / 6.0 + largest / 16.0 + 3.0 / 512.0 + (largest - 2688.0).max(0.0),
        // Least squares give up the exact ends of the range: one step more than rounding needs (a half), and what the
        // scales of sub-blocks lose: half a step of the largest scale (and minimum), times the largest code.
        "Q6_K" => searched(2.0 * largest / 63.0, largest / 128.0, 128.0 * 32.0),
        "Q5_K" => searched((max - min.min(0.0)) / 31.0, (max - min) / 63.0, 63.0 * 31.0),
        "Q4_K" => searched((max - min.min(0.0)) / 15.0, (max - min) / 63.0, 63.0 * 15.0),
        "Q3_K" => searched(2.0 * largest / 7.0, largest / 32.0, 32.0 * 4.0),
        "Q2_K" => searched((max - min.min(0.0)) / 3.0, (max - min) / 15.0, 15.0 * 3.0),
        // The widest gap between two values is 24 of 113.
        "IQ4_XS" => searched(largest * 24.0 / 113.0, largest / 32.0, 32.0 * 113.0),
        "IQ4_NL" => searched(largest * 24.0 / 113.0, 0.0, 113.0),
        // A format without a row here is held to the strictest bound, and so found by its first test.
        _ => 0.0,
    }
}

/// Beyond this magnitude, numbers are cut off; `None` where they become infinite instead.
pub fn cut_off(format: &Format) -> Option<f32> {
    // The largest scale, 448, times the largest code, 6.
    (format.name == "NVFP4").then_some(2688.0)
}

/// Elements that lose everything together when the scale they share is too small to be stored: the block, where scales of
/// parts are relative to one of the block; floats have none, and are taken 32 at a time.
pub fn scaled_together(format: &Format) -> usize {
    // The scales of NVFP4's sub-blocks stand alone.
    if format.name == "NVFP4" { 16 } else { format.block.max(32) }
}

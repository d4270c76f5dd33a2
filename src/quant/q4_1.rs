//! Q4_1: 32 codes of 4 bits under a scale and a minimum.
//!
//! ```text
//! byte 0   d       F16 scale
//!      2   m       F16 minimum
//!      4   qs[16]  low nibble of qs[j]: element j, high nibble: element j + 16; value d * q + m
//! ```
//!
//! The encoder is the rule that all tools share: d = (max - min) / 15, m = min, q = min(15, trunc((x - m) / d + 0.5)).

use super::{Format, decoding, encoding, field, field_mut, half, set_half};

const BLOCK: usize = 32;
const BYTES: usize = 4 + BLOCK / 2;
const _: () = assert!(BYTES == 20);

/// The descriptor.
pub static Q4_1: Format =
    Format { name: "Q4_1", id: 3, block: BLOCK, block_bytes: BYTES, decode, encode: Some(encode) };

fn decode(src: &[u8], dst: &mut [f32]) {
    for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
        let (d, m) = (half::<0, BYTES>(block), half::<2, BYTES>(block));
        let qs = field::<4, 16, BYTES>(block);
        for j in 0..16 {
            x[j] = d * f32::from(qs[j] & 15) + m;
            x[j + 16] = d * f32::from(qs[j] >> 4) + m;
        }
    }
}

fn encode(src: &[f32], _: Option<&[f32]>, dst: &mut [u8]) {
    for (x, block) in encoding::<BLOCK, BYTES>(src, dst) {
        let (min, max) = range(x);
        let d = (max - min) / 15.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        set_half::<0, BYTES>(block, d);
        set_half::<2, BYTES>(block, min);
        let code = |x: f32| ((x - min) * inverse + 0.5) as u8;
        let qs = field_mut::<4, 16, BYTES>(block);
        for j in 0..16 {
            qs[j] = code(x[j]).min(15) | code(x[j + 16]).min(15) << 4;
        }
    }
}

/// Smallest and largest value.
pub(super) fn range(x: &[f32; BLOCK]) -> (f32, f32) {
    x.iter().fold((x[0], x[0]), |(min, max), &x| (min.min(x), max.max(x)))
}

//! Q4_0: 32 codes of 4 bits under one scale.
//!
//! ```text
//! byte 0   d       F16 scale
//!      2   qs[16]  low nibble of qs[j]: element j, high nibble: element j + 16; value d * (q - 8)
//! ```
//!
//! The encoder is the rule that all tools share: d = m / -8, where m is the first value of the largest magnitude, so that
//! m itself gets code 0; then q = min(15, trunc(x / d + 8.5)).

use super::{Format, decoding, encoding, field, field_mut, half, set_half};

const BLOCK: usize = 32;
const BYTES: usize = 2 + BLOCK / 2;
const _: () = assert!(BYTES == 18);

/// The descriptor.
pub static Q4_0: Format =
    Format { name: "Q4_0", id: 2, block: BLOCK, block_bytes: BYTES, decode, encode: Some(encode) };

fn decode(src: &[u8], dst: &mut [f32]) {
    for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
        let d = half::<0, BYTES>(block);
        let qs = field::<2, 16, BYTES>(block);
        for j in 0..16 {
            x[j] = d * f32::from((qs[j] & 15) as i8 - 8);
            x[j + 16] = d * f32::from((qs[j] >> 4) as i8 - 8);
        }
    }
}

fn encode(src: &[f32], _: Option<&[f32]>, dst: &mut [u8]) {
    for (x, block) in encoding::<BLOCK, BYTES>(src, dst) {
        let d = largest(x) / -8.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        set_half::<0, BYTES>(block, d);
        let code = |x: f32| (((x * inverse) + 8.5) as u8).min(15);
        let qs = field_mut::<2, 16, BYTES>(block);
        for j in 0..16 {
            qs[j] = code(x[j]) | code(x[j + 16]) << 4;
        }
    }
}

/// The first value of the largest magnitude, with its sign.
pub(super) fn largest(x: &[f32; BLOCK]) -> f32 {
    x.iter().fold(0f32, |m, &x| if x.abs() > m.abs() { x } else { m })
}

//! BF16: the upper half of an F32, little-endian, one element per block.
//!
//! ```text
//! bit  15    14 .. 7    6 .. 0
//!      sign  exponent   mantissa     bias 127
//! ```

use super::{Format, codec, decoding, encoding, pairs};

/// The descriptor.
pub static BF16: Format =
    Format { name: "BF16", id: 30, block: 1, block_bytes: 2, decode, encode, codes: None, pairs: Some(pairs::of_bf16) };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (bytes, [x]) in decoding::<2, 1>(src, dst) {
            *x = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }
    }
}

codec! {
    fn encode(src: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
        for ([x], bytes) in encoding::<1, 2>(src, dst) {
            *bytes = from_f32(*x).to_le_bytes();
        }
    }
}

/// Rounds to nearest, ties to even; too large becomes an infinity, NaN stays NaN.
#[inline(always)]
pub fn from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    // Half a unit of the last place that stays, less one where that place is even: a carry happens above the middle,
    // and on it only from an odd number.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // Adding could carry a NaN into an infinity; its quiet bit keeps it what it is.
    let kept = if x.is_nan() { bits | 0x0040_0000 } else { rounded };
    (kept >> 16) as u16
}

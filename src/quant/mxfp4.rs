//! MXFP4: 32 floats of 4 bits (E2M1) under a scale that is a power of two (E8M0).
//!
//! ```text
//! byte 0   e       exponent: the scale is 2^(e - 127)
//!      1   qs[16]  low nibble of qs[j]: element j, high nibble: element j + 16
//! ```
//!
//! A code is a sign (bit 3) and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6. Here as in ggml the doubled integers are multiplied by
//! half the scale.
//!
//! The encoder is the rule that all tools share: e - 127 = floor(log2(max|x|)) - 2, with the logarithm rounded to F32, so
//! that 6 is the largest code needed or nearly so; then the nearest code, the smaller one where two are equally near.

use super::panel::{self, Block, Line, Panel, Record, look_up};
use super::words::Words;
use super::{Codes, Format, codec, decoding, encoding, field, field_mut, unpacking};

const BLOCK: usize = 32;
const BYTES: usize = 1 + BLOCK / 2;
const _: () = assert!(BYTES == 17);

const CODES: Codes = Codes { group: 32, offset: Some(12), largest: 24, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static MXFP4: Format =
    Format { name: "MXFP4", id: 39, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let half_scale = half_scale(block[0]);
            let qs = field::<1, 16, BYTES>(block);
            for j in 0..16 {
                x[j] = half_scale * f32::from(doubled(qs[j] & 15));
                x[j + 16] = half_scale * f32::from(doubled(qs[j] >> 4));
            }
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], _mins: &mut [f32]) {
        for (block, codes, scale) in unpacking::<BYTES, BLOCK, 1>(src, codes, scales) {
            *scale = [half_scale(block[0])];
            let qs = field::<1, 16, BYTES>(block);
            for j in 0..16 {
                codes[j] = (doubled(qs[j] & 15) + 12) as u8;
                codes[j + 16] = (doubled(qs[j] >> 4) + 12) as u8;
            }
        }
    }
}

/// What a code is doubled, plus 12.
pub(super) const SHIFTED: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

/// Sixteen rows at once.
struct Rows;

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 1;
    const RECORD: Record = Record::ONE_SCALE;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        look_up(&block.words::<1>(), &SHIFTED, out);
        W::from_lanes(block.lanes::<0>().map(|word| half_scale(word as u8).to_bits())).store(&mut out[8]);
    }
}

codec! {
    fn encode(src: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
        for (x, block) in encoding::<BLOCK, BYTES>(src, dst) {
            let largest = largest(x);
            if !largest.is_finite() {
                // The largest number there is. It overflows when decoded.
                *block = [0x77; BYTES];
                block[0] = 255;
                continue;
            }
            block[0] = exponent(largest);
            let half_scale = half_scale(block[0]);
            let qs = field_mut::<1, 16, BYTES>(block);
            for j in 0..16 {
                qs[j] = code(x[j], half_scale) | code(x[j + 16], half_scale) << 4;
            }
        }
    }
}

/// 2^(e - 128); the two smallest are subnormal.
#[inline(always)]
fn half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// floor(log2(largest)) - 2, biased. The logarithm is rounded to F32 first: just below a power of two that is the power.
#[inline(always)]
fn exponent(largest: f32) -> u8 {
    let log2 = f64::from(largest).log2() as f32;
    // Saturates, also for the minus infinity of zero.
    (log2.floor() - 2.0 + 127.0) as u8
}

/// Largest magnitude; NaN is larger than anything.
#[inline(always)]
pub(super) fn largest<const N: usize>(x: &[f32; N]) -> f32 {
    let mut largest = 0i32;
    for x in x {
        largest = largest.max((x.to_bits() & 0x7fff_ffff) as i32);
    }
    f32::from_bits(largest as u32)
}

/// Twice the number that a code means: 0, 1, 2, 3, 4, 6, 8, 12 and their negatives.
#[inline(always)]
pub(super) fn doubled(code: u8) -> i8 {
    let magnitude = code & 7;
    // Steps of 1 up to 4, then of 2, the last of 4.
    let doubled = magnitude + magnitude.saturating_sub(4) + 2 * magnitude.saturating_sub(6);
    if code & 8 != 0 { -(doubled as i8) } else { doubled as i8 }
}

/// The code of the number nearest to `x` where `half_scale` is that of the doubled numbers.
#[inline(always)]
pub(super) fn code(x: f32, half_scale: f32) -> u8 {
    const MIDDLES: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
    let mut code = 0u32;
    for middle in MIDDLES {
        code += u32::from(x.abs() > middle * half_scale);
    }
    (if x < 0.0 && code > 0 { code | 8 } else { code }) as u8
}

//! NVFP4: 64 floats of 4 bits (E2M1, as in MXFP4) in four sub-blocks of 16, each under a scale of 8 bits (UE4M3).
//!
//! ```text
//! byte 0   d[4]    scales: four bits of exponent, three of mantissa, no sign; 0x7F counts as zero
//!      4   qs[32]  low nibble of qs[8 s + j]: element j of sub-block s, high nibble: element j + 8
//! ```
//!
//! Scales end at 448 and 2^-9: the format expects a second scale for the whole tensor beside it, and without one, as
//! here, numbers beyond 2688 are cut off. The encoder is the rule that all tools share: d = max|x| / 6, rounded; then the
//! nearest code, the smaller one where two are equally near.

use super::mxfp4::{SHIFTED, code, doubled, largest};
use super::panel::{self, Block, Line, Panel, Record, split_nibbles};
use super::words::Words;
use super::{Codes, Format, codec, decoding, encoding, field, field_mut, unpacking};

const BLOCK: usize = 64;
const BYTES: usize = 4 + BLOCK / 2;
const _: () = assert!(BYTES == 36);

const CODES: Codes = Codes { group: 16, offset: Some(12), largest: 24, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static NVFP4: Format =
    Format { name: "NVFP4", id: 40, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

/// The largest scale, 448.
const LARGEST: u8 = 0x7e;

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let (qs, _) = field::<4, 32, BYTES>(block).as_chunks::<8>();
            for (s, (qs, x)) in qs.iter().zip(x.as_chunks_mut::<16>().0).enumerate() {
                let half_scale = half_scale(block[s]);
                for j in 0..8 {
                    x[j] = half_scale * f32::from(doubled(qs[j] & 15));
                    x[j + 8] = half_scale * f32::from(doubled(qs[j] >> 4));
                }
            }
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], _mins: &mut [f32]) {
        for (block, codes, scale) in unpacking::<BYTES, BLOCK, 4>(src, codes, scales) {
            let (qs, _) = field::<4, 32, BYTES>(block).as_chunks::<8>();
            for (s, (qs, codes)) in qs.iter().zip(codes.as_chunks_mut::<16>().0).enumerate() {
                scale[s] = half_scale(block[s]);
                for j in 0..8 {
                    codes[j] = (doubled(qs[j] & 15) + 12) as u8;
                    codes[j + 8] = (doubled(qs[j] >> 4) + 12) as u8;
                }
            }
        }
    }
}

/// Sixteen rows at once.
struct Rows;

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 2;
    const RECORD: Record = Record::TWO_SCALES;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let scales = block.lanes::<0>();
        let qs = block.words8_at(4);
        for (s, qs) in qs.as_chunks::<2>().0.iter().enumerate() {
            let out = &mut out[10 * (s / 2)..];
            for i in 0..2 {
                let (low, high) = split_nibbles(qs[i]);
                low.lookup(&SHIFTED).store(&mut out[4 * (s % 2) + i]);
                high.lookup(&SHIFTED).store(&mut out[4 * (s % 2) + i + 2]);
            }
            let scale = scales.map(|word| half_scale((word >> (8 * s)) as u8).to_bits());
            W::from_lanes(scale).store(&mut out[8 + s % 2]);
        }
    }
}

codec! {
    fn encode(src: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
        for (x, block) in encoding::<BLOCK, BYTES>(src, dst) {
            let (x, _) = x.as_chunks::<16>();
            let mut half_scales = [0f32; 4];
            for s in 0..4 {
                block[s] = rounded(largest(&x[s]) / 6.0);
                let half_scale = half_scale(block[s]);
                // Where all codes mean zero, code 0 is the one to take.
                half_scales[s] = if half_scale == 0.0 { f32::INFINITY } else { half_scale };
            }
            let (qs, _) = field_mut::<4, 32, BYTES>(block).as_chunks_mut::<8>();
            for s in 0..4 {
                for j in 0..8 {
                    qs[s][j] = code(x[s][j], half_scales[s]) | code(x[s][j + 8], half_scales[s]) << 4;
                }
            }
        }
    }
}

/// Half the value of a scale.
#[inline(always)]
fn half_scale(bits: u8) -> f32 {
    // Exponent and mantissa where F32 has them, subnormal numbers included; bias 7 here and 127 in F32, one less for the half.
    const BIAS: f32 = f32::from_bits((127 + 127 - 7 - 1) << 23);
    let scale = f32::from_bits(u32::from(bits & 0x7f) << 20) * BIAS;
    if bits == 0x7f { 0.0 } else { scale }
}

/// Rounds to the nearest scale, up from the middle.
#[inline(always)]
fn rounded(x: f32) -> u8 {
    if x < 1.0 / 64.0 {
        // At 7.5 and above the result is the smallest normal number; all tools stay below.
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    // Exponent and mantissa with one more bit, which rounds. All tools take the largest scale for 256 and more.
    let bits = ((x.to_bits() >> 19) - ((127 - 7) << 4)).div_ceil(2);
    if bits >= 15 << 3 { LARGEST } else { bits as u8 }
}

//! Q8_0: 32 signed bytes under one scale.
//!
//! ```text
//! byte 0   d       F16 scale
//!      2   qs[32]  i8, element j is d * qs[j]
//! ```
//!
//! The encoder is the rule that all tools share: d = max|x| / 127, codes rounded to nearest, ties away from zero, with
//! the scale as it was before it became F16.

use super::panel::{self, Block, Line, Panel, Record};
use super::words::Words;
use super::{Codes, Format, codec, decoding, encoding, field, field_mut, half, set_half, unpacking};

const BLOCK: usize = 32;
const BYTES: usize = 2 + BLOCK;
const _: () = assert!(BYTES == 34);

const CODES: Codes = Codes { group: 32, offset: Some(128), largest: 255, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q8_0: Format =
    Format { name: "Q8_0", id: 8, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let d = half::<0, BYTES>(block);
            let qs = field::<2, BLOCK, BYTES>(block);
            for j in 0..BLOCK {
                x[j] = d * f32::from(qs[j] as i8);
            }
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], _mins: &mut [f32]) {
        for (block, codes, scale) in unpacking::<BYTES, BLOCK, 1>(src, codes, scales) {
            *scale = [half::<0, BYTES>(block)];
            let qs = field::<2, BLOCK, BYTES>(block);
            for j in 0..BLOCK {
                codes[j] = qs[j] ^ 128;
            }
        }
    }
}

/// Sixteen rows at once.
struct Rows;

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 1;
    const RECORD: Record = Record::ONE_SCALE;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let (qs, signs) = (block.words8_at(2), W::splat(0x8080_8080));
        for k in 0..8 {
            qs[k].xor(signs).store(&mut out[k]);
        }
        block.half::<0>().store(&mut out[8]);
    }
}

codec! {
    fn encode(src: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
        for (x, block) in encoding::<BLOCK, BYTES>(src, dst) {
            let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            let d = largest / 127.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            set_half::<0, BYTES>(block, d);
            let qs = field_mut::<2, BLOCK, BYTES>(block);
            for j in 0..BLOCK {
                qs[j] = (x[j] * inverse).round() as i8 as u8;
            }
        }
    }
}

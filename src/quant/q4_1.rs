//! Q4_1: 32 codes of 4 bits under a scale and a minimum.
//!
//! ```text
//! byte 0   d       F16 scale
//!      2   m       F16 minimum
//!      4   qs[16]  low nibble of qs[j]: element j, high nibble: element j + 16; value d * q + m
//! ```
//!
//! Without importance the encoder is the rule that all tools share: d = (max - min) / 15, m = min, q = min(15, trunc((x - m) / d + 0.5)).

use super::panel::{self, Block, Line, Panel, Record, negative, split_nibbles};
use super::words::Words;
use super::{Codes, Format, codec, encoding, field, field_mut, nibbles, plain, q4_0::packed, scale_min, set_half};

const BLOCK: usize = 32;
const BYTES: usize = 4 + BLOCK / 2;
const _: () = assert!(BYTES == 20);

const CODES: Codes = Codes { group: 32, offset: None, largest: 15, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q4_1: Format =
    Format { name: "Q4_1", id: 3, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        plain::decode_min::<Rows, BYTES>(src, dst)
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], mins: &mut [f32]) {
        plain::unpack_min::<Rows, BYTES>(src, codes, (scales, mins))
    }
}

/// What blocks hold, one by one and sixteen rows at once.
struct Rows;

impl plain::Blocks<BYTES> for Rows {
    #[inline(always)]
    fn codes(block: &[u8; BYTES]) -> [u8; BLOCK] {
        nibbles(field::<4, 16, BYTES>(block))
    }
}

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 1;
    const RECORD: Record = Record::SCALE_AND_MIN;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let qs = block.words::<4>();
        for k in 0..4 {
            let (low, high) = split_nibbles(qs[k]);
            low.store(&mut out[k]);
            high.store(&mut out[k + 4]);
        }
        block.half::<0>().store(&mut out[8]);
        negative(block.half::<2>()).store(&mut out[9]);
    }
}

codec! {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
        match importance {
            None => follow_rule(src, dst),
            Some(importance) => search(src, importance, dst),
        }
    }
}

#[inline(always)]
fn follow_rule(src: &[f32], dst: &mut [u8]) {
    for (x, block) in encoding::<BLOCK, BYTES>(src, dst) {
        let (min, max) = range(x);
        let d = (max - min) / 15.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        set_half::<0, BYTES>(block, d);
        set_half::<2, BYTES>(block, min);
        *field_mut::<4, 16, BYTES>(block) = packed(x, |x| (((x - min) * inverse + 0.5) as u8).min(15));
    }
}

/// Where the search puts the largest value of a block: around the last code.
const TOPS: [f32; 12] = [13.8, 14.0, 14.2, 14.4, 14.6, 14.8, 15.0, 15.2, 15.4, 15.6, 15.8, 16.0];

/// With importance given, the scale and the minimum that leave the smallest weighted error.
#[inline(always)]
fn search(src: &[f32], importance: &[f32], dst: &mut [u8]) {
    scale_min::encode::<15, BLOCK, BYTES>(src, Some(importance), dst, &TOPS, |codes, block| {
        *field_mut::<4, 16, BYTES>(block) = std::array::from_fn(|j| codes[j] | codes[j + 16] << 4);
    });
}

/// Smallest and largest value.
#[inline(always)]
pub(super) fn range(x: &[f32; BLOCK]) -> (f32, f32) {
    x.iter().fold((x[0], x[0]), |(min, max), &x| (min.min(x), max.max(x)))
}

//! Q5_1: 32 codes of 5 bits under a scale and a minimum.
//!
//! ```text
//! byte 0   d       F16 scale
//!      2   m       F16 minimum
//!      4   qh      u32, bit j is bit 4 of the code of element j
//!      8   qs[16]  low nibble of qs[j]: element j, high nibble: element j + 16; value d * q + m
//! ```
//!
//! Without importance the encoder is the rule that all tools share: d = (max - min) / 31, m = min, q = trunc((x - m) / d + 0.5).

use super::panel::{self, Block, Line, Panel, Record, fifth_bits, negative, split_nibbles};
use super::words::Words;
use super::{Codes, Format, codec, encoding, field, field_mut, plain, q4_1, q5_0, scale_min, set_half};

const BLOCK: usize = 32;
const BYTES: usize = 8 + BLOCK / 2;
const _: () = assert!(BYTES == 24);

const CODES: Codes = Codes { group: 32, offset: None, largest: 31, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q5_1: Format =
    Format { name: "Q5_1", id: 7, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

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
        q5_0::codes(field::<4, 4, BYTES>(block), field::<8, 16, BYTES>(block))
    }
}

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 1;
    const RECORD: Record = Record::SCALE_AND_MIN;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let (head, qs) = (block.words::<0>(), block.words::<8>());
        for k in 0..4 {
            let (low, high) = split_nibbles(qs[k]);
            low.or(fifth_bits(head[1], 4 * k as u32)).store(&mut out[k]);
            high.or(fifth_bits(head[1], 4 * k as u32 + 16)).store(&mut out[k + 4]);
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
        let (min, max) = q4_1::range(x);
        let d = (max - min) / 31.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        set_half::<0, BYTES>(block, d);
        set_half::<2, BYTES>(block, min);
        // Rounding cannot lead beyond 31 for finite values; the mask in `pack` is for the others.
        let (qh, qs) = q5_0::pack(&x.map(|x| (((x - min) * inverse + 0.5) as u8).min(31)));
        *field_mut::<4, 4, BYTES>(block) = qh;
        *field_mut::<8, 16, BYTES>(block) = qs;
    }
}

/// Where the search puts the largest value of a block: around the last code.
const TOPS: [f32; 12] = [29.6, 29.9, 30.2, 30.4, 30.6, 30.8, 31.0, 31.2, 31.4, 31.6, 31.8, 32.0];

/// With importance given, the scale and the minimum that leave the smallest weighted error.
#[inline(always)]
fn search(src: &[f32], importance: &[f32], dst: &mut [u8]) {
    scale_min::encode::<31, BLOCK, BYTES>(src, Some(importance), dst, &TOPS, |codes, block| {
        let (qh, qs) = q5_0::pack(codes);
        *field_mut::<4, 4, BYTES>(block) = qh;
        *field_mut::<8, 16, BYTES>(block) = qs;
    });
}

//! Q5_0: 32 codes of 5 bits under one scale.
//!
//! ```text
//! byte 0   d       F16 scale
//!      2   qh      u32, bit j is bit 4 of the code of element j
//!      6   qs[16]  low nibble of qs[j]: element j, high nibble: element j + 16; value d * (q - 16)
//! ```
//!
//! Without importance the encoder is the rule that all tools share: d = m / -16, where m is the first value of the largest magnitude; then
//! q = min(31, trunc(x / d + 16.5)).

use super::panel::{self, Block, Line, Panel, Record, fifth_bits, split_nibbles};
use super::scale::{self, Grid, Integers};
use super::words::Words;
use super::{Codes, Format, codec, encoding, field, field_mut, nibbles, plain, q4_0, set_half};

const BLOCK: usize = 32;
const BYTES: usize = 6 + BLOCK / 2;
const _: () = assert!(BYTES == 22);

const CODES: Codes = Codes { group: 32, offset: Some(16), largest: 31, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q5_0: Format =
    Format { name: "Q5_0", id: 6, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        plain::decode_offset::<Rows, 16, BYTES>(src, dst)
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], _mins: &mut [f32]) {
        plain::unpack_offset::<Rows, BYTES>(src, codes, scales)
    }
}

/// What blocks hold, one by one and sixteen rows at once.
struct Rows;

impl plain::Blocks<BYTES> for Rows {
    #[inline(always)]
    fn codes(block: &[u8; BYTES]) -> [u8; BLOCK] {
        codes(field::<2, 4, BYTES>(block), field::<6, 16, BYTES>(block))
    }
}

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 1;
    const RECORD: Record = Record::ONE_SCALE;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let (head, qs) = (block.words::<0>(), block.words::<6>());
        let qh = head[0].shr(16).or(head[1].shl(16));
        for k in 0..4 {
            let (low, high) = split_nibbles(qs[k]);
            low.or(fifth_bits(qh, 4 * k as u32)).store(&mut out[k]);
            high.or(fifth_bits(qh, 4 * k as u32 + 16)).store(&mut out[k + 4]);
        }
        block.half::<0>().store(&mut out[8]);
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
        let d = q4_0::largest(x) / -16.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        set_half::<0, BYTES>(block, d);
        let (qh, qs) = pack(&x.map(|x| ((x * inverse + 16.5) as u8).min(31)));
        *field_mut::<2, 4, BYTES>(block) = qh;
        *field_mut::<6, 16, BYTES>(block) = qs;
    }
}

type Steps = Integers<-16, 15>;

/// Where the search puts the largest value of a block: around the last codes of both sides.
const ENDS: [f32; 16] =
    [-16.8, -16.6, -16.4, -16.2, -16.0, -15.8, -15.6, -15.4, -15.2, -15.0, 14.4, 14.7, 15.0, 15.3, 15.6, 15.9];

/// With importance given, the scale that leaves the smallest weighted error.
#[inline(always)]
fn search(src: &[f32], importance: &[f32], dst: &mut [u8]) {
    scale::encode::<Steps, BLOCK, BYTES>(src, Some(importance), dst, &ENDS, |x, inverse, block| {
        let (qh, qs) = pack(&x.map(|x| (Steps::nearest(x * inverse) + 16.0) as u8));
        *field_mut::<2, 4, BYTES>(block) = qh;
        *field_mut::<6, 16, BYTES>(block) = qs;
    });
}

/// The 32 five-bit codes of a block.
#[inline(always)]
pub(super) fn codes(qh: &[u8; 4], qs: &[u8; 16]) -> [u8; BLOCK] {
    let mut codes = nibbles(qs);
    let mut high = [0; BLOCK];
    for j in 0..BLOCK {
        high[j] = qh[j / 8];
    }
    for j in 0..BLOCK {
        // Masks instead of shifts by j: those exist as vector instructions everywhere.
        codes[j] |= if high[j] & (1 << (j % 8)) != 0 { 16 } else { 0 };
    }
    codes
}

/// The inverse of [`codes`].
#[inline(always)]
pub(super) fn pack(codes: &[u8; BLOCK]) -> ([u8; 4], [u8; 16]) {
    let qh = codes.iter().rev().fold(0u32, |qh, &q| qh << 1 | u32::from(q >> 4));
    (qh.to_le_bytes(), std::array::from_fn(|j| (codes[j] & 15) | (codes[j + 16] & 15) << 4))
}

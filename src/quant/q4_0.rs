//! Q4_0: 32 codes of 4 bits under one scale.
//!
//! ```text
//! byte 0   d       F16 scale
//!      2   qs[16]  low nibble of qs[j]: element j, high nibble: element j + 16; value d * (q - 8)
//! ```
//!
//! Without importance the encoder is the rule that all tools share: d = m / -8, where m is the first value of the largest magnitude, so that
//! m itself gets code 0; then q = min(15, trunc(x / d + 8.5)).

use super::panel::{self, Block, Line, Panel, Record, split_nibbles};
use super::scale::{self, Grid, Integers};
use super::words::Words;
use super::{Codes, Format, codec, encoding, field, field_mut, nibbles, plain, set_half};

const BLOCK: usize = 32;
const BYTES: usize = 2 + BLOCK / 2;
const _: () = assert!(BYTES == 18);

const CODES: Codes = Codes { group: 32, offset: Some(8), largest: 15, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q4_0: Format =
    Format { name: "Q4_0", id: 2, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        plain::decode_offset::<Rows, 8, BYTES>(src, dst)
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
        nibbles(field::<2, 16, BYTES>(block))
    }
}

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 1;
    const RECORD: Record = Record::ONE_SCALE;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let qs = block.words::<2>();
        for k in 0..4 {
            let (low, high) = split_nibbles(qs[k]);
            low.store(&mut out[k]);
            high.store(&mut out[k + 4]);
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
        let d = largest(x) / -8.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        set_half::<0, BYTES>(block, d);
        *field_mut::<2, 16, BYTES>(block) = packed(x, |x| ((x * inverse + 8.5) as u8).min(15));
    }
}

type Steps = Integers<-8, 7>;

/// Where the search puts the largest value of a block: around the last codes of both sides.
const ENDS: [f32; 16] = [-8.8, -8.6, -8.4, -8.2, -8.0, -7.8, -7.6, -7.4, -7.2, -7.0, 6.4, 6.6, 6.8, 7.0, 7.2, 7.4];

/// With importance given, the scale that leaves the smallest weighted error.
#[inline(always)]
fn search(src: &[f32], importance: &[f32], dst: &mut [u8]) {
    scale::encode::<Steps, BLOCK, BYTES>(src, Some(importance), dst, &ENDS, |x, inverse, block| {
        *field_mut::<2, 16, BYTES>(block) = packed(x, |x| (Steps::nearest(x * inverse) + 8.0) as u8);
    });
}

/// The codes of a block, two to a byte.
#[inline(always)]
pub(super) fn packed(x: &[f32; BLOCK], code: impl Fn(f32) -> u8) -> [u8; 16] {
    let mut qs = [0; 16];
    for j in 0..16 {
        qs[j] = code(x[j]) | code(x[j + 16]) << 4;
    }
    qs
}

/// The first value of the largest magnitude, with its sign.
#[inline(always)]
pub(super) fn largest(x: &[f32; BLOCK]) -> f32 {
    x.iter().fold(0f32, |m, &x| if x.abs() > m.abs() { x } else { m })
}

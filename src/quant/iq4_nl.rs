//! IQ4_NL: 32 codes of 4 bits under one scale; the codes stand for values that lie denser near zero.
//!
//! ```text
//! byte 0   d       F16 scale
//!      2   qs[16]  low nibble of qs[j]: element j, high nibble: element j + 16; value d * VALUES[q]
//! ```

use super::panel::{self, Block, Line, Panel, Record, look_up};
use super::scale::{self, Grid};
use super::words::Words;
use super::{Codes, Format, codec, decoding, field, field_mut, half, nibbles, unpacking};

const BLOCK: usize = 32;
const BYTES: usize = 2 + BLOCK / 2;
const _: () = assert!(BYTES == 18);

const CODES: Codes = Codes { group: 32, offset: Some(128), largest: 255, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static IQ4_NL: Format = Format {
    name: "IQ4_NL",
    id: 20,
    block: BLOCK,
    block_bytes: BYTES,
    decode,
    encode,
    codes: Some(CODES),
    pairs: None,
};

/// What the codes stand for.
const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// [`VALUES`] plus 128.
pub(super) const SHIFTED: [u8; 16] = {
    let mut shifted = [0; 16];
    let mut k = 0;
    while k < 16 {
        shifted[k] = VALUES[k] as u8 ^ 128;
        k += 1;
    }
    shifted
};

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            decode_block(half::<0, BYTES>(block), field::<2, 16, BYTES>(block), x);
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], _mins: &mut [f32]) {
        for (block, codes, scale) in unpacking::<BYTES, BLOCK, 1>(src, codes, scales) {
            *scale = [half::<0, BYTES>(block)];
            integers(field::<2, 16, BYTES>(block), codes);
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
        look_up(&block.words::<2>(), &SHIFTED, out);
        block.half::<0>().store(&mut out[8]);
    }
}

codec! {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
        scale::encode::<Values, BLOCK, BYTES>(src, importance, dst, &ENDS, |x, inverse, block| {
            *field_mut::<2, 16, BYTES>(block) = packed(x, inverse);
        });
    }
}

/// The grid of [`VALUES`].
pub(super) struct Values;

impl Grid for Values {
    const LOW: f32 = VALUES[0] as f32;

    /// Adds up the steps to the value, which needs no table.
    #[inline(always)]
    fn nearest(x: f32) -> f32 {
        let mut value = Self::LOW;
        for k in 1..16 {
            value += if x > middle(k) { step(k) as f32 } else { 0.0 };
        }
        value
    }
}

/// Half-way between values k - 1 and k.
#[inline(always)]
fn middle(k: usize) -> f32 {
    (VALUES[k - 1] as f32 + VALUES[k] as f32) / 2.0
}

/// From value k - 1 to value k.
#[inline(always)]
fn step(k: usize) -> u8 {
    (VALUES[k] as i16 - VALUES[k - 1] as i16) as u8
}

/// Where the search puts the largest value of a block: around the last values of both sides.
pub(super) const ENDS: [f32; 16] = [
    -141.0, -137.0, -133.0, -130.0, -127.0, -124.0, -121.0, -118.0, -115.0, 104.0, 107.0, 110.0, 113.0, 116.0, 120.0,
    124.0,
];

/// The values of 32 codes times `scale`. Adds up the steps, as bytes: that is quicker than a table where vectors are wide,
/// and no slower elsewhere.
#[inline(always)]
pub(super) fn decode_block(scale: f32, qs: &[u8; 16], x: &mut [f32; BLOCK]) {
    let mut values = [0; BLOCK];
    integers(qs, &mut values);
    for j in 0..BLOCK {
        x[j] = scale * f32::from((values[j] ^ 128) as i8);
    }
}

/// What the codes of a block stand for, plus 128.
#[inline(always)]
pub(super) fn integers(qs: &[u8; 16], values: &mut [u8; BLOCK]) {
    let codes = nibbles(qs);
    *values = [VALUES[0] as u8 ^ 128; BLOCK];
    for j in 0..BLOCK {
        for k in 1..16 {
            values[j] = values[j].wrapping_add(if codes[j] >= k as u8 { step(k) } else { 0 });
        }
    }
}

/// The codes of the values next to `x * inverse`, two to a byte.
#[inline(always)]
pub(super) fn packed(x: &[f32; BLOCK], inverse: f32) -> [u8; 16] {
    let mut codes = [0u32; BLOCK];
    for j in 0..BLOCK {
        for k in 1..16 {
            codes[j] += u32::from(x[j] * inverse > middle(k));
        }
    }
    let mut qs = [0; 16];
    for j in 0..16 {
        qs[j] = (codes[j] | codes[j + 16] << 4) as u8;
    }
    qs
}

//! Q2_K: 256 codes of 2 bits in sixteen sub-blocks of 16, each with a 4-bit scale and a 4-bit minimum.
//!
//! ```text
//! byte 0   scales[16]  low nibble: scale s, high nibble: minimum n
//!      16  qs[64]      codes
//!      80  d           F16 scale of the scales
//!      82  dmin        F16 scale of the minimums
//! ```
//!
//! Two halves h of 128 elements, of which quarter k = 0..4 at l = 0..32 is element 128 h + 32 k + l. Its code is bits 2 k
//! and 2 k + 1 of qs[32 h + l]; value = d s q - dmin n.

use super::lanes::{Lanes, Weighting, begin, blocks, reciprocal};
use super::panel::{self, Block, Line, Panel, Record};
use super::scale_min::{self, Quantized};
use super::words::Words;
use super::{Codes, Format, codec, decoding, field, field_mut, half, set_half, unpacking};

const BLOCK: usize = 256;
const BYTES: usize = BLOCK / 16 + BLOCK / 4 + 2 + 2;
const _: () = assert!(BYTES == 84);

const CODES: Codes = Codes { group: 16, offset: None, largest: 3, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q2_K: Format =
    Format { name: "Q2_K", id: 10, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let (d, dmin) = (half::<80, BYTES>(block), half::<82, BYTES>(block));
            let (scales, _) = field::<0, 16, BYTES>(block).as_chunks::<8>();
            let (qs, _) = field::<16, 64, BYTES>(block).as_chunks::<32>();
            for ((qs, scales), x) in qs.iter().zip(scales).zip(x.as_chunks_mut::<128>().0) {
                let (scale, min) = (scales.map(|s| d * f32::from(s & 15)), scales.map(|s| dmin * f32::from(s >> 4)));
                // Where the scale changes, at l = 16, is a loop boundary, so that it is constant within a loop.
                for half in 0..2 {
                    for l in 16 * half..16 * half + 16 {
                        let value = |k: usize, q: u8| scale[2 * k + half] * f32::from(q) - min[2 * k + half];
                        x[l] = value(0, qs[l] & 3);
                        x[l + 32] = value(1, qs[l] >> 2 & 3);
                        x[l + 64] = value(2, qs[l] >> 4 & 3);
                        x[l + 96] = value(3, qs[l] >> 6);
                    }
                }
            }
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], mins: &mut [f32]) {
        let blocks = unpacking::<BYTES, BLOCK, 16>(src, codes, scales).zip(mins.as_chunks_mut::<16>().0);
        for ((block, codes, scale), min) in blocks {
            let (d, dmin) = (half::<80, BYTES>(block), half::<82, BYTES>(block));
            let both = field::<0, 16, BYTES>(block);
            (*scale, *min) = (both.map(|s| d * f32::from(s & 15)), both.map(|s| dmin * f32::from(s >> 4)));
            let (qs, _) = field::<16, 64, BYTES>(block).as_chunks::<32>();
            for (i, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for l in 0..32 {
                    codes[l] = qs[i / 4][l] >> (2 * (i % 4)) & 3;
                }
            }
        }
    }
}

/// Sixteen rows at once.
struct Rows;

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 8;
    const RECORD: Record = Record::TWO_SCALES_AND_MINS;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let (d, dmin, scales) = (block.half::<80>(), block.half::<82>(), block.words::<0>());
        let (two, nibble) = (W::splat(0x0303_0303), W::splat(15));
        for (h, out) in out.chunks_exact_mut(48).enumerate() {
            let qs = block.words8_at(16 + 32 * h);
            for k in 0..4 {
                for i in 0..8 {
                    qs[i].shr(2 * k as u32).and(two).store(&mut out[12 * k + i]);
                }
                for half in 0..2 {
                    // Both nibbles of byte 8 h + 2 k + half.
                    let both = scales[2 * h + k / 2].shr(8 * (2 * (k as u32 % 2) + half as u32));
                    d.mul_f32(both.and(nibble).to_f32()).store(&mut out[12 * k + 8 + half]);
                    dmin.mul_f32(both.shr(4).and(nibble).to_f32()).store(&mut out[12 * k + 10 + half]);
                }
            }
        }
    }
}

codec! {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
        for (x, importance, block) in blocks::<BLOCK, BYTES>(src, importance, dst) {
            let Some((largest, inverse)) = begin::<80, BYTES>(x, block) else { continue };
            let lanes = Lanes::<16, 16>::load(x, importance, &[inverse; 16], Weighting::Magnitude);
            let lines = scale_min::lines::<3, true, 16, 16>(&lanes, &TOPS);
            let fit = scale_min::quantized::<3, 15, 16, 16>(&lanes, largest, &lines);
            set_half::<80, BYTES>(block, fit.d);
            set_half::<82, BYTES>(block, fit.dmin);
            let scales = field_mut::<0, 16, BYTES>(block);
            for (scale, (s, n)) in scales.iter_mut().zip(fit.s.iter().zip(&fit.n)) {
                *scale = *s as u8 | (*n as u8) << 4;
            }
            let codes = codes(x, &fit);
            let (qs, _) = field_mut::<16, 64, BYTES>(block).as_chunks_mut::<32>();
            for (qs, c) in qs.iter_mut().zip(codes.as_chunks::<128>().0) {
                for l in 0..32 {
                    qs[l] = c[l] | c[l + 32] << 2 | c[l + 64] << 4 | c[l + 96] << 6;
                }
            }
        }
    }
}

/// Where the search puts the largest value of a sub-block: around the last code.
const TOPS: [f32; 16] = [2.4, 2.5, 2.6, 2.7, 2.8, 2.9, 3.0, 3.1, 3.2, 3.3, 3.4, 3.55, 3.7, 3.85, 4.0, 4.2];

/// The codes of a block, in the order of its elements.
#[inline(always)]
fn codes(x: &[f32; BLOCK], fit: &Quantized<16>) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (k, (x, codes)) in x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0).enumerate() {
        let (inverse, min) = (reciprocal(fit.d * fit.s[k]), fit.dmin * fit.n[k]);
        for l in 0..16 {
            codes[l] = scale_min::code::<3>(x[l], inverse, min) as u8;
        }
    }
    codes
}

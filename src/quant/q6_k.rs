//! Q6_K: 256 codes of 6 bits in sixteen sub-blocks of 16, each with a signed 8-bit scale.
//!
//! ```text
//! byte 0    ql[128]     low four bits of the codes
//!      128  qh[64]      high two bits
//!      192  scales[16]  i8 s
//!      208  d           F16 scale of the scales
//! ```
//!
//! Two halves h of 128 elements, of which quarter k = 0..4 at l = 0..32 is element 128 h + 32 k + l. Its low bits are a
//! nibble of ql[64 h + 32 (k mod 2) + l], the low one for k < 2 and else the high one; its high bits are bits 2 k and
//! 2 k + 1 of qh[32 h + l]. value = d s (q - 32).

use super::lanes::{Lanes, Weighting, begin, blocks, reciprocal};
use super::panel::{self, Block, Line, Panel, Record, split_nibbles};
use super::scale::{self, Grid, Integers, Quantized};
use super::words::Words;
use super::{Codes, Format, codec, decoding, field, field_mut, half, set_half, unpacking};

const BLOCK: usize = 256;
const BYTES: usize = BLOCK / 2 + BLOCK / 4 + BLOCK / 16 + 2;
const _: () = assert!(BYTES == 210);

const CODES: Codes = Codes { group: 16, offset: Some(32), largest: 63, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q6_K: Format =
    Format { name: "Q6_K", id: 14, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let d = half::<208, BYTES>(block);
            let (ql, _) = field::<0, 128, BYTES>(block).as_chunks::<64>();
            let (qh, _) = field::<128, 64, BYTES>(block).as_chunks::<32>();
            let (scales, _) = field::<192, 16, BYTES>(block).as_chunks::<8>();
            let (x, _) = x.as_chunks_mut::<128>();
            for (((ql, qh), scales), x) in ql.iter().zip(qh).zip(scales).zip(x) {
                let scales = scales.map(|s| d * f32::from(s as i8));
                // Where the scale changes, at l = 16, is a loop boundary, so that it is constant within a loop.
                for half in 0..2 {
                    for l in 16 * half..16 * half + 16 {
                        let value = |k: usize, q: u8| scales[2 * k + half] * f32::from(q as i8 - 32);
                        x[l] = value(0, (ql[l] & 15) | (qh[l] & 3) << 4);
                        x[l + 32] = value(1, (ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4);
                        x[l + 64] = value(2, (ql[l] >> 4) | (qh[l] >> 4 & 3) << 4);
                        x[l + 96] = value(3, (ql[l + 32] >> 4) | (qh[l] >> 6) << 4);
                    }
                }
            }
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], _mins: &mut [f32]) {
        for (block, codes, scale) in unpacking::<BYTES, BLOCK, 16>(src, codes, scales) {
            let d = half::<208, BYTES>(block);
            *scale = field::<192, 16, BYTES>(block).map(|s| d * f32::from(s as i8));
            let (ql, _) = field::<0, 128, BYTES>(block).as_chunks::<64>();
            let (qh, _) = field::<128, 64, BYTES>(block).as_chunks::<32>();
            for ((ql, qh), codes) in ql.iter().zip(qh).zip(codes.as_chunks_mut::<128>().0) {
                for l in 0..32 {
                    codes[l] = (ql[l] & 15) | (qh[l] & 3) << 4;
                    codes[l + 32] = (ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4;
                    codes[l + 64] = (ql[l] >> 4) | (qh[l] >> 4 & 3) << 4;
                    codes[l + 96] = (ql[l + 32] >> 4) | (qh[l] >> 6) << 4;
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
    const RECORD: Record = Record::TWO_SCALES;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let (d, scales) = (block.half::<208>(), block.words::<192>());
        let two = W::splat(0x3030_3030);
        for (h, out) in out.chunks_exact_mut(40).enumerate() {
            for part in 0..2 {
                let (a, b) = (block.words_at(64 * h + 16 * part), block.words_at(64 * h + 32 + 16 * part));
                let qh = block.words_at(128 + 32 * h + 16 * part);
                for k in 0..4 {
                    let ((a_low, a_high), (b_low, b_high)) = (split_nibbles(a[k]), split_nibbles(b[k]));
                    let at = 4 * part + k;
                    a_low.or(qh[k].shl(4).and(two)).store(&mut out[at]);
                    b_low.or(qh[k].shl(2).and(two)).store(&mut out[10 + at]);
                    a_high.or(qh[k].and(two)).store(&mut out[20 + at]);
                    b_high.or(qh[k].shr(2).and(two)).store(&mut out[30 + at]);
                }
            }
            for i in 0..8 {
                // Signed byte i of this half's eight scales.
                let s = scales[2 * h + i / 4].shl(24 - 8 * (i as u32 % 4)).sar(24).to_f32();
                d.mul_f32(s).store(&mut out[10 * (i / 2) + 8 + i % 2]);
            }
        }
    }
}

codec! {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
        for (x, importance, block) in blocks::<BLOCK, BYTES>(src, importance, dst) {
            let Some((largest, inverse)) = begin::<208, BYTES>(x, block) else { continue };
            let lanes = Lanes::<16, 16>::load(x, importance, &[inverse; 16], Weighting::Square);
            let scales = scale::scales::<Steps, 16, 16>(&lanes, &ENDS);
            let fit = scale::quantized::<Steps, 16, 16>(&lanes, largest, &scales, -128.0, 127.0);
            set_half::<208, BYTES>(block, fit.d);
            *field_mut::<192, 16, BYTES>(block) = fit.s.map(|s| s as i8 as u8);
            let codes = codes(x, &fit);
            let (ql, _) = field_mut::<0, 128, BYTES>(block).as_chunks_mut::<64>();
            for (ql, c) in ql.iter_mut().zip(codes.as_chunks::<128>().0) {
                for l in 0..64 {
                    ql[l] = (c[l] & 15) | c[l + 64] << 4;
                }
            }
            let (qh, _) = field_mut::<128, 64, BYTES>(block).as_chunks_mut::<32>();
            for (qh, c) in qh.iter_mut().zip(codes.as_chunks::<128>().0) {
                for l in 0..32 {
                    qh[l] = c[l] >> 4 | (c[l + 32] >> 4) << 2 | (c[l + 64] >> 4) << 4 | (c[l + 96] >> 4) << 6;
                }
            }
        }
    }
}

type Steps = Integers<-32, 31>;

/// Where the search puts the largest value of a sub-block: around the last code, on either side.
const ENDS: [f32; 16] =
    [-32.6, -32.4, -32.2, -32.0, -31.8, -31.6, -31.4, -31.2, -31.0, -30.8, -30.6, -30.4, 31.4, 31.0, 30.6, 30.2];

/// The codes of a block, in the order of its elements.
#[inline(always)]
fn codes(x: &[f32; BLOCK], fit: &Quantized<16>) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (k, (x, codes)) in x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0).enumerate() {
        let inverse = reciprocal(fit.d * fit.s[k]);
        for l in 0..16 {
            codes[l] = (Steps::nearest(x[l] * inverse) + 32.0) as u8;
        }
    }
    codes
}

//! Q5_K: 256 codes of 5 bits in eight sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
//!
//! ```text
//! byte 0   d           F16 scale of the scales
//!      2   dmin        F16 scale of the minimums
//!      4   scales[12]  as in Q4_K
//!     16   qh[32]      bit k of qh[l] is bit 4 of the code of element l of sub-block k
//!     48   qs[128]     qs[32 g + l]: low nibble is element l of sub-block 2 g, high nibble of sub-block 2 g + 1
//! ```
//!
//! value = d s q - dmin n

use super::lanes::blocks;
use super::panel::{self, Block, Line, Panel, Record, split_nibbles};
use super::words::Words;
use super::{Codes, Format, codec, decoding, field, field_mut, half, q4_k, unpacking};

const BLOCK: usize = 256;
const BYTES: usize = 2 + 2 + 12 + BLOCK / 8 + BLOCK / 2;
const _: () = assert!(BYTES == 176);

const CODES: Codes = Codes { group: 32, offset: None, largest: 31, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q5_K: Format =
    Format { name: "Q5_K", id: 13, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let (d, dmin) = (half::<0, BYTES>(block), half::<2, BYTES>(block));
            let (s, n) = q4_k::scales(field::<4, 12, BYTES>(block));
            let qh = field::<16, 32, BYTES>(block);
            let (qs, _) = field::<48, 128, BYTES>(block).as_chunks::<32>();
            let (x, _) = x.as_chunks_mut::<64>();
            for (g, (qs, x)) in qs.iter().zip(x).enumerate() {
                let (d0, m0) = (d * f32::from(s[2 * g]), dmin * f32::from(n[2 * g]));
                let (d1, m1) = (d * f32::from(s[2 * g + 1]), dmin * f32::from(n[2 * g + 1]));
                for l in 0..32 {
                    let high = qh[l] >> (2 * g);
                    x[l] = d0 * f32::from((qs[l] & 15) | (high & 1) << 4) - m0;
                    x[l + 32] = d1 * f32::from((qs[l] >> 4) | (high & 2) << 3) - m1;
                }
            }
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], mins: &mut [f32]) {
        let blocks = unpacking::<BYTES, BLOCK, 8>(src, codes, scales).zip(mins.as_chunks_mut::<8>().0);
        for ((block, codes, scale), min) in blocks {
            let (d, dmin) = (half::<0, BYTES>(block), half::<2, BYTES>(block));
            let (s, n) = q4_k::scales(field::<4, 12, BYTES>(block));
            (*scale, *min) = (s.map(|s| d * f32::from(s)), n.map(|n| dmin * f32::from(n)));
            let qh = field::<16, 32, BYTES>(block);
            let (qs, _) = field::<48, 128, BYTES>(block).as_chunks::<32>();
            for (g, (qs, codes)) in qs.iter().zip(codes.as_chunks_mut::<64>().0).enumerate() {
                for l in 0..32 {
                    let high = qh[l] >> (2 * g);
                    codes[l] = (qs[l] & 15) | (high & 1) << 4;
                    codes[l + 32] = (qs[l] >> 4) | (high & 2) << 3;
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
    const RECORD: Record = Record::SCALE_AND_MIN;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let lines = q4_k::lines(block);
        let qh = [block.words::<16>(), block.words::<32>()];
        let bit = W::splat(0x1010_1010);
        for (g, out) in out.chunks_exact_mut(20).enumerate() {
            for half in 0..2 {
                let qs = block.words_at(48 + 32 * g + 16 * half);
                for k in 0..4 {
                    let (low, high) = split_nibbles(qs[k]);
                    // Bits 2 g and 2 g + 1 of each byte become bit 4.
                    let fifth = qh[half][k].shr(2 * g as u32);
                    low.or(fifth.shl(4).and(bit)).store(&mut out[4 * half + k]);
                    high.or(fifth.shl(3).and(bit)).store(&mut out[10 + 4 * half + k]);
                }
            }
            for i in 0..2 {
                lines.0[2 * g + i].store(&mut out[10 * i + 8]);
                lines.1[2 * g + i].store(&mut out[10 * i + 9]);
            }
        }
    }
}

codec! {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
        for (x, importance, block) in blocks::<BLOCK, BYTES>(src, importance, dst) {
            let Some(fit) = q4_k::search::<31, BYTES>(x, importance, block, &TOPS) else {
                continue;
            };
            let codes = q4_k::codes::<31>(x, &fit);
            let qh = field_mut::<16, 32, BYTES>(block);
            for (k, c) in codes.as_chunks::<32>().0.iter().enumerate() {
                for l in 0..32 {
                    qh[l] |= (c[l] >> 4) << k;
                }
            }
            let (qs, _) = field_mut::<48, 128, BYTES>(block).as_chunks_mut::<32>();
            for (qs, c) in qs.iter_mut().zip(codes.as_chunks::<64>().0) {
                for l in 0..32 {
                    qs[l] = (c[l] & 15) | c[l + 32] << 4;
                }
            }
        }
    }
}

/// Where the search puts the largest value of a sub-block: around the last code.
const TOPS: [f32; 12] = [29.5, 29.8, 30.1, 30.4, 30.6, 30.8, 31.0, 31.2, 31.4, 31.6, 31.8, 32.0];

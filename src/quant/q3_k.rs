//! Q3_K: 256 codes of 3 bits in sixteen sub-blocks of 16, each with a signed 6-bit scale.
//!
//! ```text
//! byte 0    hmask[32]   bit 4 h + k of hmask[l]: see below
//!      32   qs[64]      low two bits of the codes
//!      96   scales[12]  sixteen scales of six bits, see `scales`
//!      108  d           F16 scale of the scales
//! ```
//!
//! Two halves h of 128 elements, of which quarter k = 0..4 at l = 0..32 is element 128 h + 32 k + l. Its low bits are bits
//! 2 k and 2 k + 1 of qs[32 h + l], its high bit is that of hmask; value = d (s - 32) (q - 4).

use super::lanes::{Lanes, Weighting, begin, blocks, reciprocal};
use super::panel::{self, Block, Line, Panel, Record, six_bits_less_32};
use super::scale::{self, Grid, Integers, Quantized};
use super::words::Words;
use super::{Codes, Format, codec, decoding, field, field_mut, half, set_half, unpacking};

const BLOCK: usize = 256;
const BYTES: usize = BLOCK / 8 + BLOCK / 4 + 12 + 2;
const _: () = assert!(BYTES == 110);

const CODES: Codes = Codes { group: 16, offset: Some(4), largest: 7, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q3_K: Format =
    Format { name: "Q3_K", id: 11, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let d = half::<108, BYTES>(block);
            let scales = scales(field::<96, 12, BYTES>(block));
            let hmask = field::<0, 32, BYTES>(block);
            let (qs, _) = field::<32, 64, BYTES>(block).as_chunks::<32>();
            for (i, x) in x.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let qs = &qs[i / 4];
                for half in 0..2 {
                    let scale = d * f32::from(scales[2 * i + half] as i8 - 32);
                    for l in 16 * half..16 * half + 16 {
                        let q = (qs[l] >> (2 * (i % 4)) & 3) | (hmask[l] >> i & 1) << 2;
                        x[l] = scale * f32::from(q as i8 - 4);
                    }
                }
            }
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], _mins: &mut [f32]) {
        for (block, codes, scale) in unpacking::<BYTES, BLOCK, 16>(src, codes, scales) {
            let d = half::<108, BYTES>(block);
            *scale = self::scales(field::<96, 12, BYTES>(block)).map(|s| d * f32::from(s as i8 - 32));
            let hmask = field::<0, 32, BYTES>(block);
            let (qs, _) = field::<32, 64, BYTES>(block).as_chunks::<32>();
            for (i, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for l in 0..32 {
                    codes[l] = (qs[i / 4][l] >> (2 * (i % 4)) & 3) | (hmask[l] >> i & 1) << 2;
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
        let (d, [_, a, b, c]) = (block.half::<108>(), block.words::<92>());
        let (one, two, four) = (W::splat(0x0101_0101), W::splat(0x0303_0303), W::splat(0x0f0f_0f0f));
        let low = [a.and(four), b.and(four), a.shr(4).and(four), b.shr(4).and(four)];
        let high = block.words8_at(0);
        for (h, out) in out.chunks_exact_mut(40).enumerate() {
            let qs = block.words8_at(32 + 32 * h);
            for k in 0..4 {
                for i in 0..8 {
                    let bit = high[i].shr(4 * h as u32 + k as u32).and(one).shl(2);
                    qs[i].shr(2 * k as u32).and(two).or(bit).store(&mut out[10 * k + i]);
                }
                // Bytes of `s` are four scales, of which two belong here.
                let four_scales = 2 * h + k / 2;
                let s = low[four_scales].or(c.shr(2 * four_scales as u32).and(two).shl(4));
                for half in 0..2 {
                    let scale = six_bits_less_32(s, 8 * (2 * (k as u32 % 2) + half as u32));
                    d.mul_f32(scale).store(&mut out[10 * k + 8 + half]);
                }
            }
        }
    }
}

codec! {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
        for (x, importance, block) in blocks::<BLOCK, BYTES>(src, importance, dst) {
            let Some((largest, inverse)) = begin::<108, BYTES>(x, block) else { continue };
            let lanes = Lanes::<16, 16>::load(x, importance, &[inverse; 16], Weighting::Magnitude);
            let scales = scale::scales::<Steps, 16, 16>(&lanes, &ENDS);
            let fit = scale::quantized::<Steps, 16, 16>(&lanes, largest, &scales, -32.0, 31.0);
            set_half::<108, BYTES>(block, fit.d);
            *field_mut::<96, 12, BYTES>(block) = packed_scales(&fit.s.map(|s| (s + 32.0) as u8));
            let codes = codes(x, &fit);
            let hmask = field_mut::<0, 32, BYTES>(block);
            for (i, c) in codes.as_chunks::<32>().0.iter().enumerate() {
                for l in 0..32 {
                    hmask[l] |= (c[l] >> 2) << i;
                }
            }
            let (qs, _) = field_mut::<32, 64, BYTES>(block).as_chunks_mut::<32>();
            for (qs, c) in qs.iter_mut().zip(codes.as_chunks::<128>().0) {
                for l in 0..32 {
                    qs[l] = c[l] & 3 | (c[l + 32] & 3) << 2 | (c[l + 64] & 3) << 4 | c[l + 96] << 6;
                }
            }
        }
    }
}

type Steps = Integers<-4, 3>;

/// Where the search puts the largest value of a sub-block: around the last codes of both sides.
const ENDS: [f32; 20] = [
    -4.9, -4.7, -4.5, -4.3, -4.15, -4.0, -3.85, -3.7, -3.55, -3.4, -3.2, -3.0, 2.6, 2.8, 3.0, 3.2, 3.35, 3.5, 3.7, 3.9,
];

/// The codes of a block, in the order of its elements.
#[inline(always)]
fn codes(x: &[f32; BLOCK], fit: &Quantized<16>) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (k, (x, codes)) in x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0).enumerate() {
        let inverse = reciprocal(fit.d * fit.s[k]);
        for l in 0..16 {
            codes[l] = (Steps::nearest(x[l] * inverse) + 4.0) as u8;
        }
    }
    codes
}

/// The scales, 32 too large. Low nibbles of the first eight bytes hold the low four bits of the first eight scales, high
/// nibbles those of the last eight; bits 2 j and 2 j + 1 of byte 8 + i are the high bits of scale 4 j + i.
#[inline(always)]
fn scales(b: &[u8; 12]) -> [u8; 16] {
    let mut s = [0; 16];
    for i in 0..16 {
        let low = if i < 8 { b[i] & 15 } else { b[i - 8] >> 4 };
        s[i] = low | (b[8 + i % 4] >> (2 * (i / 4)) & 3) << 4;
    }
    s
}

/// The inverse of [`scales`].
#[inline(always)]
fn packed_scales(s: &[u8; 16]) -> [u8; 12] {
    let mut b = [0; 12];
    for i in 0..8 {
        b[i] = s[i] & 15 | s[i + 8] << 4;
    }
    for i in 0..16 {
        b[8 + i % 4] |= (s[i] >> 4) << (2 * (i / 4));
    }
    b
}

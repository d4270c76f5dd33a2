//! Q4_K: 256 codes of 4 bits in eight sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
//!
//! ```text
//! byte 0   d           F16 scale of the scales
//!      2   dmin        F16 scale of the minimums
//!      4   scales[12]  eight scales s and eight minimums n, six bits each, see `scales`
//!     16   qs[128]     qs[32 g + l]: low nibble is element l of sub-block 2 g, high nibble of sub-block 2 g + 1
//! ```
//!
//! value = d s q - dmin n

use super::lanes::{Lanes, Weighting, begin, blocks, reciprocal};
use super::panel::{self, Block, Line, Panel, Record, split_nibbles};
use super::scale_min::{self, Quantized};
use super::words::Words;
use super::{Codes, Format, codec, decoding, field, field_mut, half, set_half, unpacking};

const BLOCK: usize = 256;
const BYTES: usize = 2 + 2 + 12 + BLOCK / 2;
const _: () = assert!(BYTES == 144);

const CODES: Codes = Codes { group: 32, offset: None, largest: 15, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static Q4_K: Format =
    Format { name: "Q4_K", id: 12, block: BLOCK, block_bytes: BYTES, decode, encode, codes: Some(CODES), pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let (d, dmin) = (half::<0, BYTES>(block), half::<2, BYTES>(block));
            let (s, n) = scales(field::<4, 12, BYTES>(block));
            let (qs, _) = field::<16, 128, BYTES>(block).as_chunks::<32>();
            let (x, _) = x.as_chunks_mut::<64>();
            for (g, (qs, x)) in qs.iter().zip(x).enumerate() {
                let (d0, m0) = (d * f32::from(s[2 * g]), dmin * f32::from(n[2 * g]));
                let (d1, m1) = (d * f32::from(s[2 * g + 1]), dmin * f32::from(n[2 * g + 1]));
                for l in 0..32 {
                    x[l] = d0 * f32::from(qs[l] & 15) - m0;
                    x[l + 32] = d1 * f32::from(qs[l] >> 4) - m1;
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
            let (s, n) = self::scales(field::<4, 12, BYTES>(block));
            (*scale, *min) = (s.map(|s| d * f32::from(s)), n.map(|n| dmin * f32::from(n)));
            let (qs, _) = field::<16, 128, BYTES>(block).as_chunks::<32>();
            for (qs, codes) in qs.iter().zip(codes.as_chunks_mut::<64>().0) {
                for l in 0..32 {
                    codes[l] = qs[l] & 15;
                    codes[l + 32] = qs[l] >> 4;
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
        let lines = lines(block);
        for (g, out) in out.chunks_exact_mut(20).enumerate() {
            let qs = block.words8_at(16 + 32 * g);
            for k in 0..8 {
                let (low, high) = split_nibbles(qs[k]);
                low.store(&mut out[k]);
                high.store(&mut out[10 + k]);
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
            let Some(fit) = search::<15, BYTES>(x, importance, block, &TOPS) else {
                continue;
            };
            let codes = codes::<15>(x, &fit);
            let (qs, _) = field_mut::<16, 128, BYTES>(block).as_chunks_mut::<32>();
            for (qs, c) in qs.iter_mut().zip(codes.as_chunks::<64>().0) {
                for l in 0..32 {
                    qs[l] = c[l] | c[l + 32] << 4;
                }
            }
        }
    }
}

/// Where the search puts the largest value of a sub-block: around the last code.
const TOPS: [f32; 16] =
    [14.0, 14.15, 14.3, 14.45, 14.6, 14.75, 14.9, 15.0, 15.1, 15.2, 15.35, 15.5, 15.65, 15.8, 15.95, 16.1];

/// Finds scales and minimums and stores them in the 16 bytes that Q4_K and Q5_K blocks begin with; the rest becomes zero.
/// `None` for blocks that are done with that.
#[inline(always)]
pub(super) fn search<const TOP: i32, const BYTES: usize>(
    x: &[f32; BLOCK],
    importance: Option<&[f32]>,
    block: &mut [u8; BYTES],
    tops: &[f32],
) -> Option<Quantized<8>> {
    let (largest, inverse) = begin::<0, BYTES>(x, block)?;
    let lanes = Lanes::<32, 8>::load(x, importance, &[inverse; 8], Weighting::Magnitude);
    let lines = scale_min::lines::<TOP, true, 32, 8>(&lanes, tops);
    let fit = scale_min::quantized::<TOP, 63, 32, 8>(&lanes, largest, &lines);
    set_half::<0, BYTES>(block, fit.d);
    set_half::<2, BYTES>(block, fit.dmin);
    *field_mut::<4, 12, BYTES>(block) = packed_scales(&fit.s.map(|s| s as u8), &fit.n.map(|n| n as u8));
    Some(fit)
}

/// The codes of a block, in the order of its elements.
#[inline(always)]
pub(super) fn codes<const TOP: i32>(x: &[f32; BLOCK], fit: &Quantized<8>) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (k, (x, codes)) in x.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0).enumerate() {
        let (inverse, min) = (reciprocal(fit.d * fit.s[k]), fit.dmin * fit.n[k]);
        for l in 0..32 {
            codes[l] = scale_min::code::<TOP>(x[l], inverse, min) as u8;
        }
    }
    codes
}

/// Scales and minimums of the sub-blocks. The first four of each are the low six bits of a byte; of the last four, the
/// low nibbles share bytes 8 to 11, and the high two bits sit above the first four.
///
/// ```text
/// byte k, k = 0..4    bits 7 6: bits 5 4 of s[k + 4]     bits 5 .. 0: s[k]
/// byte k + 4          bits 7 6: bits 5 4 of n[k + 4]     bits 5 .. 0: n[k]
/// byte k + 8          bits 7 .. 4: bits 3 .. 0 of n[k + 4]   bits 3 .. 0: bits 3 .. 0 of s[k + 4]
/// ```
#[inline(always)]
pub fn scales(b: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut s, mut n) = ([0; 8], [0; 8]);
    for k in 0..4 {
        s[k] = b[k] & 63;
        n[k] = b[k + 4] & 63;
        s[k + 4] = (b[k + 8] & 15) | (b[k] >> 6) << 4;
        n[k + 4] = (b[k + 8] >> 4) | (b[k + 4] >> 6) << 4;
    }
    (s, n)
}

/// Scales and minimums of the sub-blocks of Q4_K and Q5_K, sixteen rows at once.
#[inline(always)]
pub(super) fn lines<P: Panel, W: Words>(block: &Block<P, W>) -> ([W; 8], [W; 8]) {
    let [_, low_s, low_n, high] = block.words::<0>();
    // All scales of a row are in one word: byte k of `low_s` has s[k] and bits of s[k + 4].
    let (six, four, two) = (W::splat(0x3f3f_3f3f), W::splat(0x0f0f_0f0f), W::splat(0x3030_3030));
    let s = [low_s.and(six), high.and(four).or(low_s.shr(2).and(two))];
    let n = [low_n.and(six), high.shr(4).and(four).or(low_n.shr(2).and(two))];
    let (d, dmin) = (block.half::<0>(), block.half::<2>());
    let (mut scales, mut mins) = ([d; 8], [dmin; 8]);
    for k in 0..8 {
        let (byte, shift) = (W::splat(255), 8 * (k as u32 % 4));
        scales[k] = d.mul_f32(s[k / 4].shr(shift).and(byte).to_f32());
        mins[k] = dmin.mul_f32(n[k / 4].shr(shift).and(byte).to_f32());
    }
    (scales, mins)
}

/// The inverse of [`scales`].
#[inline(always)]
fn packed_scales(s: &[u8; 8], n: &[u8; 8]) -> [u8; 12] {
    let mut b = [0; 12];
    for k in 0..4 {
        b[k] = s[k] | (s[k + 4] >> 4) << 6;
        b[k + 4] = n[k] | (n[k + 4] >> 4) << 6;
        b[k + 8] = (s[k + 4] & 15) | n[k + 4] << 4;
    }
    b
}

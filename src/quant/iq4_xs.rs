//! IQ4_XS: 256 codes of 4 bits, as in IQ4_NL, in eight sub-blocks of 32, each with a signed 6-bit scale.
//!
//! ```text
//! byte 0   d            F16 scale of the scales
//!      2   scales_h     u16, bits 2 k and 2 k + 1 are the high bits of scale k
//!      4   scales_l[4]  low bits of scale k: a nibble of scales_l[k / 2], the low one for even k
//!      8   qs[128]      qs[16 k + j]: low nibble is element j of sub-block k, high nibble element j + 16
//! ```
//!
//! value = `d (s - 32) VALUES[q]`

use super::iq4_nl::{self, Values};
use super::lanes::{Lanes, Weighting, begin, blocks, reciprocal};
use super::panel::{self, Block, Line, Panel, Record, look_up, six_bits_less_32};
use super::words::Words;
use super::{Codes, Format, codec, decoding, field, field_mut, half, scale, set_half, unpacking};

const BLOCK: usize = 256;
const BYTES: usize = 2 + 2 + 4 + BLOCK / 2;
const _: () = assert!(BYTES == 136);

const CODES: Codes = Codes { group: 32, offset: Some(128), largest: 255, unpack, panel: panel::unpack::<Rows> };

/// The descriptor.
pub static IQ4_XS: Format = Format {
    name: "IQ4_XS",
    id: 23,
    block: BLOCK,
    block_bytes: BYTES,
    decode,
    encode,
    codes: Some(CODES),
    pairs: None,
};

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
            let d = half::<0, BYTES>(block);
            let high = u16::from_le_bytes(*field::<2, 2, BYTES>(block));
            let low = field::<4, 4, BYTES>(block);
            let (qs, _) = field::<8, 128, BYTES>(block).as_chunks::<16>();
            for (k, (qs, x)) in qs.iter().zip(x.as_chunks_mut::<32>().0).enumerate() {
                let s = low[k / 2] >> (4 * (k % 2)) & 15 | ((high >> (2 * k) & 3) as u8) << 4;
                iq4_nl::decode_block(d * f32::from(s as i8 - 32), qs, x);
            }
        }
    }
}

codec! {
    fn unpack(src: &[u8], codes: &mut [u8], scales: &mut [f32], _mins: &mut [f32]) {
        for (block, codes, scale) in unpacking::<BYTES, BLOCK, 8>(src, codes, scales) {
            let d = half::<0, BYTES>(block);
            let high = u16::from_le_bytes(*field::<2, 2, BYTES>(block));
            let low = field::<4, 4, BYTES>(block);
            let (qs, _) = field::<8, 128, BYTES>(block).as_chunks::<16>();
            for (k, (qs, codes)) in qs.iter().zip(codes.as_chunks_mut::<32>().0).enumerate() {
                let s = low[k / 2] >> (4 * (k % 2)) & 15 | ((high >> (2 * k) & 3) as u8) << 4;
                scale[k] = d * f32::from(s as i8 - 32);
                iq4_nl::integers(qs, codes);
            }
        }
    }
}

/// Sixteen rows at once.
struct Rows;

impl Panel for Rows {
    const BYTES: usize = BYTES;
    const RECORDS: usize = 8;
    const RECORD: Record = Record::ONE_SCALE;

    #[inline(always)]
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]) {
        let (d, [first, low, ..]) = (block.half::<0>(), block.words::<0>());
        for (k, out) in out.chunks_exact_mut(9).enumerate() {
            look_up(&block.words_at(8 + 16 * k), &iq4_nl::SHIFTED, out);
            // The high bits of the scales are the upper half of the first word.
            let high = first.shr(16 + 2 * k as u32).and(W::splat(3)).shl(4);
            let scale = six_bits_less_32(low.shr(4 * k as u32).and(W::splat(15)).or(high), 0);
            d.mul_f32(scale).store(&mut out[8]);
        }
    }
}

codec! {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
        for (x, importance, block) in blocks::<BLOCK, BYTES>(src, importance, dst) {
            let Some((largest, inverse)) = begin::<0, BYTES>(x, block) else { continue };
            let lanes = Lanes::<32, 8>::load(x, importance, &[inverse; 8], Weighting::Magnitude);
            let scales = scale::scales::<Values, 32, 8>(&lanes, &iq4_nl::ENDS);
            let fit = scale::quantized::<Values, 32, 8>(&lanes, largest, &scales, -32.0, 31.0);
            set_half::<0, BYTES>(block, fit.d);
            let mut high = 0u16;
            for (k, s) in fit.s.iter().enumerate() {
                let s = (s + 32.0) as u8;
                high |= u16::from(s >> 4) << (2 * k);
                field_mut::<4, 4, BYTES>(block)[k / 2] |= (s & 15) << (4 * (k % 2));
            }
            *field_mut::<2, 2, BYTES>(block) = high.to_le_bytes();
            let (qs, _) = field_mut::<8, 128, BYTES>(block).as_chunks_mut::<16>();
            for (k, (qs, x)) in qs.iter_mut().zip(x.as_chunks::<32>().0).enumerate() {
                *qs = iq4_nl::packed(x, reciprocal(fit.d * fit.s[k]));
            }
        }
    }
}

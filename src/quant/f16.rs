//! F16: IEEE 754 binary16, little-endian, one element per block. The scales of the block formats are F16 too.
//!
//! ```text
//! bit  15    14 .. 10   9 .. 0
//!      sign  exponent   mantissa     bias 15; exponent 0: zero and subnormals, 31: infinities and NaNs
//! ```

use super::{Format, codec, decoding, encoding, pairs};

/// The descriptor.
pub static F16: Format =
    Format { name: "F16", id: 1, block: 1, block_bytes: 2, decode, encode, codes: None, pairs: Some(pairs::of_f16) };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (bytes, [x]) in decoding::<2, 1>(src, dst) {
            *x = to_f32(u16::from_le_bytes(*bytes));
        }
    }
}

codec! {
    fn encode(src: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
        for ([x], bytes) in encoding::<1, 2>(src, dst) {
            *bytes = from_f32(*x).to_le_bytes();
        }
    }
}

/// Widens, exactly, without a branch (so that loops over it vectorize on any CPU).
///
/// With exponent and mantissa moved to their places in an F32, the value is right but for the bias, which differs by
/// 112; one multiplication corrects that, for subnormals as well. Only infinities and NaNs are left: their exponent
/// must become all ones.
#[inline(always)]
pub fn to_f32(bits: u16) -> f32 {
    const UNBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(bits);
    let magnitude = (f32::from_bits((bits & 0x7fff) << 13) * UNBIAS).to_bits();
    let not_finite = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude | not_finite | (bits & 0x8000) << 16)
}

/// Rounds to nearest, ties to even; too large becomes an infinity, NaN stays NaN. Without a branch, for the same reason.
#[inline(always)]
pub fn from_f32(x: f32) -> u16 {
    const INFINITE: u32 = 0x7f80_0000;
    /// 2^16, from where on there are only infinities.
    const TOO_LARGE: u32 = (127 + 16) << 23;
    /// 2^-14, the smallest normal number.
    const NORMAL: u32 = (127 - 14) << 23;
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Half a unit of the last place that stays, less one where that place is even; a carry reaches the exponent.
    let normal = magnitude.wrapping_sub((127 - 15) << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    // 0.5 has the unit 2^-24, that of the subnormals, in its last place: adding it rounds to that.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
    let finite = if magnitude < NORMAL { subnormal } else { normal };
    let any = if magnitude >= TOO_LARGE { 0x7c00 } else { finite };
    let any = if magnitude > INFINITE { nan } else { any };
    any as u16 | (bits >> 16 & 0x8000) as u16
}

//! F32: IEEE 754 binary32, little-endian, one element per block.

use super::{Format, codec, decoding, encoding};

/// The descriptor.
pub static F32: Format =
    Format { name: "F32", id: 0, block: 1, block_bytes: 4, decode, encode, codes: None, pairs: None };

codec! {
    fn decode(src: &[u8], dst: &mut [f32]) {
        for (bytes, [x]) in decoding::<4, 1>(src, dst) {
            *x = f32::from_le_bytes(*bytes);
        }
    }
}

codec! {
    fn encode(src: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
        for ([x], bytes) in encoding::<1, 4>(src, dst) {
            *bytes = x.to_le_bytes();
        }
    }
}

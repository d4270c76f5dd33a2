//! F32: IEEE 754 binary32, little-endian, one element per block.

use super::Format;

/// The descriptor.
pub static F32: Format = Format { name: "F32", id: 0, block: 1, block_bytes: 4, decode, encode: Some(encode) };

fn decode(src: &[u8], dst: &mut [f32]) {
    for (bytes, x) in src.chunks_exact(4).zip(dst) {
        *x = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

fn encode(src: &[f32], dst: &mut [u8]) {
    for (x, bytes) in src.iter().zip(dst.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&x.to_le_bytes());
    }
}

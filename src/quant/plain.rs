//! What Q4_0, Q5_0, Q4_1 and Q5_1 share: blocks of 32 codes under an F16 scale d at byte 0, with an offset that all blocks
//! have, or an F16 minimum m at byte 2. Where a block's codes are is the format's: a trait and not an argument, since a function
//! handed over would be compiled for the plainest processor first (Q5_0 then decoded 27 GB/s instead of 41).

use super::{decoding, half, unpacking};

const BLOCK: usize = 32;

/// How a format keeps the codes of a block.
pub(super) trait Blocks<const BYTES: usize> {
    /// All of them.
    fn codes(block: &[u8; BYTES]) -> [u8; BLOCK];
}

/// value = d * (code - OFFSET).
#[inline(always)]
pub(super) fn decode_offset<F: Blocks<BYTES>, const OFFSET: i8, const BYTES: usize>(src: &[u8], dst: &mut [f32]) {
    for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
        let (d, codes) = (half::<0, BYTES>(block), F::codes(block));
        for j in 0..BLOCK {
            x[j] = d * f32::from(codes[j] as i8 - OFFSET);
        }
    }
}

/// value = d * code + m.
#[inline(always)]
pub(super) fn decode_min<F: Blocks<BYTES>, const BYTES: usize>(src: &[u8], dst: &mut [f32]) {
    for (block, x) in decoding::<BYTES, BLOCK>(src, dst) {
        let (d, m, codes) = (half::<0, BYTES>(block), half::<2, BYTES>(block), F::codes(block));
        for j in 0..BLOCK {
            x[j] = d * f32::from(codes[j]) + m;
        }
    }
}

/// Codes and scales; those with an offset have no minimums.
#[inline(always)]
pub(super) fn unpack_offset<F: Blocks<BYTES>, const BYTES: usize>(src: &[u8], out: &mut [u8], scales: &mut [f32]) {
    for (block, out, scale) in unpacking::<BYTES, BLOCK, 1>(src, out, scales) {
        *scale = [half::<0, BYTES>(block)];
        *out = F::codes(block);
    }
}

/// Codes, scales, and what is to be subtracted.
#[inline(always)]
pub(super) fn unpack_min<F: Blocks<BYTES>, const BYTES: usize>(
    src: &[u8],
    out: &mut [u8],
    (scales, mins): (&mut [f32], &mut [f32]),
) {
    for ((block, out, scale), min) in unpacking::<BYTES, BLOCK, 1>(src, out, scales).zip(mins) {
        *scale = [half::<0, BYTES>(block)];
        *min = -half::<2, BYTES>(block);
        *out = F::codes(block);
    }
}

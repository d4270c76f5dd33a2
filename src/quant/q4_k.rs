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

use super::{Format, decoding, field, half};

const BLOCK: usize = 256;
const BYTES: usize = 2 + 2 + 12 + BLOCK / 2;
const _: () = assert!(BYTES == 144);

/// The descriptor.
pub static Q4_K: Format = Format { name: "Q4_K", id: 12, block: BLOCK, block_bytes: BYTES, decode, encode: None };

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

/// Scales and minimums of the sub-blocks. The first four of each are the low six bits of a byte; of the last four, the
/// low nibbles share bytes 8 to 11, and the high two bits sit above the first four.
///
/// ```text
/// byte k, k = 0..4    bits 7 6: bits 5 4 of s[k + 4]     bits 5 .. 0: s[k]
/// byte k + 4          bits 7 6: bits 5 4 of n[k + 4]     bits 5 .. 0: n[k]
/// byte k + 8          bits 7 .. 4: bits 3 .. 0 of n[k + 4]   bits 3 .. 0: bits 3 .. 0 of s[k + 4]
/// ```
#[inline(always)]
pub(super) fn scales(b: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut s, mut n) = ([0; 8], [0; 8]);
    for k in 0..4 {
        s[k] = b[k] & 63;
        n[k] = b[k + 4] & 63;
        s[k + 4] = (b[k + 8] & 15) | (b[k] >> 6) << 4;
        n[k + 4] = (b[k + 8] >> 4) | (b[k + 4] >> 6) << 4;
    }
    (s, n)
}

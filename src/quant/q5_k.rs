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

use super::{Format, decoding, field, half, q4_k};

const BLOCK: usize = 256;
const BYTES: usize = 2 + 2 + 12 + BLOCK / 8 + BLOCK / 2;
const _: () = assert!(BYTES == 176);

/// The descriptor.
pub static Q5_K: Format = Format { name: "Q5_K", id: 13, block: BLOCK, block_bytes: BYTES, decode, encode: None };

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

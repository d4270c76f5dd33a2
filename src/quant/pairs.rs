//! Sixteen rows of 16-bit floats as pairs of BF16 numbers, for dot products of such pairs: [`Line`] i has elements 2 i and
//! 2 i + 1 of each row, the former in the low half of its word, zeros behind the end of the row. Only processors that
//! multiply BF16 numbers need this, so there is one version; what it must equal is decoding and [`bf16::from_f32`](super::bf16::from_f32).

use super::panel::{Line, ROWS};
use crate::cpu_level::Avx512Bf16;

/// Columns that one register holds of a row.
const COLUMNS: usize = 32;

/// Puts `rows` rows, at most 16, of `src.len() / rows` bytes in order; what `out` has of further rows is of no meaning. Panics
/// when the lengths do not match.
pub type UnpackPairs = fn(token: Avx512Bf16, src: &[u8], rows: usize, out: &mut [Line]);

/// The [`UnpackPairs`] of BF16.
pub(super) fn of_bf16(token: Avx512Bf16, src: &[u8], rows: usize, out: &mut [Line]) {
    unpack::<false>(token, src, rows, out);
}

/// The [`UnpackPairs`] of F16, whose numbers are rounded: three of their eleven bits are lost.
pub(super) fn of_f16(token: Avx512Bf16, src: &[u8], rows: usize, out: &mut [Line]) {
    unpack::<true>(token, src, rows, out);
}

fn unpack<const F16: bool>(_: Avx512Bf16, src: &[u8], rows: usize, out: &mut [Line]) {
    let stride = src.len() / rows;
    assert!((1..=ROWS).contains(&rows) && src.len() == rows * stride && stride.is_multiple_of(2), "not whole rows");
    assert_eq!(out.len(), (stride / 2).div_ceil(2), "different numbers of columns");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the token proves the features; sizes as asserted.
    unsafe {
        x86::unpack::<F16>(src.as_ptr(), rows, stride, out);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{COLUMNS, Line, ROWS};
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// # Safety
    /// `rows` rows of `stride` bytes, an even number, at `src`; `out` has a line for each two columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub unsafe fn unpack<const F16: bool>(src: *const u8, rows: usize, stride: usize, out: &mut [Line]) {
        let columns = stride / 2;
        for (block, out) in out.chunks_mut(COLUMNS / 2).enumerate() {
            let first = block * COLUMNS;
            let mask = u32::MAX >> (COLUMNS - (columns - first).min(COLUMNS));
            let mut words = [_mm512_setzero_si512(); ROWS];
            for (r, words) in words.iter_mut().enumerate() {
                // SAFETY: these columns of a row; masked-out ones are not accessed.
                let x = unsafe {
                    let at = src.add(r.min(rows - 1) * stride + 2 * first);
                    _mm512_maskz_loadu_epi16(mask, at.cast())
                };
                *words = if F16 { rounded(x) } else { x };
            }
            let words = transposed(words);
            for (line, words) in out.iter_mut().zip(words) {
                // SAFETY: a line has 64 bytes and begins at a multiple of them.
                unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), words) };
            }
        }
    }

    /// 32 F16 numbers as BF16 numbers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rounded(x: __m512i) -> __m512i {
        let low = _mm512_cvtph_ps(_mm512_castsi512_si256(x));
        let high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(x));
        // SAFETY: 64 bytes either way, and any bits are a register.
        unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
    }

    /// Word j of row i becomes word i of row j: pairs of rows interleaved by words, then by pairs of words, then quarters of
    /// registers put in order in two steps.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transposed(x: [__m512i; ROWS]) -> [__m512i; ROWS] {
        let (mut a, mut b) = (x, x);
        for i in 0..8 {
            a[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
            a[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
        }
        for i in 0..4 {
            for j in 0..2 {
                b[4 * i + 2 * j] = _mm512_unpacklo_epi64(a[4 * i + j], a[4 * i + 2 + j]);
                b[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(a[4 * i + j], a[4 * i + 2 + j]);
            }
        }
        // b[4 i + j] has, in quarter q, word 4 q + j of rows 4 i .. 4 i + 4.
        for j in 0..4 {
            for i in 0..2 {
                a[8 * i + j] = _mm512_shuffle_i32x4::<0x88>(b[8 * i + j], b[8 * i + 4 + j]);
                a[8 * i + 4 + j] = _mm512_shuffle_i32x4::<0xdd>(b[8 * i + j], b[8 * i + 4 + j]);
            }
        }
        // a[8 i + j] has words j and 8 + j, a[8 i + 4 + j] words 4 + j and 12 + j, of rows 8 i .. 8 i + 8.
        for j in 0..8 {
            b[j] = _mm512_shuffle_i32x4::<0x88>(a[j], a[8 + j]);
            b[8 + j] = _mm512_shuffle_i32x4::<0xdd>(a[j], a[8 + j]);
        }
        b
    }
}

//! The one matrix-product kernel: `c = a * b` or `c += a * b` with b `[k, n]`, contiguous along n.
//!
//! Each element of c is one chain of multiply-adds over k in ascending order, started from zero or from c. So it does
//! not depend on how m, n or k are cut into calls: the same logits come out for any number of threads and any chunk
//! size. (AVX levels fuse each multiply-add, the scalar level does not: levels differ in the last bits.)
//!
//! Tiles: AVX-512 keeps 8 rows x 32 columns of c in 16 registers (2 loads of b and 8 broadcasts feed 16 products);
//! AVX2 has half the registers, so 6 x 16 in 12.

use crate::cpu_level::CpuLevel;

/// A matrix operand: address of its first element, and elements from one row to the next.
#[derive(Clone, Copy)]
pub struct Rows<T> {
    /// First element.
    pub at: T,
    /// Row stride in elements.
    pub stride: usize,
}

/// `c[m, n] = a[m, k] * b[k, n]`, plus the old c if `accumulate`.
///
/// # Safety
/// The addressed rows of a and b are readable, those of c are writable, initialised where `accumulate` is set, not
/// shared with a or b, and nobody else accesses them during the call.
pub unsafe fn gemm(
    level: CpuLevel,
    (m, n, k): (usize, usize, usize),
    a: Rows<*const f32>,
    b: Rows<*const f32>,
    c: Rows<*mut f32>,
    accumulate: bool,
) {
    // SAFETY: the caller's promise, and the level's token for the target features.
    unsafe {
        match level {
            CpuLevel::Scalar => scalar(m, n, k, a, b, c, accumulate),
            #[cfg(target_arch = "x86_64")]
            CpuLevel::Avx2(_) => x86::avx2(m, n, k, a, b, c, accumulate),
            #[cfg(target_arch = "x86_64")]
            CpuLevel::Avx512(_) | CpuLevel::Avx512Vnni(_) => x86::avx512(m, n, k, a, b, c, accumulate),
            #[cfg(not(target_arch = "x86_64"))]
            _ => scalar(m, n, k, a, b, c, accumulate),
        }
    }
}

/// # Safety
/// As [`gemm`].
unsafe fn scalar(
    m: usize,
    n: usize,
    k: usize,
    a: Rows<*const f32>,
    b: Rows<*const f32>,
    c: Rows<*mut f32>,
    accumulate: bool,
) {
    for i in 0..m {
        // SAFETY: row i of c and of a, and every row of b, by the caller's promise.
        unsafe {
            let c = std::slice::from_raw_parts_mut(c.at.add(i * c.stride), n);
            if !accumulate {
                c.fill(0.0);
            }
            for p in 0..k {
                let x = *a.at.add(i * a.stride + p);
                let b = std::slice::from_raw_parts(b.at.add(p * b.stride), n);
                c.iter_mut().zip(b).for_each(|(c, b)| *c += x * b);
            }
        }
    }
}

/// `out[j, i] = tile[i, j]`: a decoded tile `[rows, cols]` becomes the b operand `[cols, rows]` with row stride
/// `out_stride` (>= rows).
pub fn transpose<T: Copy>(level: CpuLevel, tile: &[T], rows: usize, cols: usize, out: &mut [T], out_stride: usize) {
    const { assert!(size_of::<T>() == 4) };
    assert!(
        tile.len() >= rows * cols && rows <= out_stride && (cols == 0 || out.len() >= (cols - 1) * out_stride + rows)
    );
    let (mut whole_rows, mut whole_cols) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if level != CpuLevel::Scalar {
        (whole_rows, whole_cols) = (rows / 8 * 8, cols / 8 * 8);
        for i in (0..whole_rows).step_by(8) {
            for j in (0..whole_cols).step_by(8) {
                // SAFETY: both vector levels include AVX2; the 8 x 8 squares lie inside, as asserted above.
                unsafe {
                    x86::transpose_8x8(
                        tile.as_ptr().add(i * cols + j).cast(),
                        cols,
                        out.as_mut_ptr().add(j * out_stride + i).cast(),
                        out_stride,
                    );
                }
            }
        }
    }
    for i in 0..rows {
        let from = if i < whole_rows { whole_cols } else { 0 };
        for j in from..cols {
            out[j * out_stride + i] = tile[i * cols + j];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Rows;
    use std::arch::x86_64::*;

    /// Runs `$micro::<M>` over row groups of at most 8 or 6, M being the group's size.
    macro_rules! row_groups {
        ($m:expr, $max:literal, $micro:ident, [$($size:literal),*], $args:tt) => {{
            let mut i = 0;
            while i < $m {
                match ($m - i).min($max) {
                    $($size => row_groups!(@call $micro, $size, i, $args),)*
                    _ => unreachable!(),
                }
                i += ($m - i).min($max);
            }
        }};
        (@call $micro:ident, $size:literal, $i:ident, ($($arg:expr),*)) => { $micro::<$size>($i, $($arg),*) };
    }

    /// # Safety
    /// As [`super::gemm`], on a processor with AVX-512.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(
        m: usize,
        n: usize,
        k: usize,
        a: Rows<*const f32>,
        b: Rows<*const f32>,
        c: Rows<*mut f32>,
        accumulate: bool,
    ) {
        for j in (0..n).step_by(32) {
            let mask = ((1u64 << (n - j).min(32)) - 1) as u32;
            // SAFETY: columns j.. under the mask and the rows of the group lie inside, by the caller's promise.
            unsafe {
                row_groups!(m, 8, micro512, [1, 2, 3, 4, 5, 6, 7, 8], (j, mask, k, a, b, c, accumulate));
            }
        }
    }

    /// # Safety
    /// Rows `i..i + M` and the columns of `mask` from `j` lie inside the operands.
    #[target_feature(enable = "avx512f")]
    #[allow(clippy::too_many_arguments)]
    unsafe fn micro512<const M: usize>(
        i: usize,
        j: usize,
        mask: u32,
        k: usize,
        a: Rows<*const f32>,
        b: Rows<*const f32>,
        c: Rows<*mut f32>,
        accumulate: bool,
    ) {
        let (low, high) = (mask as u16, (mask >> 16) as u16);
        let mut sum = [[_mm512_setzero_ps(); 2]; M];
        // SAFETY: the caller's promise; masked-out lanes are not accessed.
        unsafe {
            if accumulate {
                for (r, sum) in sum.iter_mut().enumerate() {
                    let c = c.at.add((i + r) * c.stride + j);
                    *sum = [_mm512_maskz_loadu_ps(low, c), _mm512_maskz_loadu_ps(high, c.wrapping_add(16))];
                }
            }
            for p in 0..k {
                let b = b.at.add(p * b.stride + j);
                let b0 = _mm512_maskz_loadu_ps(low, b);
                let b1 = _mm512_maskz_loadu_ps(high, b.wrapping_add(16));
                for (r, sum) in sum.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*a.at.add((i + r) * a.stride + p));
                    sum[0] = _mm512_fmadd_ps(x, b0, sum[0]);
                    sum[1] = _mm512_fmadd_ps(x, b1, sum[1]);
                }
            }
            for (r, sum) in sum.iter().enumerate() {
                let c = c.at.add((i + r) * c.stride + j);
                _mm512_mask_storeu_ps(c, low, sum[0]);
                _mm512_mask_storeu_ps(c.wrapping_add(16), high, sum[1]);
            }
        }
    }

    /// # Safety
    /// As [`super::gemm`], on a processor with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(
        m: usize,
        n: usize,
        k: usize,
        a: Rows<*const f32>,
        b: Rows<*const f32>,
        c: Rows<*mut f32>,
        accumulate: bool,
    ) {
        for j in (0..n).step_by(16) {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let left = (n - j).min(16) as i32;
            let low = _mm256_cmpgt_epi32(_mm256_set1_epi32(left), lane);
            let high = _mm256_cmpgt_epi32(_mm256_set1_epi32(left - 8), lane);
            // SAFETY: columns j.. under the masks and the rows of the group lie inside, by the caller's promise.
            unsafe {
                row_groups!(m, 6, micro256, [1, 2, 3, 4, 5, 6], (j, low, high, k, a, b, c, accumulate));
            }
        }
    }

    /// # Safety
    /// Rows `i..i + M` and the columns of the masks from `j` lie inside the operands.
    #[target_feature(enable = "avx2,fma")]
    #[allow(clippy::too_many_arguments)]
    unsafe fn micro256<const M: usize>(
        i: usize,
        j: usize,
        low: __m256i,
        high: __m256i,
        k: usize,
        a: Rows<*const f32>,
        b: Rows<*const f32>,
        c: Rows<*mut f32>,
        accumulate: bool,
    ) {
        let mut sum = [[_mm256_setzero_ps(); 2]; M];
        // SAFETY: the caller's promise; masked-out lanes are not accessed.
        unsafe {
            if accumulate {
                for (r, sum) in sum.iter_mut().enumerate() {
                    let c = c.at.add((i + r) * c.stride + j);
                    *sum = [_mm256_maskload_ps(c, low), _mm256_maskload_ps(c.wrapping_add(8), high)];
                }
            }
            for p in 0..k {
                let b = b.at.add(p * b.stride + j);
                let b0 = _mm256_maskload_ps(b, low);
                let b1 = _mm256_maskload_ps(b.wrapping_add(8), high);
                for (r, sum) in sum.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*a.at.add((i + r) * a.stride + p));
                    sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
                }
            }
            for (r, sum) in sum.iter().enumerate() {
                let c = c.at.add((i + r) * c.stride + j);
                _mm256_maskstore_ps(c, low, sum[0]);
                _mm256_maskstore_ps(c.wrapping_add(8), high, sum[1]);
            }
        }
    }

    /// Transposes an 8 x 8 square: pairs of rows interleaved by 1, then by 2 elements, then by halves of a register.
    ///
    /// # Safety
    /// 8 rows of 8 elements at `from` are readable and at `to` writable; the processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let row = |i: usize| _mm256_loadu_ps(from.add(i * from_stride));
            let (r0, r1, r2, r3, r4, r5, r6, r7) = (row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7));
            let pair = |x: __m256, y: __m256| (_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
            let (a0, a1) = pair(r0, r1);
            let (a2, a3) = pair(r2, r3);
            let (a4, a5) = pair(r4, r5);
            let (a6, a7) = pair(r6, r7);
            let quad = |x: __m256, y: __m256| (_mm256_shuffle_ps::<0x44>(x, y), _mm256_shuffle_ps::<0xEE>(x, y));
            let (b0, b1) = quad(a0, a2);
            let (b2, b3) = quad(a1, a3);
            let (b4, b5) = quad(a4, a6);
            let (b6, b7) = quad(a5, a7);
            let low = |x: __m256, y: __m256| _mm256_permute2f128_ps::<0x20>(x, y);
            let high = |x: __m256, y: __m256| _mm256_permute2f128_ps::<0x31>(x, y);
            let columns = [
                low(b0, b4),
                low(b1, b5),
                low(b2, b6),
                low(b3, b7),
                high(b0, b4),
                high(b1, b5),
                high(b2, b6),
                high(b3, b7),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                _mm256_storeu_ps(to.add(i * to_stride), column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| ((i.wrapping_mul(2654435761).wrapping_add(seed) >> 16) & 1023) as f32 / 512.0 - 1.0)
            .collect()
    }

    /// Protects every tail: all sizes around the tile borders, with strides longer than the rows, against f64 sums.
    /// Bound: k products of at most 1, each rounded once: k * eps.
    #[test]
    fn every_size_and_level_equals_a_plain_product() {
        for level in CpuLevel::available() {
            for (m, n, k) in [
                (1, 1, 1),
                (5, 7, 3),
                (6, 16, 8),
                (7, 17, 9),
                (8, 32, 64),
                (9, 33, 65),
                (13, 47, 31),
                (16, 64, 100),
                (33, 31, 2),
            ] {
                let (lda, ldb, ldc) = (k + 3, n + 5, n + 2);
                let (a, b) = (numbers(m * lda, 1), numbers(k * ldb, 2));
                let start = numbers(m * ldc, 3);
                for accumulate in [false, true] {
                    let mut c = start.clone();
                    let (ra, rb) = (Rows { at: a.as_ptr(), stride: lda }, Rows { at: b.as_ptr(), stride: ldb });
                    // SAFETY: the vectors have m * lda, k * ldb and m * ldc elements.
                    unsafe { gemm(level, (m, n, k), ra, rb, Rows { at: c.as_mut_ptr(), stride: ldc }, accumulate) };
                    for i in 0..m {
                        for j in 0..ldc {
                            let old = start[i * ldc + j];
                            if j >= n {
                                assert_eq!(c[i * ldc + j], old, "wrote past column {n}");
                                continue;
                            }
                            let want =
                                (0..k).map(|p| f64::from(a[i * lda + p]) * f64::from(b[p * ldb + j])).sum::<f64>()
                                    + if accumulate { f64::from(old) } else { 0.0 };
                            let got = f64::from(c[i * ldc + j]);
                            let bound = (k + 1) as f64 * f64::from(f32::EPSILON);
                            assert!(
                                (got - want).abs() <= bound,
                                "{} {m}x{n}x{k} at {i},{j}: {got}, expected {want}",
                                level.name()
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn transpose_handles_every_tail() {
        for level in CpuLevel::available() {
            for (rows, cols) in [(1, 1), (8, 8), (9, 15), (64, 33), (3, 256)] {
                let tile = numbers(rows * cols, 5);
                let mut out = vec![9.0; cols * 70];
                transpose(level, &tile, rows, cols, &mut out, 70);
                for i in 0..rows {
                    for j in 0..cols {
                        assert_eq!(out[j * 70 + i], tile[i * cols + j]);
                    }
                }
                assert_eq!(out[rows], 9.0);
            }
        }
    }
}

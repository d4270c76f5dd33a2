//! Products of BF16 numbers with sums in f32: `out[i] += factor[i] * x[i] * b`, x `[rows, k]`, b `[k, n]`.
//!
//! The instruction multiplies pairs, so b is kept in pairs of rows: `[k / 2, n]` words with two numbers each. A tile is 6
//! rows x 64 columns, 24 sums in registers; 4 loads and 6 broadcasts feed 24 products of 32. Sums of a pair round once in
//! an order of the processor's own, so results differ from f32 in the last bits of each step.

use crate::cpu_level::{Avx512Bf16, CpuLevel, leveled};

/// Columns of a tile.
const COLS: usize = 64;
/// Rows of a tile.
const ROWS: usize = 6;

/// Columns of a packed matrix of `n` columns.
fn padded(n: usize) -> usize {
    n.next_multiple_of(COLS)
}

/// Packs `b` `[k, n]`, rounded: for each 64 columns `[k / 2, 64]` words. An odd k and columns that are missing give zeros.
pub fn pack(level: CpuLevel, b: &[f32], n: usize, out: &mut Vec<u32>) {
    let pairs = (b.len() / n).div_ceil(2);
    out.resize(pairs * padded(n), 0);
    let zeros = vec![0.0; n];
    for (i, rows) in b.chunks(2 * n).enumerate() {
        let (low, high) = rows.split_at(n);
        let high = if high.is_empty() { &zeros } else { high };
        for (strip, (low, high)) in low.chunks(COLS).zip(high.chunks(COLS)).enumerate() {
            pack_pair(level, low, high, &mut out[(strip * pairs + i) * COLS..][..COLS]);
        }
    }
}

leveled! {
    fn pack_pair(low: &[f32], high: &[f32], out: &mut [u32]) {
        let (out, rest) = out.split_at_mut(low.len());
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            *out = rounded(*low) >> 16 | rounded(*high) & 0xffff_0000;
        }
        rest.fill(0);
    }
}

/// The upper half has a finite number in BF16, rounded to nearest.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1))
}

/// The product with a packed matrix of `k` rows and as many columns as `out(i)` has. `x(i)` has k numbers.
pub fn accumulate<'a, 'b>(
    token: Avx512Bf16,
    packed: &[u32],
    k: usize,
    factors: &[f32],
    x: impl Fn(usize) -> &'a [u16],
    out: impl Fn(usize) -> &'b mut [f32],
) {
    let _ = token;
    let (pairs, mut first) = (k.div_ceil(2), 0);
    while first < factors.len() {
        let rows = (factors.len() - first).min(ROWS);
        let n = out(first).len();
        assert!(packed.len() == pairs * padded(n));
        assert!((first..first + rows).all(|i| x(i).len() == k && out(i).len() == n));
        for strip in 0..n.div_ceil(COLS) {
            let columns = (n - strip * COLS).min(COLS);
            let b = packed[strip * pairs * COLS..].as_ptr();
            macro_rules! tile {
                ($($size:literal),*) => {
                    match rows {
                        $($size => {
                            let rows: [Row; $size] = std::array::from_fn(|i| Row {
                                x: x(first + i).as_ptr(),
                                factor: factors[first + i],
                                out: out(first + i)[strip * COLS..].as_mut_ptr(),
                            });
                            // SAFETY: the token proves the features; the sizes were asserted.
                            #[cfg(target_arch = "x86_64")]
                            unsafe { x86::tile(rows, b, k, columns) };
                            #[cfg(not(target_arch = "x86_64"))]
                            unreachable!("{rows:?} {b:?} {columns}");
                        })*
                        _ => unreachable!(),
                    }
                };
            }
            tile!(1, 2, 3, 4, 5, 6);
        }
        first += rows;
    }
}

/// A row of x and where its products go.
#[derive(Clone, Copy, Debug)]
struct Row {
    x: *const u16,
    factor: f32,
    out: *mut f32,
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{COLS, Row};
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// # Safety
    /// k numbers per row of x, `columns` of out; b `[k / 2 rounded up, 64]`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn tile<const M: usize>(rows: [Row; M], b: *const u32, k: usize, columns: usize) {
        let mut sums = [[_mm512_setzero_ps(); 4]; M];
        // SAFETY: the caller's promise; a last single number of x is read alone.
        unsafe {
            for pair in 0..k.div_ceil(2) {
                let mut w = [_mm512_setzero_si512(); 4];
                for (c, w) in w.iter_mut().enumerate() {
                    *w = _mm512_loadu_si512(b.add(pair * COLS + 16 * c).cast());
                }
                for r in 0..M {
                    let x = if 2 * pair + 1 < k {
                        rows[r].x.add(2 * pair).cast::<i32>().read_unaligned()
                    } else {
                        i32::from(*rows[r].x.add(2 * pair))
                    };
                    let x = _mm512_set1_epi32(x);
                    for c in 0..4 {
                        let (x, w) = (transmute::<__m512i, __m512bh>(x), transmute::<__m512i, __m512bh>(w[c]));
                        sums[r][c] = _mm512_dpbf16_ps(sums[r][c], x, w);
                    }
                }
            }
            for (row, sums) in rows.iter().zip(sums) {
                let factor = _mm512_set1_ps(row.factor);
                for (c, sum) in sums.into_iter().enumerate() {
                    let left = columns.saturating_sub(16 * c).min(16);
                    let mask = ((1u32 << left) - 1) as u16;
                    let out = row.out.wrapping_add(16 * c);
                    let sum = _mm512_fmadd_ps(factor, sum, _mm512_maskz_loadu_ps(mask, out));
                    _mm512_mask_storeu_ps(out, mask, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that BF16 holds exactly, and sums that f32 does: equal to the last bit, for every tail.
    #[test]
    fn products_are_exact_where_numbers_are() {
        let Some(token) = CpuLevel::best().bf16() else {
            eprintln!("no BF16 dot products on this machine: not tested");
            return;
        };
        for (rows, k, n) in [(1, 1, 1), (5, 7, 17), (6, 64, 64), (13, 31, 130), (48, 512, 128)] {
            let number = |i: usize| ((i * 7919 + 13) % 15) as f32 - 7.0;
            let x: Vec<u16> = (0..rows * k).map(|i| (number(i).to_bits() >> 16) as u16).collect();
            let b: Vec<f32> = (0..k * n).map(|i| number(i + 5)).collect();
            let factors: Vec<f32> = (0..rows).map(|i| 1.0 + i as f32).collect();
            let mut packed = Vec::new();
            pack(CpuLevel::best(), &b, n, &mut packed);
            let mut out = vec![1.0; rows * n];
            let address = out.as_mut_ptr() as usize;
            // SAFETY: rows of out, one at a time.
            let row = |i: usize| unsafe { std::slice::from_raw_parts_mut((address as *mut f32).add(i * n), n) };
            accumulate(token, &packed, k, &factors, |i| &x[i * k..][..k], row);
            for i in 0..rows {
                for j in 0..n {
                    let sum: f32 = (0..k).map(|p| number(i * k + p) * number(p * n + j + 5)).sum();
                    assert_eq!(out[i * n + j], 1.0 + factors[i] * sum, "{rows} {k} {n} at {i}, {j}");
                }
            }
        }
    }
}

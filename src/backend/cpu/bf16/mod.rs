//! Products of BF16 numbers with sums in f32: `out[i] += factor[i] * x[i] * b`, x `[rows, k]`, b `[k, n]`. Those with weights
//! are in `product.rs`.
//!
//! The instruction multiplies pairs, so b is kept in pairs of rows: `[k / 2, n]` words with two numbers each. A tile is 6
//! rows x 64 columns, 24 sums in registers; 4 loads and 6 broadcasts feed 24 products of 32. Sums of a pair round once in
//! an order of the processor's own, so results differ from f32 in the last bits of each step.

pub mod peak;
mod product;

pub use product::{Rounded, tile_product};

use super::gemm::transpose;
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
    let k = b.len() / n;
    let pairs = k.div_ceil(2);
    out.resize(pairs * padded(n), 0);
    let row = |i: usize, row: &mut [f32]| row.copy_from_slice(&b[i * n..][..n]);
    // SAFETY: all pairs.
    unsafe { pack_part(level, (k, n), row, (0, pairs), out.as_mut_ptr()) };
}

/// The same for k rows, made by `row`, that are pairs `first..` of `pairs` of a packed matrix.
///
/// # Safety
/// These pairs, of all columns rounded up to 64, are writable and accessed by nobody else meanwhile.
pub unsafe fn pack_part(
    level: CpuLevel,
    (k, n): (usize, usize),
    row: impl Fn(usize, &mut [f32]),
    (first, pairs): (usize, usize),
    out: *mut u32,
) {
    let mut two = vec![0.0; 2 * n];
    for i in 0..k.div_ceil(2) {
        let (low, high) = two.split_at_mut(n);
        row(2 * i, low);
        if 2 * i + 1 < k {
            row(2 * i + 1, high)
        } else {
            high.fill(0.0)
        }
        for (strip, (low, high)) in low.chunks(COLS).zip(high.chunks(COLS)).enumerate() {
            // SAFETY: the caller's promise.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add((strip * pairs + first + i) * COLS), COLS) };
            #[cfg(target_arch = "x86_64")]
            if let (Some(_), true) = (level.bf16(), low.len() == COLS) {
                // SAFETY: the token proves the features; all three are 64 long.
                unsafe { x86::pack_pair(low.as_ptr(), high.as_ptr(), out.as_mut_ptr()) };
                continue;
            }
            pack_pair(level, low, high, out);
        }
    }
}

/// Packs `b` `[n, k]`, rounded already, for n <= 64 and an even k.
pub fn pack_rows(level: CpuLevel, b: &[u16], n: usize, k: usize, out: &mut Vec<u32>) {
    assert!(n <= COLS && k.is_multiple_of(2) && b.len() >= n * k);
    out.clear();
    out.resize(k / 2 * COLS, 0);
    // SAFETY: pairs of numbers are moved as words, whatever they mean; both slices are as long in bytes.
    let (from, to) = unsafe {
        (
            std::slice::from_raw_parts(b.as_ptr().cast::<[u16; 2]>(), n * k / 2),
            std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<[u16; 2]>(), k / 2 * COLS),
        )
    };
    transpose(level, from, n, k / 2, to, COLS);
}

leveled! {
    /// Rounds finite numbers to BF16.
    pub fn round(from: &[f32], to: &mut [u16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = (rounded(from) >> 16) as u16;
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

/// The product with a packed matrix `[k, n]`, for `rows` rows: `x(i)` gives k numbers of row i, its factor, and where its
/// products are added.
///
/// # Safety
/// n elements of each row that `x` names are writable, and nobody else accesses them during the call.
pub unsafe fn accumulate<'a>(
    token: Avx512Bf16,
    packed: &[u32],
    (k, n): (usize, usize),
    x: impl Fn(usize) -> (&'a [u16], f32, *mut f32),
    rows: usize,
) {
    let _ = token;
    let pairs = k.div_ceil(2);
    assert!(packed.len() == pairs * padded(n));
    // A strip of the packed matrix stays in the nearest cache that holds it, for all rows.
    for strip in 0..n.div_ceil(COLS) {
        let columns = (n - strip * COLS).min(COLS);
        let b = packed[strip * pairs * COLS..].as_ptr();
        for first in (0..rows).step_by(ROWS) {
            let row = |i: usize| {
                let (x, factor, out) = x(first + i);
                assert!(x.len() == k);
                Row { x: x.as_ptr(), factor, out: out.wrapping_add(strip * COLS) }
            };
            macro_rules! tile {
                ($($size:literal),*) => {
                    match (rows - first).min(ROWS) {
                        $($size => {
                            let rows: [Row; $size] = std::array::from_fn(row);
                            // SAFETY: the token proves the features; sizes as asserted, and the caller's promise.
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

    /// Rounds 64 numbers of two rows each and packs them. As `rounded`, but numbers below the normal ones become zeros.
    ///
    /// # Safety
    /// 64 numbers each.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn pack_pair(low: *const f32, high: *const f32, out: *mut u32) {
        // Words of 16 bits: those of low are the first half of the pair.
        let order = _mm512_add_epi32(
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
            _mm512_set1_epi32(16 << 16),
        );
        let order = _mm512_or_si512(order, _mm512_slli_epi32::<16>(order));
        for i in (0..COLS).step_by(16) {
            // SAFETY: the caller's promise.
            unsafe {
                let both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(high.add(i)), _mm512_loadu_ps(low.add(i)));
                let words = _mm512_permutexvar_epi16(order, transmute::<__m512bh, __m512i>(both));
                _mm512_storeu_si512(out.add(i).cast(), words);
            }
        }
    }

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
            let c = out.as_mut_ptr();
            // SAFETY: `[rows, n]`.
            unsafe {
                accumulate(token, &packed, (k, n), |i| (&x[i * k..][..k], factors[i], c.wrapping_add(i * n)), rows)
            };
            for i in 0..rows {
                for j in 0..n {
                    let sum: f32 = (0..k).map(|p| number(i * k + p) * number(p * n + j + 5)).sum();
                    assert_eq!(out[i * n + j], 1.0 + factors[i] * sum, "{rows} {k} {n} at {i}, {j}");
                }
            }
        }
    }
}

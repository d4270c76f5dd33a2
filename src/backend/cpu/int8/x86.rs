//! The product with AVX-512 VNNI and with AVX2.
//!
//! A kernel keeps the codes of a group in registers and takes some rows of x over them, whose sums stay in registers for
//! all columns. Operations per row of x, 32 columns and 16 weight rows, VNNI: 8 dot products of 4 (the four numbers of x
//! are broadcast by the load), one conversion, one multiplication of scales, one multiply-add; one more with minimums.
//! On processors where all but the conversion share two ports, that bounds the dot products to 8 / 10 or 8 / 11 of their
//! peak, or 8 / 12 where groups are 16 columns.
//!
//! AVX2 has no such instruction: `maddubs` makes sums of two products in 16 bits, which are added up as far as the largest
//! code allows, and `madd` widens them. Codes of 8 bits could overflow even one such sum; they go through as magnitudes,
//! with their signs given to x.

use super::super::gemm::Rows;
use super::panel::{BLOCK_BYTES, PANEL, Panel};
use super::{Activations, COLS, Which};
use std::arch::x86_64::*;

/// Where a kernel finds a row of x and puts its results.
#[derive(Clone, Copy)]
struct Row {
    q: *const i8,
    scales: *const f32,
    corrections: *const i32,
    out: *mut f32,
}

/// Rows of x that go over the codes together.
const VNNI_ROWS: usize = 8;
const AVX2_ROWS: usize = 4;

fn row(x: &Activations, which: Which, out: Rows<*mut f32>, i: usize) -> Row {
    let r = which.get(i);
    Row {
        q: x.q[r * x.columns..].as_ptr(),
        scales: x.scales[r * x.columns / COLS..].as_ptr(),
        corrections: x.corrections[r * x.columns / x.group..].as_ptr(),
        out: out.at.wrapping_add(i * out.stride),
    }
}

/// Calls `$kernel::<ROWS, $constant ...>(panel, rows, $last)` for groups of rows, ROWS being the size of the group.
macro_rules! row_groups {
    ($kernel:ident, $max:ident, [$($size:literal),*], $constants:tt, $operands:tt, $which:expr, $last:expr) => {{
        let mut i = 0;
        while i < $which.len() {
            let n = ($which.len() - i).min($max);
            match n {
                $($size => row_groups!(@call $kernel, $size, $constants, $operands, $which, i, $last),)*
                _ => unreachable!(),
            }
            i += n;
        }
    }};
    (@call $kernel:ident, $size:literal, [$($constant:literal),*], ($panel:expr, $x:expr, $out:expr), $which:expr,
     $i:ident, $last:expr) => {
        $kernel::<$size, $($constant),*>($panel, std::array::from_fn(|r| row($x, $which, $out, $i + r)), $last)
    };
}

/// # Safety
/// As [`super::tile_product`], on a processor with AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn product_vnni(panel: &Panel, x: &Activations, which: Which, width: usize, out: Rows<*mut f32>) {
    let mask = ((1u32 << width) - 1) as u16;
    macro_rules! run {
        ($groups:literal, $mins:literal) => {
            row_groups!(vnni, VNNI_ROWS, [1, 2, 3, 4, 5, 6, 7, 8], [$groups, $mins], (panel, x, out), which, mask)
        };
    }
    // SAFETY: rows and panel have the same number of columns; the caller's promise.
    unsafe {
        match (panel.group, panel.offset.is_some()) {
            (32, true) => {
                run!(1, false)
            }
            (32, false) => {
                run!(1, true)
            }
            (_, true) => {
                run!(2, false)
            }
            (_, false) => {
                run!(2, true)
            }
        }
    }
}

/// `ROWS` rows of x over the whole panel; `GROUPS` groups in 32 columns.
///
/// # Safety
/// The rows are as long as the panel; 16 columns of their outputs are writable where `mask` says so.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn vnni<const ROWS: usize, const GROUPS: usize, const MINS: bool>(panel: &Panel, rows: [Row; ROWS], mask: u16) {
    let mut sums = [_mm512_setzero_ps(); ROWS];
    let (codes, scales, mins) = (panel.codes.as_ptr(), panel.scales.as_ptr(), panel.mins.as_ptr());
    for block in 0..panel.columns / COLS {
        // SAFETY: this block of the panel and of each row.
        unsafe {
            let codes = codes.add(block * BLOCK_BYTES);
            let w: [__m512i; 8] = std::array::from_fn(|i| _mm512_loadu_si512(codes.add(64 * i).cast()));
            let scale: [__m512; GROUPS] =
                std::array::from_fn(|g| _mm512_loadu_ps(scales.add((block * GROUPS + g) * PANEL)));
            let min: [__m512; GROUPS] =
                std::array::from_fn(|g| _mm512_loadu_ps(mins.add((block * GROUPS + g) * PANEL)));
            for (row, sum) in rows.iter().zip(&mut sums) {
                let q = row.q.add(block * COLS).cast::<i32>();
                let dx = _mm512_set1_ps(*row.scales.add(block));
                for g in 0..GROUPS {
                    let correction = *row.corrections.add(block * GROUPS + g);
                    let mut dot = if MINS { _mm512_setzero_si512() } else { _mm512_set1_epi32(correction) };
                    for (i, &w) in w.iter().enumerate().skip(g * 8 / GROUPS).take(8 / GROUPS) {
                        dot = _mm512_dpbusd_epi32(dot, w, _mm512_set1_epi32(q.add(i).read_unaligned()));
                    }
                    *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(scale[g], dx), *sum);
                    if MINS {
                        *sum = _mm512_fnmadd_ps(min[g], _mm512_set1_ps(f32::from_bits(correction as u32)), *sum);
                    }
                }
            }
        }
    }
    for (row, sum) in rows.iter().zip(sums) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_storeu_ps(row.out, mask, sum) };
    }
}

/// # Safety
/// As [`super::tile_product`], on a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn product_avx2(panel: &Panel, x: &Activations, which: Which, width: usize, out: Rows<*mut f32>) {
    macro_rules! run {
        ($groups:literal, $mins:literal, $adds:literal) => {
            row_groups!(avx2, AVX2_ROWS, [1, 2, 3, 4], [$groups, $mins, $adds], (panel, x, out), which, width)
        };
    }
    // SAFETY: as in product_vnni. How many sums of two products 127 * code fit into 16 bits decides.
    unsafe {
        match (panel.group, panel.offset.is_some(), panel.largest) {
            (32, true, ..=31) => run!(1, false, 4),
            (32, true, ..=63) => run!(1, false, 2),
            (32, true, _) => run!(1, false, 0),
            (32, false, ..=31) => run!(1, true, 4),
            (32, false, _) => run!(1, true, 2),
            (_, true, ..=31) => run!(2, false, 4),
            (_, true, ..=63) => run!(2, false, 2),
            (_, true, _) => run!(2, false, 0),
            (_, false, _) => run!(2, true, 2),
        }
    }
}

/// `ADDS` sums of two products are added in 16 bits; 0: codes have 8 bits and an offset of 128.
///
/// # Safety
/// As [`vnni`], with `width` columns.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const ROWS: usize, const GROUPS: usize, const MINS: bool, const ADDS: usize>(
    panel: &Panel,
    rows: [Row; ROWS],
    width: usize,
) {
    for half in 0..2 {
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for block in 0..panel.columns / COLS {
            // SAFETY: this block of the panel and of each row.
            unsafe {
                let codes = panel.codes.as_ptr().add(block * BLOCK_BYTES + 32 * half);
                let w: [__m256i; 8] = std::array::from_fn(|i| _mm256_loadu_si256(codes.add(64 * i).cast()));
                for (row, sum) in rows.iter().zip(&mut sums) {
                    let q = row.q.add(block * COLS).cast::<i32>();
                    let dx = _mm256_set1_ps(*row.scales.add(block));
                    for g in 0..GROUPS {
                        let at = (block * GROUPS + g) * PANEL + 8 * half;
                        let correction = *row.corrections.add(block * GROUPS + g);
                        let plain = MINS || ADDS == 0;
                        let start = if plain { _mm256_setzero_si256() } else { _mm256_set1_epi32(correction) };
                        let dot = dot_avx2::<GROUPS, ADDS>(&w, q, g, start);
                        let scale = _mm256_mul_ps(_mm256_loadu_ps(panel.scales.as_ptr().add(at)), dx);
                        *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, *sum);
                        if MINS {
                            let min = _mm256_loadu_ps(panel.mins.as_ptr().add(at));
                            *sum = _mm256_fnmadd_ps(min, _mm256_set1_ps(f32::from_bits(correction as u32)), *sum);
                        }
                    }
                }
            }
        }
        for (row, sum) in rows.iter().zip(sums) {
            let mut lanes = [0.0; 8];
            // SAFETY: eight lanes; the columns that there are, by the caller's promise.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), sum);
                let n = width.saturating_sub(8 * half).min(8);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), row.out.wrapping_add(8 * half), n);
            }
        }
    }
}

/// `start` and the dot products of group `g`.
///
/// # Safety
/// 32 numbers at `q` are readable.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_avx2<const GROUPS: usize, const ADDS: usize>(
    w: &[__m256i; 8],
    q: *const i32,
    g: usize,
    start: __m256i,
) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let mut dot = start;
    let each = 8 / GROUPS;
    let adds = ADDS.max(1);
    for part in 0..each / adds {
        let mut sum = _mm256_setzero_si256();
        for (i, &w) in w.iter().enumerate().skip(g * each + part * adds).take(adds) {
            // SAFETY: i < 8.
            let q = unsafe { _mm256_set1_epi32(q.add(i).read_unaligned()) };
            let pairs = if ADDS == 0 {
                let code = _mm256_xor_si256(w, _mm256_set1_epi8(-128)); // code - 128
                _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(q, code))
            } else {
                _mm256_maddubs_epi16(w, q)
            };
            sum = _mm256_add_epi16(sum, pairs);
        }
        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(sum, ones));
    }
    dot
}

/// [`super::panel::arrange`]: 16 rows of 8 units become 8 rows of 16, an 8 x 8 transposition in each half of the registers.
///
/// # Safety
/// Both slices hold `16 * width` codes; the processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub unsafe fn arrange_avx512(rows: &[u8], width: usize, out: &mut [u8]) {
    let first = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let second = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for block in 0..width / COLS {
        // SAFETY: 32 codes of each row, and the block's place in out.
        unsafe {
            let load = |row: usize| _mm256_loadu_si256(rows.as_ptr().add(row * width + block * COLS).cast());
            let r: [__m512i; 8] =
                std::array::from_fn(|i| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(i)), load(i + 8)));
            let a: [__m512i; 4] = std::array::from_fn(|i| _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]));
            let b: [__m512i; 4] = std::array::from_fn(|i| _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]));
            // Units 0, 1, 2, 3 (and 4 more in the other half) of rows 0 .. 3, then of rows 4 .. 7.
            let c = |i: usize| {
                [
                    _mm512_unpacklo_epi64(a[i], a[i + 1]),
                    _mm512_unpackhi_epi64(a[i], a[i + 1]),
                    _mm512_unpacklo_epi64(b[i], b[i + 1]),
                    _mm512_unpackhi_epi64(b[i], b[i + 1]),
                ]
            };
            let (low, high) = (c(0), c(2));
            let out = out.as_mut_ptr().add(block * BLOCK_BYTES);
            for i in 0..4 {
                let store = |at: usize, x: __m512i| _mm512_storeu_si512(out.add(64 * at).cast(), x);
                store(i, _mm512_permutex2var_epi64(low[i], first, high[i]));
                store(i + 4, _mm512_permutex2var_epi64(low[i], second, high[i]));
            }
        }
    }
}

/// The same, eight rows at a time.
///
/// # Safety
/// Both slices hold `16 * width` codes; the processor has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn arrange_avx2(rows: &[u8], width: usize, out: &mut [u8]) {
    for block in 0..width / COLS {
        for half in 0..2 {
            // SAFETY: 32 codes of eight rows, and half of the block's place in out.
            unsafe {
                let from = rows.as_ptr().add(8 * half * width + block * COLS);
                let r: [__m256i; 8] = std::array::from_fn(|i| _mm256_loadu_si256(from.add(i * width).cast()));
                let a: [__m256i; 4] = std::array::from_fn(|i| _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]));
                let b: [__m256i; 4] = std::array::from_fn(|i| _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]));
                let c = |i: usize| {
                    [
                        _mm256_unpacklo_epi64(a[i], a[i + 1]),
                        _mm256_unpackhi_epi64(a[i], a[i + 1]),
                        _mm256_unpacklo_epi64(b[i], b[i + 1]),
                        _mm256_unpackhi_epi64(b[i], b[i + 1]),
                    ]
                };
                let (low, high) = (c(0), c(2));
                let out = out.as_mut_ptr().add(block * BLOCK_BYTES + 32 * half);
                for i in 0..4 {
                    let store = |at: usize, x: __m256i| _mm256_storeu_si256(out.add(64 * at).cast(), x);
                    store(i, _mm256_permute2x128_si256::<0x20>(low[i], high[i]));
                    store(i + 4, _mm256_permute2x128_si256::<0x31>(low[i], high[i]));
                }
            }
        }
    }
}

//! The product with AVX-512 VNNI and with AVX2.
//!
//! VNNI: 32 weight rows (two panels) and up to 4 rows of x, 8 sums that stay in registers for all columns, beside 8
//! dot products. Each step of 4 columns loads two registers of codes and broadcasts 4 words of x for 8 dot products, so
//! that loads are no bottleneck. Operations per row of x, 32 columns and 16 weight rows: 8 dot products of 4 and a
//! multiply-add for each group, with minimums two. These share two ports on the processor that this was measured on
//! (Zen 4), which bounds the dot products to 8 / 9 of their peak, to 8 / 10 with minimums or where groups are 16 columns.
//! The other ports take the conversion and the product of the scales, a load of one of the multiples of the weight's and
//! the addition of dx's exponent.
//!
//! AVX2 has no such instruction: `maddubs` makes sums of two products in 16 bits, which are added up as far as the largest
//! code allows, and `madd` widens them. Codes of 8 bits could overflow even one such sum; they go through as magnitudes,
//! with their signs given to x.

use super::super::ahead::Walk;
use super::super::panels::{PANEL, groups};
use super::activations::FIXED;
use super::panel::Panel;
use super::{COLS, Job};
use crate::quant::panel::{CODE_LINES, Line, STEPS};
use std::arch::x86_64::*;

/// Where a kernel finds a row of x and puts its results.
#[derive(Clone, Copy)]
struct Row {
    x: *const i32,
    out: *mut f32,
}

/// Where a panel's lines are, and the multiples of its scales.
#[derive(Clone, Copy)]
struct Lines {
    records: *const Line,
    steps: *const Line,
}

/// Rows of x that go over the codes together.
const VNNI_ROWS: usize = 4;
const AVX2_ROWS: usize = 4;

/// `$name(x)` is `x`, computed before whatever passes through such a function later. Left alone, the compiler does all dot
/// products of 32 columns first, row by row; they do not fit into registers, and the sums are kept in memory as well.
macro_rules! in_order {
    ($name:ident, $type:ident, $register:ident, $feature:literal) => {
        #[inline]
        #[target_feature(enable = $feature)]
        fn $name(mut x: $type) -> $type {
            // SAFETY: no instruction at all.
            unsafe { std::arch::asm!("/* {0} */", inout($register) x, options(nomem, nostack, preserves_flags)) };
            x
        }
    };
}
in_order!(integers_in_order, __m512i, zmm_reg, "avx512f");
in_order!(floats_in_order, __m512, zmm_reg, "avx512f");
in_order!(in_order, __m256i, ymm_reg, "avx2");

/// Row i of a job whose rows of x have `words` words.
#[inline(always)]
fn row(job: &Job, words: usize, i: usize) -> Row {
    // The caller of the kernels has seen that the row exists.
    let x = job.x.first().wrapping_add(job.rows.get(i) * words);
    Row { x, out: job.out.at.wrapping_add(i * job.out.stride) }
}

/// Calls `$kernel::<ROWS, $constant ...>(panel, rows, walk, $last)` for groups of rows, ROWS being the size of the group.
macro_rules! row_groups {
    ($kernel:ident, $max:ident, [$($size:literal),*], $constants:tt, $panel:expr, $job:expr, $last:expr) => {{
        let (groups, words) = (groups($job.rows.len(), $max), $job.x.row_words());
        let mut walk = Walk::new($job.ahead, $job.x.columns / COLS, groups.len());
        for (i, n) in groups {
            match n {
                $($size => row_groups!(@call $kernel, $size, $constants, $panel, $job, words, i, walk, $last),)*
                _ => unreachable!(),
            }
            walk = walk.next();
        }
    }};
    (@call $kernel:ident, $size:literal, [$($constant:literal),*], $panel:expr, $job:expr, $words:ident, $i:ident,
     $walk:ident, $last:expr) => {
        {
            let mut rows = [Row { x: std::ptr::null(), out: std::ptr::null_mut() }; $size];
            for (r, at) in rows.iter_mut().enumerate() {
                *at = row($job, $words, $i + r);
            }
            $kernel::<$size, $($constant),*>($panel, rows, $walk, $last)
        }
    };
}

/// # Safety
/// As [`super::tile_product`], on a processor with AVX-512 VNNI; one or two panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn product_vnni(panels: &[Panel], job: &Job) {
    let mask = |first: usize| ((1u32 << job.width.saturating_sub(first).min(PANEL)) - 1) as u16;
    macro_rules! run {
        ($panels:literal, $groups:literal, $mins:literal) => {{
            let nowhere = Lines { records: std::ptr::null(), steps: std::ptr::null() };
            let (mut lines, mut masks) = ([nowhere; $panels], [0; $panels]);
            for p in 0..$panels {
                lines[p] = Lines { records: panels[p].lines.as_ptr(), steps: panels[p].steps.as_ptr() };
                masks[p] = mask(p * PANEL);
            }
            row_groups!(vnni, VNNI_ROWS, [1, 2, 3, 4], [$panels, $groups, $mins], lines, job, masks)
        }};
    }
    // SAFETY: rows and panels have the same number of columns and are of one kind; the caller's promise.
    unsafe {
        match (panels.len(), job.x.kind.groups(), job.x.kind.offset.is_none()) {
            (2, 1, false) => run!(2, 1, false),
            (2, 1, true) => run!(2, 1, true),
            (2, _, false) => run!(2, 2, false),
            (2, _, true) => run!(2, 2, true),
            (_, 1, false) => run!(1, 1, false),
            (_, 1, true) => run!(1, 1, true),
            (_, _, false) => run!(1, 2, false),
            (_, _, true) => run!(1, 2, true),
        }
    }
}

/// `ROWS` rows of x over `PANELS` whole panels; `GROUPS` groups in 32 columns.
///
/// # Safety
/// Panels and rows have `walk.blocks` records; 16 columns of the outputs per panel are writable where its mask says so.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn vnni<const ROWS: usize, const PANELS: usize, const GROUPS: usize, const MINS: bool>(
    panels: [Lines; PANELS],
    rows: [Row; ROWS],
    walk: Walk,
    masks: [u16; PANELS],
) {
    let record = CODE_LINES + if MINS { 2 * GROUPS } else { GROUPS };
    let mut sums = [[_mm512_setzero_ps(); PANELS]; ROWS];
    for block in 0..walk.blocks {
        walk.prefetch(block);
        // SAFETY: this record of the panels and of each row.
        unsafe {
            let (mut lines, mut x) = ([std::ptr::null::<Line>(); PANELS], [std::ptr::null(); ROWS]);
            let mut steps = [std::ptr::null::<Line>(); PANELS];
            for p in 0..PANELS {
                lines[p] = panels[p].records.add(block * record);
                steps[p] = panels[p].steps.add(block * GROUPS * STEPS.len());
            }
            for r in 0..ROWS {
                x[r] = rows[r].x.add(block * (FIXED + GROUPS));
            }
            for g in 0..GROUPS {
                let mut dots = [[_mm512_setzero_si512(); PANELS]; ROWS];
                if !MINS {
                    for r in 0..ROWS {
                        dots[r] = [integers_in_order(_mm512_set1_epi32(*x[r].add(FIXED + g))); PANELS];
                    }
                }
                for i in g * 8 / GROUPS..(g + 1) * 8 / GROUPS {
                    let mut w = [_mm512_setzero_si512(); PANELS];
                    for p in 0..PANELS {
                        w[p] = _mm512_load_si512(lines[p].add(i).cast());
                    }
                    for r in 0..ROWS {
                        let q = _mm512_set1_epi32(*x[r].add(i));
                        for p in 0..PANELS {
                            dots[r][p] = integers_in_order(_mm512_dpbusd_epi32(dots[r][p], w[p], q));
                        }
                    }
                }
                for r in 0..ROWS {
                    let dx = x[r].add(COLS / 4);
                    // The bits behind the point choose a line, the exponent is added. Read apart, because a register of the
                    // other kind takes a port of the dot products to become a vector.
                    let step = usize::from(*dx.cast::<u8>().add(2) >> 5) % STEPS.len();
                    let exponent = _mm512_getexp_ps(_mm512_set1_ps(f32::from_bits(*dx as u32)));
                    for p in 0..PANELS {
                        let scale = _mm512_load_ps(steps[p].add(g * STEPS.len() + step).cast());
                        let scale = _mm512_scalef_ps(scale, exponent);
                        sums[r][p] =
                            floats_in_order(_mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][p]), scale, sums[r][p]));
                    }
                }
                if MINS {
                    for p in 0..PANELS {
                        let min = _mm512_load_ps(lines[p].add(CODE_LINES + GROUPS + g).cast());
                        for r in 0..ROWS {
                            let sum = _mm512_set1_ps(f32::from_bits(*x[r].add(FIXED + g) as u32));
                            sums[r][p] = _mm512_fnmadd_ps(min, sum, sums[r][p]);
                        }
                    }
                }
            }
        }
    }
    for (row, sums) in rows.iter().zip(sums) {
        for (p, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_mask_storeu_ps(row.out.wrapping_add(p * PANEL), masks[p], sum) };
        }
    }
}

/// # Safety
/// As [`super::tile_product`], on a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn product_avx2(panel: &Panel, job: &Job) {
    macro_rules! run {
        ($groups:literal, $mins:literal, $adds:literal) => {
            row_groups!(avx2, AVX2_ROWS, [1, 2, 3, 4], [$groups, $mins, $adds], panel, job, job.width)
        };
    }
    // SAFETY: as in product_vnni. How many sums of two products 127 * code fit into 16 bits decides.
    unsafe {
        match (panel.kind.group, panel.kind.offset.is_some(), panel.largest) {
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
    walk: Walk,
    width: usize,
) {
    let record = CODE_LINES + if MINS { 2 * GROUPS } else { GROUPS };
    let ones = _mm256_set1_epi16(1);
    let (each, adds) = (8 / GROUPS, if ADDS == 0 { 1 } else { ADDS });
    for half in 0..2 {
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for block in 0..walk.blocks {
            if half == 0 {
                walk.prefetch(block);
            }
            // SAFETY: this record of the panel and of each row, and the half of its lines.
            unsafe {
                let lines = panel.lines.as_ptr().add(block * record);
                let at = |i: usize| lines.add(i).cast::<u32>().add(8 * half);
                let mut x = [std::ptr::null(); ROWS];
                for r in 0..ROWS {
                    x[r] = rows[r].x.add(block * (FIXED + GROUPS));
                }
                for g in 0..GROUPS {
                    let mut dots = [_mm256_setzero_si256(); ROWS];
                    if !MINS && ADDS != 0 {
                        for r in 0..ROWS {
                            dots[r] = _mm256_set1_epi32(*x[r].add(FIXED + g));
                        }
                    }
                    for part in 0..each / adds {
                        let mut pairs = [_mm256_setzero_si256(); ROWS];
                        for i in 0..adds {
                            let i = g * each + part * adds + i;
                            let w = _mm256_load_si256(at(i).cast());
                            // Only for 8 bits: code - 128, its magnitude, and ones where it is negative.
                            let code = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
                            let magnitude = _mm256_abs_epi8(code);
                            let negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), code);
                            for r in 0..ROWS {
                                let q = _mm256_set1_epi32(*x[r].add(i));
                                let two = if ADDS == 0 {
                                    // `sign_epi8` is one operation instead of two, but shares its ports with the products.
                                    let q = _mm256_sub_epi8(_mm256_xor_si256(q, negative), negative);
                                    _mm256_maddubs_epi16(magnitude, q)
                                } else {
                                    _mm256_maddubs_epi16(w, q)
                                };
                                pairs[r] = in_order(_mm256_add_epi16(pairs[r], two));
                            }
                        }
                        for r in 0..ROWS {
                            dots[r] = in_order(_mm256_add_epi32(dots[r], _mm256_madd_epi16(pairs[r], ones)));
                        }
                    }
                    let scale = _mm256_load_ps(at(CODE_LINES + g).cast());
                    for r in 0..ROWS {
                        let dx = _mm256_set1_ps(f32::from_bits(*x[r].add(COLS / 4) as u32));
                        sums[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r]), _mm256_mul_ps(scale, dx), sums[r]);
                    }
                    if MINS {
                        let min = _mm256_load_ps(at(CODE_LINES + GROUPS + g).cast());
                        for r in 0..ROWS {
                            let sum = _mm256_set1_ps(f32::from_bits(*x[r].add(FIXED + g) as u32));
                            sums[r] = _mm256_fnmadd_ps(min, sum, sums[r]);
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

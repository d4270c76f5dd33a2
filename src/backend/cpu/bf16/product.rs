//! `out = x * weight^T` in BF16, for weights of 16-bit floats: x and, where they have more bits, the weights are rounded to
//! BF16 (2^-8 of each number at most), products are added in f32.
//!
//! 32 weight rows (two panels) are put in order, once for all rows of x (`quant/pairs.rs`). A tile is these and up to 8 rows of
//! x: 16 sums stay in registers for all columns, and each pair of columns loads two registers of weights and broadcasts
//! 8 words of x for 16 dot products.
//!
//! Each element of out is one chain of dot products of two, over the columns in ascending order from zero, however rows and
//! threads are cut.

#[cfg(target_arch = "x86_64")]
use super::super::ahead::Walk;
use super::super::gemm::Rows;
use super::super::matmul::RowRange;
use super::super::panels::{self, PANEL, Which, by_pairs};
use super::super::parallel::{Shared, rows_mut};
use crate::backend::host_weight::zeroed;
use crate::cpu_level::{Avx512Bf16, CpuLevel};
use crate::error::Result;
use crate::quant::pairs::UnpackPairs;
use crate::quant::panel::Line;
use std::cell::RefCell;

/// Rows of x in BF16, `[rows, columns]`, with a zero behind an odd number of columns.
pub struct Rounded {
    numbers: Vec<u16>,
    rows: usize,
    columns: usize,
}

impl Rounded {
    /// Zeros.
    pub fn empty(rows: usize, columns: usize) -> Result<Rounded> {
        let numbers = zeroed(rows * columns.next_multiple_of(2), "activations in BF16")?;
        Ok(Rounded { numbers, rows, columns })
    }

    /// Rounds `x` `[rows, columns]`.
    pub fn new(level: CpuLevel, x: &[f32], rows: usize, columns: usize) -> Result<Rounded> {
        assert!(x.len() >= rows * columns);
        let mut new = Self::empty(rows, columns)?;
        let stride = new.stride();
        rows_mut(&mut new.numbers, stride, 1, |i, to| {
            super::round(level, &x[i * columns..][..columns], &mut to[..columns]);
        });
        Ok(new)
    }

    /// Numbers from one row to the next.
    pub fn stride(&self) -> usize {
        self.columns.next_multiple_of(2)
    }

    /// Where tasks write numbers of their own: row r, column j at `r * stride() + j`.
    pub fn shared(&mut self) -> Shared<u16> {
        Shared::new(&mut self.numbers)
    }
}

thread_local! {
    static PANELS: RefCell<[Vec<Line>; 2]> = RefCell::default();
}

type Job<'a> = panels::Job<'a, Rounded>;

/// The product of some rows of x with the weight rows of `range`, which `unpack` puts in order.
///
/// # Safety
/// `rows.len()` rows of `range.n` elements at `out` are writable by this task alone.
pub unsafe fn tile_product(
    token: Avx512Bf16,
    unpack: UnpackPairs,
    range: RowRange,
    x: &Rounded,
    rows: Which,
    out: Rows<*mut f32>,
) {
    let columns = range.weight.cols;
    assert!(x.columns == columns && (0..rows.len()).all(|i| rows.get(i) < x.rows));
    let fill = |panel: &mut Vec<Line>, part: RowRange| {
        panel.resize(columns.div_ceil(2), Line::default());
        unpack(token, range.weight.stored_rows(part.first, part.n), part.n, panel);
    };
    let product = |panels: &[Vec<Line>], job: &Job| {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the job's out is a part of out, writable by the caller's promise; panels and rows of x have as many columns,
        // and the token proves the features.
        unsafe {
            x86::product(panels, job);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (panels, job);
    };
    PANELS.with_borrow_mut(|panels| by_pairs(panels, range, (x, rows), out, fill, product));
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::super::panels::groups;
    use super::{Job, Line, PANEL, Walk};
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// Rows of x that go over the panels together.
    const ROWS: usize = 8;
    /// Pairs of a step of the walk.
    const STEP: usize = 16;

    /// A row of x, and where its products go.
    #[derive(Clone, Copy)]
    struct Row {
        x: *const u16,
        out: *mut f32,
    }

    /// # Safety
    /// As [`super::tile_product`]; one or two panels, of as many columns as the job's x.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn product(panels: &[Vec<Line>], job: &Job) {
        // SAFETY: the caller's promise.
        unsafe {
            match panels {
                [one] => all_rows([one.as_ptr()], job),
                [one, two] => all_rows([one.as_ptr(), two.as_ptr()], job),
                _ => unreachable!(),
            }
        }
    }

    /// All rows, group by group.
    ///
    /// # Safety
    /// As [`product`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn all_rows<const PANELS: usize>(panels: [*const Line; PANELS], job: &Job) {
        let columns = job.x.columns;
        let masks = std::array::from_fn(|p| ((1u32 << job.width.saturating_sub(p * PANEL).min(PANEL)) - 1) as u16);
        let row = |i: usize| Row {
            x: job.x.numbers[job.rows.get(i) * job.x.stride()..].as_ptr(),
            out: job.out.at.wrapping_add(i * job.out.stride),
        };
        let groups = groups(job.rows.len(), ROWS);
        let mut walk = Walk::new(job.ahead, columns.div_ceil(2 * STEP), groups.len());
        for (first, n) in groups {
            macro_rules! run {
                ($($size:literal),*) => {
                    match n {
                        // SAFETY: the caller's promise.
                        $($size => unsafe {
                            tile::<$size, PANELS>(panels, std::array::from_fn(|r| row(first + r)), columns, walk, masks)
                        },)*
                        _ => unreachable!(),
                    }
                };
            }
            run!(1, 2, 3, 4, 5, 6, 7, 8);
            walk = walk.next();
        }
    }

    /// # Safety
    /// Panels and rows have `columns` columns, an even number of them in memory; 16 columns of the outputs per panel are
    /// writable where its mask says so.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile<const ROWS: usize, const PANELS: usize>(
        panels: [*const Line; PANELS],
        rows: [Row; ROWS],
        columns: usize,
        walk: Walk,
        masks: [u16; PANELS],
    ) {
        let pairs = columns.div_ceil(2);
        let mut sums = [[_mm512_setzero_ps(); PANELS]; ROWS];
        for step in 0..walk.blocks {
            walk.prefetch(step);
            for pair in step * STEP..pairs.min((step + 1) * STEP) {
                // SAFETY: this pair of the panels and of each row; any 64 bytes are BF16 numbers.
                unsafe {
                    let w: [__m512bh; PANELS] =
                        std::array::from_fn(|p| transmute(_mm512_load_si512(panels[p].add(pair).cast())));
                    for r in 0..ROWS {
                        let x = _mm512_set1_epi32(rows[r].x.add(2 * pair).cast::<i32>().read_unaligned());
                        let x = transmute::<__m512i, __m512bh>(x);
                        for p in 0..PANELS {
                            sums[r][p] = _mm512_dpbf16_ps(sums[r][p], x, w[p]);
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
}

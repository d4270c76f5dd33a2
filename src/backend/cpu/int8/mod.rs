//! Products in integers: `out = x * weight^T` with quantized weights, x rounded to 8 bits.
//!
//! A canvas pass is bound by arithmetic on a processor, and 8-bit dot products run at four times the speed of f32 ones.
//! The formats of quantized weights are small unsigned codes under scales already ([`Codes`]); so
//!
//! ```text
//! x[t, j]  ~ dx[t, b] * q[t, j]                        b = j / 32: q in -127..=127, dx >= max |x| / 127
//! w[r, j]  = s[r, g] * (u[r, j] - offset)              g = j / group: formats with an offset, or
//!          = s[r, g] * u[r, j] - m[r, g]               formats with minimums
//!
//! sum over j of x w = sum over g of dx s (dot(q, u) - offset sum(q))           the bracket is an exact integer
//!                  or sum over g of dx s dot(q, u) - dx sum(q) m
//! ```
//!
//! The dot products of a group are exact; each group then costs one conversion and one or two multiply-adds, in
//! ascending order of g for every element of out, however rows and threads are cut. The only error is the rounding of x:
//! at most dx / 2 per element.
//!
//! dx is the next larger of 1, 1.25, 1.5 and 1.75 times a power of two, so that a kernel can have dx s for one load: a
//! panel holds four multiples of each scale, and exponents are added on ports that dot products leave free, where
//! multiplications would take theirs. That makes dx up to 1.25 times, and the mean square error of x 1.2 times, what it would be
//! otherwise.
//!
//! - `activations.rs`: x in 8 bits, and what the brackets need of it
//! - `panel.rs`: 16 weight rows unpacked, once for all rows of x, in the order in which the kernels read them
//! - `scalar.rs`, `x86.rs`: the kernels, one per instruction set, for any format

mod activations;
mod panel;
pub mod peak;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::{Activations, Kind, round};

use super::ahead::Ahead;
use super::gemm::Rows;
use super::matmul::RowRange;
use super::panels::{self, PANEL, Which, by_pairs};
use crate::cpu_level::CpuLevel;
use crate::quant::Codes;
use panel::Panel;
use std::cell::RefCell;

/// Columns that share a scale of x.
pub const COLS: usize = 32;

type Job<'a> = panels::Job<'a, Activations>;

thread_local! {
    static PANELS: RefCell<[Panel; 2]> = RefCell::default();
}

/// The product of some rows of x with the weight rows of `range`. `x` was made for the weight's codes.
///
/// # Safety
/// `rows.len()` rows of `range.n` elements at `out` are writable by this task alone.
pub unsafe fn tile_product(
    level: CpuLevel,
    codes: &Codes,
    range: RowRange,
    x: &Activations,
    rows: Which,
    out: Rows<*mut f32>,
) {
    PANELS.with_borrow_mut(|panels| {
        let fill = |panel: &mut Panel, range: RowRange| panel.fill(level, codes, &range);
        // SAFETY: the job's out is a part of out, writable by the caller's promise.
        by_pairs(panels, range, (x, rows), out, fill, |panels, job| unsafe { product(level, panels, job) });
    });
}

/// # Safety
/// As [`tile_product`], with the job's out.
unsafe fn product(level: CpuLevel, panels: &[Panel], job: &Job) {
    assert!(panels.iter().all(|panel| panel.columns == job.x.columns && panel.kind == job.x.kind));
    assert!((0..job.rows.len()).all(|i| job.rows.get(i) < job.x.rows));
    #[cfg(target_arch = "x86_64")]
    if let CpuLevel::Avx512Vnni(_) = level {
        // SAFETY: the caller's promise; the sizes of x and of the panels agree, and the token proves the features.
        return unsafe { x86::product_vnni(panels, job) };
    }
    for (i, panel) in panels.iter().enumerate() {
        let (first, width) = (i * PANEL, (job.width - i * PANEL).min(PANEL));
        let bytes = job.ahead.bytes / panels.len();
        let ahead = Ahead { at: job.ahead.at.wrapping_add(i * bytes), bytes };
        // SAFETY: the caller's promise; the sizes of x and of the panel agree.
        unsafe {
            let job = Job { width, out: Rows { at: job.out.at.add(first), ..job.out }, ahead, ..*job };
            match level {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx2(_) | CpuLevel::Avx512(_) => x86::product_avx2(panel, &job),
                _ => scalar::product(panel, &job),
            }
        }
    }
}

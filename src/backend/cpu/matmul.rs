//! `out = x * weight^T`. A tile of the weight is decoded and put in order once and then used for all rows of x: in integers
//! where the weight has them (`int8/mod.rs`), else in f32, which is what follows here.
//!
//! Tiles: 64 weight rows x 256 columns. 256 is the longest block of any format; 64 x 256 x 4 bytes, twice (decoded and
//! transposed), fit beside a slice of x in a 512 KiB L2.

use super::gemm::{Rows, gemm, transpose};
use super::int8::{self, Activations, Kind, Which};
use super::parallel::{Shared, parallel};
use crate::backend::host_weight::HostWeight;
use crate::cpu_level::CpuLevel;
use crate::error::Result;
use crate::quant::Codes;
use std::cell::RefCell;

/// Weight rows of a tile.
pub const TILE_ROWS: usize = 64;
/// Weight columns of a tile; a multiple of every format's block.
pub const TILE_COLS: usize = 256;

thread_local! {
    /// A decoded tile, and the same transposed.
    static TILE: RefCell<(Vec<f32>, Vec<f32>)> =
        RefCell::new((vec![0.0; TILE_ROWS * TILE_COLS], vec![0.0; TILE_ROWS * TILE_COLS]));
}

/// A run of weight rows in a stack: `first..first + n`.
#[derive(Clone, Copy)]
pub struct RowRange<'a> {
    pub weight: &'a HostWeight,
    pub first: usize,
    pub n: usize,
    /// The row that will probably be read next, and of which weight.
    pub next: (&'a HostWeight, usize),
}

impl<'a> RowRange<'a> {
    /// Rows `first..first + n`, and those that follow them next.
    pub fn new(weight: &'a HostWeight, first: usize, n: usize) -> Self {
        RowRange { weight, first, n, next: (weight, first + n) }
    }
}

/// Rows of x on their way into products with one weight.
pub enum Operand<'a> {
    /// As they are, `[rows, cols]`.
    Floats(&'a [f32]),
    /// In 8 bits, for a weight with such codes.
    Integers(Activations, &'static Codes),
}

impl<'a> Operand<'a> {
    /// What products in integers with `weight` need; `None` where they are in floats.
    pub fn kind(weight: &HostWeight) -> Option<Kind> {
        weight.codes.map(Kind::of)
    }

    /// What products with `weight` take; x `[rows, cols]`.
    pub fn new(level: CpuLevel, weight: &HostWeight, x: &'a [f32], rows: usize) -> Result<Self> {
        let x = &x[..rows * weight.cols];
        Ok(match weight.codes {
            Some(codes) => Operand::Integers(Activations::new(level, Kind::of(codes), x, rows, weight.cols)?, codes),
            None => Operand::Floats(x),
        })
    }
}

/// `out[rows, n] = x[rows, cols] * range^T`, shared between the pool's threads.
pub fn matmul(level: CpuLevel, range: RowRange, x: &[f32], rows: usize, out: &mut [f32]) -> Result<()> {
    let x = Operand::new(level, range.weight, x, rows)?;
    let (cols, n) = (range.weight.cols, range.n);
    assert!(out.len() >= rows * n);
    let shared = Shared::new(out);
    parallel(n.div_ceil(TILE_ROWS), rows * n * cols, |task| {
        let j = task * TILE_ROWS;
        let part = RowRange::new(range.weight, range.first + j, (n - j).min(TILE_ROWS));
        // SAFETY: columns j..j + part.n of out belong to this task alone.
        unsafe { tile_product(level, part, &x, Which::From(0, rows), Rows { at: shared.at(j), stride: n }) };
    });
    Ok(())
}

/// The product of some rows of x with at most [`TILE_ROWS`] weight rows. Rows of floats must follow each other.
///
/// # Safety
/// `rows.len()` rows of `range.n` elements at `out` are writable by this task alone.
pub unsafe fn tile_product(level: CpuLevel, range: RowRange, x: &Operand, rows: Which, out: Rows<*mut f32>) {
    match (x, rows) {
        // SAFETY: the caller's promise.
        (Operand::Integers(x, codes), _) => unsafe { int8::tile_product(level, codes, range, x, rows, out) },
        (Operand::Floats(x), Which::From(first, n)) => {
            let x = &x[first * range.weight.cols..][..n * range.weight.cols];
            // SAFETY: the caller's promise.
            unsafe { tile_product_f32(level, range, x, n, out) }
        }
        (Operand::Floats(_), Which::These(_)) => unreachable!("rows of floats are gathered first"),
    }
}

/// # Safety
/// As [`tile_product`]; x holds `rows * cols` elements.
unsafe fn tile_product_f32(level: CpuLevel, range: RowRange, x: &[f32], rows: usize, out: Rows<*mut f32>) {
    let cols = range.weight.cols;
    TILE.with_borrow_mut(|(tile, panel)| {
        for col in (0..cols).step_by(TILE_COLS) {
            let width = (cols - col).min(TILE_COLS);
            for (i, row) in tile.chunks_exact_mut(width).take(range.n).enumerate() {
                range.weight.decode(range.first + i, col, row);
            }
            transpose(level, tile, range.n, width, panel, TILE_ROWS);
            let a = Rows { at: x[col..].as_ptr(), stride: cols };
            let b = Rows { at: panel.as_ptr(), stride: TILE_ROWS };
            // SAFETY: x has `rows` rows of `cols` and the panel `width` rows of TILE_ROWS; out by the caller's promise.
            unsafe { gemm(level, (rows, range.n, width), a, b, out, col > 0) };
        }
    });
}

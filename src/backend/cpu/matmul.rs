//! `out = x * weight^T`. A tile of the weight is decoded and put in order once and then used for all rows of x: in integers
//! where the weight has them (`int8/mod.rs`), in BF16 where it has 16-bit floats and the processor multiplies such numbers
//! (`bf16/product.rs`), else in f32, which is what follows here.
//!
//! Tiles: 64 weight rows x 256 columns. 256 is the longest block of any format; 64 x 256 x 4 bytes, twice (decoded and
//! transposed), fit beside a slice of x in a 512 KiB L2.

use super::bf16::{self, Rounded};
use super::gemm::{Rows, gemm, transpose};
use super::int8::{self, Activations, COLS, Kind};
use super::panels::Which;
use super::parallel::{Shared, parallel};
use crate::backend::host_weight::HostWeight;
use crate::cpu_level::{Avx512Bf16, CpuLevel};
use crate::error::Result;
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

/// What products with a weight take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Floats,
    /// BF16 numbers, for a weight of 16-bit floats.
    Pairs(Avx512Bf16),
    /// 8 bits, for a weight with such codes.
    Integers(Kind),
}

impl Form {
    /// Of products with `weight`.
    pub fn of(level: CpuLevel, weight: &HostWeight) -> Form {
        match (weight.codes, weight.pairs.and(level.bf16())) {
            (Some(codes), _) => Form::Integers(Kind::of(codes)),
            (None, Some(token)) => Form::Pairs(token),
            (None, None) => Form::Floats,
        }
    }
}

/// Rows of x on their way into products with weights of one form.
pub enum Operand<'a> {
    /// As they are, `[rows, cols]`.
    Floats(&'a [f32]),
    Pairs(Rounded, Avx512Bf16),
    Integers(Activations),
}

impl<'a> Operand<'a> {
    /// What products with `weight` take; x `[rows, cols]`.
    pub fn new(level: CpuLevel, weight: &HostWeight, x: &'a [f32], rows: usize) -> Result<Self> {
        let (x, cols) = (&x[..rows * weight.cols], weight.cols);
        Ok(match Form::of(level, weight) {
            Form::Floats => Operand::Floats(x),
            Form::Pairs(token) => Operand::Pairs(Rounded::new(level, x, rows, cols)?, token),
            Form::Integers(kind) => Operand::Integers(Activations::new(level, kind, x, rows, cols)?),
        })
    }

    /// The same for rows that come later, part by part; `None` where they are taken as they are.
    pub fn empty(level: CpuLevel, weight: &HostWeight, rows: usize) -> Result<Option<Operand<'static>>> {
        Ok(match Form::of(level, weight) {
            Form::Floats => None,
            Form::Pairs(token) => Some(Operand::Pairs(Rounded::empty(rows, weight.cols)?, token)),
            Form::Integers(kind) => Some(Operand::Integers(Activations::empty(kind, rows, weight.cols)?)),
        })
    }

    /// Where the parts go.
    pub fn parts(&mut self) -> Parts {
        match self {
            Operand::Floats(_) => unreachable!("floats are taken as they are"),
            Operand::Pairs(x, _) => Parts::Pairs(x.stride(), x.shared()),
            Operand::Integers(x) => Parts::Integers(x.kind, x.row_words(), x.shared()),
        }
    }
}

/// Rows of an operand that tasks round, each a part of its own.
#[derive(Clone, Copy)]
pub enum Parts {
    /// Numbers from one row to the next, and the first.
    Pairs(usize, Shared<u16>),
    /// Words of a row, and the first.
    Integers(Kind, usize, Shared<i32>),
}

impl Parts {
    /// Columns `col..col + x.len()` of a row; in 8 bits, both a multiple of 32.
    ///
    /// # Safety
    /// They belong to this task alone.
    pub unsafe fn put(self, level: CpuLevel, row: usize, col: usize, x: &[f32]) {
        match self {
            // SAFETY: the caller's promise.
            Parts::Pairs(stride, to) => unsafe {
                bf16::round(level, x, std::slice::from_raw_parts_mut(to.at(row * stride + col), x.len()));
            },
            // SAFETY: the caller's promise; each 32 columns are a record.
            Parts::Integers(kind, row_words, to) => unsafe {
                let (at, words) = (row * row_words + col / COLS * kind.record(), x.len() / COLS * kind.record());
                int8::round(level, x, kind, std::slice::from_raw_parts_mut(to.at(at), words));
            },
        }
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
    let weight = range.weight;
    // SAFETY: the caller's promise.
    unsafe {
        match (x, rows, weight.codes, weight.pairs) {
            (Operand::Integers(x), _, Some(codes), _) => int8::tile_product(level, codes, range, x, rows, out),
            (Operand::Pairs(x, token), _, _, Some(unpack)) => bf16::tile_product(*token, unpack, range, x, rows, out),
            (Operand::Floats(x), Which::From(first, n), ..) => {
                tile_product_f32(level, range, &x[first * weight.cols..][..n * weight.cols], n, out);
            }
            (Operand::Floats(_), Which::These(_), ..) => unreachable!("rows of floats are gathered first"),
            _ => unreachable!("x was made for weights of another form"),
        }
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

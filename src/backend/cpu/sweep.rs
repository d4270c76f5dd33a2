//! One sweep over the vocabulary, tile by tile, each tile by one task on its own:
//!
//! ```text
//! logits l = (softcap(x E^T) + bias) / T
//! per row: maximum m of the tile, argmax; sums of exp(l - m) and of exp(l - m) (l - m); the sum of each run of 64 tokens
//! exp(l - m) itself, where the soft embedding will need it
//! ```
//!
//! No tile waits for another, and [`Sweep::row`] folds their sums in ascending order.

use super::gemm::Rows;
use super::int8::Which;
use super::math;
use super::matmul::{Operand, RowRange, TILE_ROWS, tile_product};
use super::parallel::{Shared, parallel};
use crate::backend::HeadParams;
use crate::backend::host_weight::{HostWeight, zeroed};
use crate::cpu_level::{CpuLevel, leveled};
use crate::error::{Error, Result};
use crate::quant::bf16;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tokens of a tile.
pub const TILE: usize = 512;
/// Tokens of a run; the width of a weight tile, so that a run is recomputed by one tile product.
pub const RUN: usize = TILE_ROWS;
/// The tempered logit of a banned token: its exponential is 0 beside any other. Finite, so that sums of a tile in which
/// every token is banned stay numbers; such a tile weighs nothing beside others.
pub const NEVER: f32 = -1e38;

/// What a tile leaves behind for a row. Exponentials are relative to `max`.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    pub max: f32,
    sum: f32,
    weighted: f32,
    argmax: u32,
}

/// A row over all tiles. `sum` and `weighted` are relative to `max`.
pub struct Row {
    pub max: f32,
    pub sum: f64,
    pub weighted: f64,
    pub argmax: u32,
}

/// How exponentials are kept: in 16 bits, or exactly.
pub trait Kept: Copy + Default + Send + Sync + 'static {
    fn pack(level: CpuLevel, from: &[f32], to: &mut [Self]);
    fn get(self) -> f32;
    /// `x`, where it is in BF16.
    fn as_bf16(_x: &[Self]) -> Option<&[u16]> {
        None
    }
}

impl Kept for f32 {
    fn pack(_: CpuLevel, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }
}

/// BF16: relative error up to 2^-9.
impl Kept for u16 {
    fn pack(level: CpuLevel, from: &[f32], to: &mut [u16]) {
        pack_bf16(level, from, to);
    }
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
    fn as_bf16(x: &[u16]) -> Option<&[u16]> {
        Some(x)
    }
}

leveled! {
    fn pack_bf16(from: &[f32], to: &mut [u16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = bf16::from_f32(from);
        }
    }
}

/// Everything a sweep over `rows` rows keeps.
pub struct Sweep<K> {
    pub rows: usize,
    pub vocab: usize,
    /// `[rows, tiles]`.
    marks: Vec<Mark>,
    /// `[rows, runs]`: sums of the runs.
    runs: Vec<f32>,
    /// `[rows, stride]`: exponentials; none where nobody needs them.
    kept: Vec<K>,
    stride: usize,
}

thread_local! {
    static LOGITS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl<K: Kept> Sweep<K> {
    /// Memory for up to `rows` rows; `keep` the exponentials.
    pub fn new(rows: usize, vocab: usize, keep: bool) -> Result<Self> {
        // Rows that are a power of two apart would share cache sets.
        let stride = if keep { vocab.next_multiple_of(TILE) + 32 } else { 0 };
        let mut kept = Vec::new();
        let bytes = rows * stride * size_of::<K>();
        kept.try_reserve_exact(rows * stride).map_err(|_| Error::OutOfMemory { bytes, what: "probabilities" })?;
        kept.resize(rows * stride, K::default());
        Ok(Sweep {
            rows,
            vocab,
            marks: vec![Mark::default(); rows * vocab.div_ceil(TILE)],
            runs: zeroed(rows * vocab.div_ceil(RUN), "sums of the draw")?,
            kept,
            stride,
        })
    }

    /// Sweeps over `rows` rows. `fill` makes the logits of a range of tokens, `[rows, TILE]`, of which a row of multiply-adds
    /// costs `cost`; `visit` sees them before they become exponentials.
    pub fn run(
        &mut self,
        level: CpuLevel,
        rows: usize,
        cost: usize,
        cancel: &AtomicBool,
        fill: impl Fn(Range<usize>, &mut [f32]) + Sync + Send,
        visit: impl Fn(Range<usize>, &[f32]) + Sync + Send,
    ) -> Result<()> {
        self.rows = rows;
        let (vocab, tiles, runs) = (self.vocab, self.tiles(), self.vocab.div_ceil(RUN));
        let (marks, run_sums, kept) =
            (Shared::new(&mut self.marks), Shared::new(&mut self.runs), Shared::new(&mut self.kept));
        let (stride, keep) = (self.stride, self.stride > 0);
        parallel(tiles, rows * vocab * cost, |tile| {
            if cancel.load(Ordering::Relaxed) {
                return;
            }
            let range = tile * TILE..vocab.min((tile + 1) * TILE);
            LOGITS.with_borrow_mut(|logits| {
                logits.resize(logits.len().max(rows * TILE), 0.0);
                let logits = &mut logits[..rows * TILE];
                fill(range.clone(), logits);
                visit(range.clone(), logits);
                for (row, logits) in logits.chunks_exact_mut(TILE).enumerate() {
                    let logits = &mut logits[..range.len()];
                    // SAFETY: what this tile leaves for this row belongs to this task alone.
                    unsafe {
                        let sums = std::slice::from_raw_parts_mut(
                            run_sums.at(row * runs + range.start / RUN),
                            range.len().div_ceil(RUN),
                        );
                        *marks.at(row * tiles + tile) = mark(level, range.start, logits, sums);
                        if keep {
                            let to = kept.at(row * stride + range.start);
                            K::pack(level, logits, std::slice::from_raw_parts_mut(to, range.len()));
                        }
                    }
                }
            });
        });
        if cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub fn tiles(&self) -> usize {
        self.vocab.div_ceil(TILE)
    }

    pub fn marks(&self, row: usize) -> &[Mark] {
        &self.marks[row * self.tiles()..][..self.tiles()]
    }

    /// The sums of a row's runs, each relative to the maximum of its tile.
    pub fn runs(&self, row: usize) -> &[f32] {
        let runs = self.vocab.div_ceil(RUN);
        &self.runs[row * runs..][..runs]
    }

    /// A row's exponentials, each relative to the maximum of its tile.
    pub fn kept(&self, row: usize) -> &[K] {
        &self.kept[row * self.stride..][..self.vocab]
    }

    /// The statistics of a row.
    pub fn row(&self, row: usize) -> Row {
        let marks = self.marks(row);
        let best = marks.iter().fold(&marks[0], |best, mark| if mark.max > best.max { mark } else { best });
        let (mut sum, mut weighted) = (0.0, 0.0);
        for mark in marks {
            let shift = f64::from(mark.max - best.max);
            let factor = shift.exp();
            sum += factor * f64::from(mark.sum);
            if factor > 0.0 {
                weighted += factor * (f64::from(mark.weighted) + shift * f64::from(mark.sum));
            }
        }
        Row { max: best.max, sum, weighted, argmax: best.argmax }
    }
}

/// Makes exponentials of a row's logits of tokens `first..`.
fn mark(level: CpuLevel, first: usize, logits: &mut [f32], run_sums: &mut [f32]) -> Mark {
    let max = math::max(level, logits);
    let argmax = (first + logits.iter().position(|&l| l == max).unwrap_or(0)) as u32;
    let mut mark = Mark { max, sum: 0.0, weighted: 0.0, argmax };
    for (run, sum) in logits.chunks_mut(RUN).zip(run_sums) {
        let weighted;
        (*sum, weighted) = math::exp_sums(level, run, max);
        mark.sum += *sum;
        mark.weighted += weighted;
    }
    mark
}

/// `out[rows, TILE]` = tempered logits of tokens `range`, for the rows of `which`.
pub fn tile_logits(
    level: CpuLevel,
    table: &HostWeight,
    x: &Operand,
    which: Range<usize>,
    range: Range<usize>,
    params: &HeadParams,
    out: &mut [f32],
) {
    assert!(out.len() >= which.len() * TILE);
    for j in (0..range.len()).step_by(RUN) {
        let part = RowRange::new(table, range.start + j, (range.len() - j).min(RUN));
        // SAFETY: columns j..j + part.n of out, as asserted.
        unsafe {
            let out = Rows { at: out.as_mut_ptr().add(j), stride: TILE };
            tile_product(level, part, x, Which::From(which.start, which.len()), out);
        }
    }
    for row in out.chunks_exact_mut(TILE).take(which.len()) {
        temper(level, &mut row[..range.len()], range.start, params);
    }
}

/// Soft cap, temperature and bias for the logits of tokens `first..`.
pub fn temper(level: CpuLevel, logits: &mut [f32], first: usize, params: &HeadParams) {
    if let Some(cap) = params.softcap {
        math::softcap(level, logits, cap);
    }
    math::scale(level, logits, 1.0 / params.temperature);
    let from = params.bias.partition_point(|&(token, _)| (token as usize) < first);
    let end = first + logits.len();
    for &(token, bias) in params.bias[from..].iter().take_while(|&&(token, _)| (token as usize) < end) {
        let l = &mut logits[token as usize - first];
        *l = if bias == f32::NEG_INFINITY { NEVER } else { *l + bias / params.temperature };
    }
}

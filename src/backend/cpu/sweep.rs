//! One sweep over the vocabulary, segment by segment, for all rows at once:
//!
//! ```text
//! by 32 tokens            logits l = (softcap(x E^T) + bias) / T
//! by rows                 maximum m so far, argmax; sums of exp(l - m) and of exp(l - m) (l - m); the sum of each run
//! by columns              what the caller makes of exp(l - m): the soft embedding
//! ```
//!
//! A row's sums go through the segments in ascending order, and change with m, and are kept for each run of 64 tokens; threads
//! share tokens, then rows, then columns.
//! So memory is that of a segment, each weight is unpacked once, and no result depends on threads.

use super::gemm::Rows;
use super::math;
use super::matmul::{Operand, RowRange, TILE_ROWS, tile_product};
use super::panels::{PANEL, Which};
use super::parallel::{Shared, parallel};
use crate::backend::HeadParams;
use crate::backend::host_weight::{HostWeight, zeroed};
use crate::cpu_level::CpuLevel;
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tokens of a segment: enough to share between many threads; the exponentials of 256 rows are 1 MB.
pub const SEGMENT: usize = 1024;
/// Tokens of a run; the width of a weight tile, so that a run is computed again by one tile product.
pub const RUN: usize = TILE_ROWS;
/// Tokens of a task: as many as kernels take together. The larger, the longer threads wait for the last one of a segment.
const TASK: usize = 2 * PANEL;
/// The tempered logit of a banned token: its exponential is 0 beside any other. Finite, so that sums of a segment in which
/// every token is banned stay numbers; such a segment weighs nothing beside others.
pub const NEVER: f32 = -1e38;

/// From one row of logits to the next: rows that are a power of two apart would share cache sets.
pub const STRIDE: usize = SEGMENT + 16;

/// A row over the tokens so far. Sums are relative to `max`.
#[derive(Clone, Copy)]
pub struct Row {
    /// No logit so far is larger.
    pub max: f32,
    pub sum: f64,
    pub weighted: f64,
    /// What `sum` will be in the end, at least, as far as is known from the start.
    least: f64,
    /// The largest logit, and where it is.
    best: f32,
    pub argmax: u32,
}

impl Row {
    const NONE: Row = Row { max: f32::MIN, sum: 0.0, weighted: 0.0, least: 0.0, best: f32::MIN, argmax: 0 };

    /// A row in which some token has this logit.
    pub fn with(logit: f32) -> Row {
        Row { max: logit, least: 1.0, ..Row::NONE }
    }

    /// A lower bound of the sum over all tokens.
    pub fn bound(&self) -> f64 {
        self.sum.max(self.least)
    }

    /// Makes sums relative to a larger maximum; what they are multiplied with.
    fn raise(&mut self, max: f32) -> f64 {
        if max <= self.max {
            return 1.0;
        }
        let shift = f64::from(self.max) - f64::from(max);
        let factor = shift.exp();
        self.weighted = if factor > 0.0 { factor * (self.weighted + shift * self.sum) } else { 0.0 };
        self.sum *= factor;
        self.least *= factor;
        self.max = max;
        factor
    }

    /// Adds a segment's logits, which become exponentials; the sums of its runs, and what older sums were multiplied with.
    fn add(&mut self, level: CpuLevel, first: usize, logits: &mut [f32], run_sums: &mut [f32]) -> f64 {
        let largest = math::max(level, logits);
        if largest > self.best {
            self.best = largest;
            self.argmax = (first + logits.iter().position(|&l| l == largest).unwrap_or(0)) as u32;
        }
        let factor = self.raise(largest);
        for (run, run_sum) in logits.chunks_mut(RUN).zip(run_sums) {
            let (sum, weighted) = math::exp_sums(level, run, self.max);
            *run_sum = sum;
            self.sum += f64::from(sum);
            self.weighted += f64::from(weighted);
        }
        factor
    }
}

/// Who makes something of a sweep. Nothing has to.
pub trait Visitor: Sync {
    /// Logits of tokens `range`, at most a run, for all rows. From many threads.
    fn run(&self, _range: Range<usize>, _logits: Rows<*const f32>) {}
    /// A row has a segment more. From many threads, each row from one.
    fn row(&self, _index: usize, _part: &Part) {}
    /// All rows have been there: the exponentials of tokens `range`, `[rows, STRIDE]`.
    fn segment(&mut self, _range: Range<usize>, _exponentials: &[f32]) {}
}

impl Visitor for () {}

/// What a segment adds to a row.
pub struct Part<'a> {
    /// With this segment.
    pub row: &'a Row,
    /// What sums before it are multiplied with now.
    pub factor: f64,
    /// Its first token.
    pub first: usize,
    /// Relative to the row's maximum.
    pub exponentials: &'a [f32],
    /// Their sums, by runs.
    pub run_sums: &'a [f32],
}

/// What a sweep finds out about its rows.
pub struct Sweep {
    pub rows: Vec<Row>,
    vocab: usize,
    /// `[rows, runs]`: sums of the runs, relative to `maxima`.
    runs: Vec<f32>,
    /// `[rows, segments]`.
    maxima: Vec<f32>,
    /// `[rows, STRIDE]`: logits of a segment, then their exponentials.
    logits: Vec<f32>,
}

impl Sweep {
    /// Memory for `rows` rows.
    pub fn new(rows: usize, vocab: usize) -> Result<Self> {
        Ok(Sweep {
            rows: vec![Row::NONE; rows],
            vocab,
            runs: zeroed(rows * vocab.div_ceil(RUN), "sums of the draw")?,
            maxima: zeroed(rows * vocab.div_ceil(SEGMENT), "sums of the draw")?,
            logits: zeroed(rows * STRIDE, "logits")?,
        })
    }

    /// Sweeps once. `fill` makes the logits of some tokens, at most a run, for all rows, of which one costs `cost` multiply-adds.
    pub fn run(
        &mut self,
        level: CpuLevel,
        cost: usize,
        cancel: &AtomicBool,
        fill: impl Fn(Range<usize>, Rows<*mut f32>) + Sync + Send,
        visitor: &mut impl Visitor,
    ) -> Result<()> {
        let (vocab, rows) = (self.vocab, self.rows.len());
        for first in (0..vocab).step_by(SEGMENT) {
            let range = first..vocab.min(first + SEGMENT);
            let logits = Shared::new(&mut self.logits);
            let seen = &*visitor;
            parallel(range.len().div_ceil(TASK), rows * range.len() * cost, |i| {
                if cancel.load(Ordering::Relaxed) {
                    return;
                }
                let from = first + i * TASK;
                let range = from..range.end.min(from + TASK);
                // SAFETY: these columns belong to this task alone.
                let at = unsafe { logits.at(i * TASK) };
                fill(range.clone(), Rows { at, stride: STRIDE });
                seen.run(range, Rows { at, stride: STRIDE });
            });
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            self.statistics(level, range.clone(), seen);
            visitor.segment(range, &self.logits);
        }
        Ok(())
    }

    /// Adds tokens `range` to every row.
    fn statistics(&mut self, level: CpuLevel, range: Range<usize>, visitor: &impl Visitor) {
        let (runs, segments) = (self.vocab.div_ceil(RUN), self.vocab.div_ceil(SEGMENT));
        let (logits, run_sums) = (Shared::new(&mut self.logits), Shared::new(&mut self.runs));
        let (rows, maxima) = (Shared::new(&mut self.rows), Shared::new(&mut self.maxima));
        // An exponential costs as much as some 16 multiply-adds.
        parallel(self.rows.len(), self.rows.len() * range.len() * 16, |i| {
            // SAFETY: what belongs to this row belongs to this task alone.
            let (row, logits, run_sums) = unsafe {
                (
                    &mut *rows.at(i),
                    std::slice::from_raw_parts_mut(logits.at(i * STRIDE), range.len()),
                    std::slice::from_raw_parts_mut(
                        run_sums.at(i * runs + range.start / RUN),
                        range.len().div_ceil(RUN),
                    ),
                )
            };
            let factor = row.add(level, range.start, logits, run_sums);
            // SAFETY: as above.
            unsafe { *maxima.at(i * segments + range.start / SEGMENT) = row.max };
            visitor.row(i, &Part { row, factor, first: range.start, exponentials: logits, run_sums });
        });
    }

    /// The sums of a row's runs, relative to the row's maximum.
    pub fn masses(&self, row: usize) -> impl Iterator<Item = f64> {
        let (runs, segments) = (self.vocab.div_ceil(RUN), self.vocab.div_ceil(SEGMENT));
        let (sums, maxima) = (&self.runs[row * runs..][..runs], &self.maxima[row * segments..][..segments]);
        let max = f64::from(self.rows[row].max);
        sums.chunks(SEGMENT / RUN).zip(maxima).flat_map(move |(sums, &at)| {
            let factor = (f64::from(at) - max).exp();
            sums.iter().map(move |&sum| f64::from(sum) * factor)
        })
    }
}

/// Tempered logits of tokens `range`, at most a run, for all rows of x.
///
/// # Safety
/// `rows` rows of `range.len()` elements at `out` are writable by this task alone.
pub unsafe fn run_logits(
    level: CpuLevel,
    table: &HostWeight,
    x: &Operand,
    rows: Which,
    range: Range<usize>,
    params: &HeadParams,
    out: Rows<*mut f32>,
) {
    let n = rows.len();
    // SAFETY: the caller's promise.
    unsafe { tile_product(level, RowRange::new(table, range.start, range.len()), x, rows, out) };
    for i in 0..n {
        // SAFETY: the caller's promise; the product has written them all.
        let row = unsafe { std::slice::from_raw_parts_mut(out.at.add(i * out.stride), range.len()) };
        temper(level, row, range.start, params);
    }
}

/// Soft cap, temperature and bias for the logits of tokens `first..`.
fn temper(level: CpuLevel, logits: &mut [f32], first: usize, params: &HeadParams) {
    let factor = 1.0 / params.temperature;
    match params.softcap {
        Some(cap) => math::softcap(level, logits, cap, factor),
        None => math::scale(level, logits, factor),
    }
    let from = params.bias.partition_point(|&(token, _)| (token as usize) < first);
    let end = first + logits.len();
    for &(token, bias) in params.bias[from..].iter().take_while(|&&(token, _)| (token as usize) < end) {
        let l = &mut logits[token as usize - first];
        *l = if bias == f32::NEG_INFINITY { NEVER } else { *l + bias / params.temperature };
    }
}

//! The soft embedding: `soft[row] = scale * sum over tokens of p[row, token] * embedding[token]`, over the tokens that
//! matter.
//!
//! The exponentials that a sweep kept become probabilities by one factor per row and tile. Of each row, tokens are left out
//! that together have at most a probability of [`DROPPED`]: first whole runs of 64 tokens by their sums, then single tokens,
//! both below powers of two found by adding up what lies under them. A row that keeps more than an eighth of a tile takes
//! part in a dense product for that tile, in BF16 where the processor has it; the other tokens are single multiply-adds
//! of embedding rows, each decoded once for all rows that need it. So the cost falls as distributions become sharp.
//!
//! A task is a range of columns and goes through the tiles in order: results do not depend on threads. Error beside the
//! dropped tokens: exponentials are kept in BF16 (2^-9 relative each) unless the backend is exact, and dense products round
//! the embedding to BF16 as well.

use super::bf16;
use super::gemm::{Rows, gemm};
use super::math;
use super::parallel::{Shared, parallel};
use super::sweep::{Kept, RUN, Row, Sweep, TILE};
use crate::backend::host_weight::HostWeight;
use crate::cpu_level::CpuLevel;

/// The probability of the tokens left out of a row, at most, in a backend that is not exact.
pub const DROPPED: f64 = 1e-6;

/// Tokens of a tile from which a row takes part in the dense product. A multiply-add of its own costs four to five times
/// one of a dense product; half of that bounds the lists at 25 MB for 64 rows of 262,144 tokens.
const DENSE: usize = TILE / 8;

/// Tokens between the one that is decoded and the one whose bytes are asked for: a task's part of a row ends before the
/// processor has noticed that it is read in order.
const AHEAD: usize = 8;

/// What a tile has to do.
#[derive(Default)]
struct Plan {
    /// Rows in the dense product.
    dense: Vec<u32>,
    /// (token, row, factor), by token.
    single: Vec<(u32, u32, f32)>,
}

/// One group of rows: `soft` `[rows, hidden]`, of which the sweep's rows are written. How many (row, token) pairs that took.
pub fn accumulate<K: Kept>(
    level: CpuLevel,
    embedding: &HostWeight,
    sweep: &Sweep<K>,
    rows: &[Row],
    scale: f32,
    dropped: f64,
    soft: &mut [f32],
) -> u64 {
    let hidden = embedding.cols;
    let plans = plan(sweep, rows, scale, dropped);
    // Wide, for each task reads its part of every embedding; no sum depends on it.
    let width = (hidden / rayon::current_num_threads()).next_multiple_of(embedding.block().max(64)).min(hidden);
    assert!(soft.len() >= rows.len() * hidden);
    let shared = Shared::new(soft);
    let dense: usize = plans.iter().map(|plan| plan.dense.len() * TILE + 4 * plan.single.len()).sum();
    parallel(hidden.div_ceil(width), dense * hidden, |task| {
        let columns = task * width..hidden.min((task + 1) * width);
        // SAFETY: these columns of soft belong to this task alone.
        unsafe { columns_of(level, embedding, sweep, rows, scale, &plans, columns, shared) };
    });
    let tokens = |tile: usize| (sweep.vocab - tile * TILE).min(TILE);
    plans.iter().enumerate().map(|(tile, plan)| (plan.dense.len() * tokens(tile) + plan.single.len()) as u64).sum()
}

/// Probability of a kept exponential of this tile, times scale.
fn factor<K: Kept>(sweep: &Sweep<K>, rows: &[Row], row: usize, tile: usize, scale: f32) -> f32 {
    (f64::from(sweep.marks(row)[tile].max - rows[row].max).exp() / rows[row].sum * f64::from(scale)) as f32
}

fn plan<K: Kept>(sweep: &Sweep<K>, rows: &[Row], scale: f32, dropped: f64) -> Vec<Plan> {
    let mut plans: Vec<Plan> = (0..sweep.tiles()).map(|_| Plan::default()).collect();
    let mut chosen: Vec<Vec<Choice>> = (0..rows.len()).map(|_| Vec::new()).collect();
    let shared = Shared::new(&mut chosen);
    parallel(rows.len(), rows.len() * sweep.vocab, |row| {
        // SAFETY: this row's list belongs to this task alone.
        let list = unsafe { &mut *shared.at(row) };
        *list = choose(sweep, &rows[row], row, dropped);
    });
    for (row, list) in chosen.into_iter().enumerate() {
        for (tile, choice) in list.into_iter().enumerate() {
            match choice {
                Choice::Dense => plans[tile].dense.push(row as u32),
                Choice::These(tokens) => {
                    let factor = factor(sweep, rows, row, tile, scale);
                    let kept = sweep.kept(row);
                    plans[tile].single.extend(
                        tokens.into_iter().map(|token| (token, row as u32, factor * kept[token as usize].get())),
                    );
                }
            }
        }
    }
    plans.iter_mut().for_each(|plan| plan.single.sort_unstable_by_key(|&(token, row, _)| (token, row)));
    plans
}

/// What one row wants of one tile.
enum Choice {
    Dense,
    These(Vec<u32>),
}

/// A row's choice for each tile.
fn choose<K: Kept>(sweep: &Sweep<K>, row: &Row, index: usize, dropped: f64) -> Vec<Choice> {
    let (kept, runs) = (sweep.kept(index), sweep.runs(index));
    let factors: Vec<f64> =
        sweep.marks(index).iter().map(|mark| f64::from(mark.max - row.max).exp() / row.sum).collect();
    if dropped == 0.0 {
        return factors.iter().map(|_| Choice::Dense).collect();
    }
    let mass = |run: usize| factors[run * RUN / TILE] * f64::from(runs[run]);
    let mut heights = Heights::default();
    (0..runs.len()).for_each(|run| heights.add(mass(run)));
    let least_run = heights.least(dropped / 2.0);
    let tokens = |run: usize| (run * RUN..sweep.vocab.min((run + 1) * RUN)).map(|token| (token, kept[token].get()));
    let mut heights = Heights::default();
    for run in (0..runs.len()).filter(|&run| mass(run) >= least_run) {
        let factor = factors[run * RUN / TILE];
        tokens(run).for_each(|(_, p)| heights.add(factor * f64::from(p)));
    }
    let least = heights.least(dropped / 2.0);
    let mut choices = Vec::with_capacity(factors.len());
    for (tile, factor) in factors.iter().enumerate() {
        let mut list = Vec::new();
        let some = tile * (TILE / RUN)..runs.len().min((tile + 1) * (TILE / RUN));
        for run in some.filter(|&run| mass(run) >= least_run) {
            list.extend(tokens(run).filter(|&(_, p)| factor * f64::from(p) >= least).map(|(token, _)| token as u32));
        }
        choices.push(if list.len() > DENSE { Choice::Dense } else { Choice::These(list) });
    }
    choices
}

/// Sums of probabilities by their power of two.
struct Heights([f64; 128]);

impl Default for Heights {
    fn default() -> Self {
        Heights([0.0; 128])
    }
}

impl Heights {
    /// Entry k holds what lies in 2^-k .. 2^(1 - k), the last everything below.
    fn add(&mut self, p: f64) {
        let k = 1023_u64.saturating_sub(p.to_bits() >> 52).min(127);
        self.0[k as usize] += p;
    }

    /// The largest power of two below which there is at most `mass`.
    fn least(&self, mass: f64) -> f64 {
        let mut below = 0.0;
        for k in (0..128).rev() {
            below += self.0[k];
            if below > mass {
                return if k == 127 { 0.0 } else { (-(k as f64)).exp2() };
            }
        }
        0.0
    }
}

/// # Safety
/// Columns `columns` of all rows at `soft` are writable by this task alone.
#[allow(clippy::too_many_arguments)]
unsafe fn columns_of<K: Kept>(
    level: CpuLevel,
    embedding: &HostWeight,
    sweep: &Sweep<K>,
    rows: &[Row],
    scale: f32,
    plans: &[Plan],
    columns: std::ops::Range<usize>,
    soft: Shared,
) {
    let (hidden, width) = (embedding.cols, columns.len());
    // SAFETY: the caller's promise.
    let part =
        |row: u32| unsafe { std::slice::from_raw_parts_mut(soft.at(row as usize * hidden + columns.start), width) };
    (0..rows.len() as u32).for_each(|row| part(row).fill(0.0));
    let mut one = vec![0.0; width];
    let mut dense = Dense::new(width);
    for (tile, plan) in plans.iter().enumerate() {
        let first = tile * TILE;
        if !plan.dense.is_empty() {
            let n = (sweep.vocab - first).min(TILE);
            let row = |i: usize, to: &mut [f32]| {
                embedding.prefetch(first + i + AHEAD, columns.start, to.len());
                embedding.decode(first + i, columns.start, to);
            };
            let factors: Vec<f32> =
                plan.dense.iter().map(|&row| factor(sweep, rows, row as usize, tile, scale)).collect();
            let kept = |i: usize| &sweep.kept(plan.dense[i] as usize)[first..first + n];
            dense.product(level, &factors, kept, (n, &row), |i| part(plan.dense[i]));
        }
        for same in plan.single.chunk_by(|a, b| a.0 == b.0) {
            embedding.decode(same[0].0 as usize, columns.start, &mut one);
            same.iter().for_each(|&(_, to, p)| math::add_scaled(level, &one, p, part(to)));
        }
    }
}

/// Memory of dense products.
struct Dense {
    width: usize,
    panel: Vec<u32>,
    matrix: Vec<f32>,
    p: Vec<f32>,
    sums: Vec<f32>,
}

impl Dense {
    fn new(width: usize) -> Self {
        Dense { width, panel: Vec::new(), matrix: Vec::new(), p: Vec::new(), sums: Vec::new() }
    }

    /// `out(i) += factors[i] * kept(i) * matrix`, of whose n rows `row` makes one.
    fn product<'a, 'b, K: Kept>(
        &mut self,
        level: CpuLevel,
        factors: &[f32],
        kept: impl Fn(usize) -> &'a [K],
        (n, row): (usize, &impl Fn(usize, &mut [f32])),
        out: impl Fn(usize) -> &'b mut [f32],
    ) {
        let (width, rows) = (self.width, factors.len());
        if let (Some(token), Some(_)) = (level.bf16(), K::as_bf16(kept(0))) {
            bf16::pack_with(level, n, width, row, &mut self.panel);
            let x = |i: usize| (K::as_bf16(kept(i)).unwrap_or_default(), factors[i], out(i).as_mut_ptr());
            // SAFETY: `width` elements of rows that are this task's alone.
            unsafe { bf16::accumulate(token, &self.panel, (n, width), x, rows) };
        } else {
            self.sums.clear();
            self.sums.resize(rows * width, 0.0);
            let c = Rows { at: self.sums.as_mut_ptr(), stride: width };
            self.matrix.resize(n * width, 0.0);
            self.matrix.chunks_exact_mut(width).enumerate().for_each(|(i, to)| row(i, to));
            self.p.resize(rows * n, 0.0);
            for (i, (p, factor)) in self.p.chunks_exact_mut(n).zip(factors).enumerate() {
                p.iter_mut().zip(kept(i)).for_each(|(p, kept)| *p = factor * kept.get());
            }
            let (a, b) = (Rows { at: self.p.as_ptr(), stride: n }, Rows { at: self.matrix.as_ptr(), stride: width });
            // SAFETY: `[rows, n]`, `[n, width]` and `[rows, width]`.
            unsafe { gemm(level, (rows, width, n), a, b, c, false) };
            for (i, sums) in self.sums.chunks_exact(width).enumerate().take(rows) {
                math::add(level, sums, out(i));
            }
        }
    }
}

/// `out = softmax(logits) * embedding * scale`, logits `[rows, vocab]` in host memory.
pub fn of_logits<K: Kept>(
    level: CpuLevel,
    embedding: &HostWeight,
    logits: &[f32],
    rows: usize,
    scale: f32,
    dropped: f64,
    out: &mut [f32],
) -> crate::error::Result<()> {
    let (vocab, hidden) = (embedding.rows, embedding.cols);
    let group = rows.min(super::head::GROUP_BYTES / (vocab.max(TILE) * size_of::<K>())).max(1);
    let mut sweep = Sweep::<K>::new(group, vocab, true)?;
    for first in (0..rows).step_by(group) {
        let n = (rows - first).min(group);
        let fill = |range: std::ops::Range<usize>, to: &mut [f32]| {
            for (i, to) in to.chunks_exact_mut(TILE).enumerate() {
                to[..range.len()].copy_from_slice(&logits[(first + i) * vocab..][range.clone()]);
            }
        };
        sweep.run(level, n, 16, &std::sync::atomic::AtomicBool::new(false), fill, |_, _| {})?;
        let statistics: Vec<Row> = (0..n).map(|row| sweep.row(row)).collect();
        accumulate(level, embedding, &sweep, &statistics, scale, dropped, &mut out[first * hidden..][..n * hidden]);
    }
    Ok(())
}

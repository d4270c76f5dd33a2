//! The output head, tile by tile over the vocabulary, in one sweep over the embedding matrix:
//!
//! ```text
//! for each tile of 512 tokens:                                                            shared between threads by
//!     logits = (softcap(x E^T) + bias) / T                                                 columns of the tile
//!     running maximum m, sum Z of exp(l - m), sum W of exp(l - m) (l - m), argmax          rows
//!     soft = soft * exp(m_old - m) + exp(l - m) E                                          columns of soft
//! entropy = ln Z - W / Z;  soft = soft * scale / Z
//! ```
//!
//! The draw by inverse CDF needs Z, which is known only at the end. So each run of 64 tokens leaves its sum behind; the
//! draw walks these sums to the run where the cumulative probability passes u, and computes only that run's logits again
//! (bit for bit the same, see `gemm.rs`).
//!
//! Memory at the real size (256 rows, 262,144 tokens, 2,816 wide): the tile 5.8 MB, its logits 0.5 MB, run sums 4.2 MB,
//! tile maxima 0.5 MB. The logits of all rows would take 268 MB.

use super::gemm::{Rows, gemm};
use super::int8::Which;
use super::math;
use super::matmul::{Operand, RowRange, TILE_ROWS, tile_product};
use super::parallel::{Shared, parallel, rows_mut};
use crate::backend::host_weight::{HostWeight, zeroed};
use crate::backend::{HeadParams, HeadStats, HeadWeights};
use crate::cpu_level::CpuLevel;
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Tokens of a tile.
pub(super) const TILE: usize = 512;
/// Tokens of a run; the width of a weight tile, so that a run is recomputed by one tile product.
pub(super) const RUN: usize = TILE_ROWS;
/// The tempered logit of a banned token: its exponential is 0 beside any other. Finite, so that sums of a tile in which
/// every token is banned stay numbers; the next tile's maximum wipes them out.
const NEVER: f32 = -1e38;

/// One row's running statistics.
#[derive(Clone)]
pub(super) struct Row {
    pub max: f32,
    pub sum: f64,
    weighted: f64,
    argmax: u32,
    best: f32,
    /// By what the soft embedding so far must be multiplied before this tile is added.
    rescale: f32,
}

/// Everything the sweep keeps.
pub(super) struct Sweep {
    /// `[rows, TILE]`: logits of the tile, then exp(l - m).
    pub tile: Vec<f32>,
    pub rows: Vec<Row>,
    /// `[rows, runs]`: sums of exp(l - m), m being the maximum when the run's tile was done.
    runs: Vec<f32>,
    /// `[rows, tiles]`: that maximum.
    maxima: Vec<f32>,
}

impl Sweep {
    pub fn new(rows: usize, tiles: usize, runs: usize) -> Result<Self> {
        let (max, best) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        Ok(Sweep {
            tile: zeroed(rows * TILE, "logits of a tile")?,
            rows: vec![Row { max, sum: 0.0, weighted: 0.0, argmax: 0, best, rescale: 1.0 }; rows],
            runs: zeroed(rows * runs, "sums of the draw")?,
            maxima: zeroed(rows * tiles, "maxima of the draw")?,
        })
    }
}

/// Soft-capped logits to `out` `[rows, vocab]`.
pub fn logits(
    level: CpuLevel,
    table: &HostWeight,
    x: &[f32],
    rows: usize,
    cap: Option<f32>,
    out: &mut [f32],
) -> Result<()> {
    super::matmul::matmul(level, RowRange::new(table, 0, table.rows), x, rows, out)?;
    if let Some(cap) = cap {
        rows_mut(&mut out[..rows * table.rows], table.rows, 16, |_, row| math::softcap(level, row, cap));
    }
    Ok(())
}

/// x `[rows, hidden]`, soft `[rows, hidden]`.
pub fn head(
    level: CpuLevel,
    weights: HeadWeights<HostWeight>,
    x: &[f32],
    params: &HeadParams,
    soft: &mut [f32],
    stats: &mut HeadStats,
) -> Result<()> {
    let HeadWeights { table, embedding } = weights;
    let (vocab, hidden) = (table.rows, table.cols);
    let rows = x.len() / hidden;
    let x = &Operand::new(level, table, x, rows)?;
    let (tiles, runs) = (vocab.div_ceil(TILE), vocab.div_ceil(RUN));
    let mut sweep = Sweep::new(rows, tiles, runs)?;
    let mut matrix = zeroed(TILE * hidden, "a tile of the embedding")?;
    soft[..rows * hidden].fill(0.0);
    let mut soft_time = Duration::ZERO;
    for tile in 0..tiles {
        if params.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let first = tile * TILE;
        let n = (vocab - first).min(TILE);
        tile_logits(level, table, x, rows, first..first + n, params, &mut sweep.tile);
        statistics(level, first, n, &mut sweep);
        let clock = Instant::now();
        decode(embedding, first, n, &mut matrix);
        accumulate(level, &sweep, n, hidden, &matrix, soft);
        soft_time += clock.elapsed();
    }
    *stats = HeadStats {
        argmax: sweep.rows.iter().map(|r| r.argmax).collect(),
        entropy: sweep.rows.iter().map(|r| (r.sum.ln() - r.weighted / r.sum).max(0.0) as f32).collect(),
        log_prob: sweep.rows.iter().map(|r| -r.sum.ln() as f32).collect(), // the best logit is the maximum
        sampled: vec![0; rows],
        soft_time,
        soft_terms: (rows * vocab) as u64,
    };
    let sums = &sweep.rows;
    rows_mut(&mut soft[..rows * hidden], hidden, 1, |i, row| {
        math::scale(level, row, (f64::from(params.soft_scale) / sums[i].sum) as f32);
    });
    stats.sampled.par_iter_mut().enumerate().for_each(|(i, token)| {
        *token = draw(level, table, x, &sweep, i, params.uniforms[i], params);
    });
    Ok(())
}

/// `out[rows, TILE]` = tempered logits of tokens `range`.
pub(super) fn tile_logits(
    level: CpuLevel,
    table: &HostWeight,
    x: &Operand,
    rows: usize,
    range: std::ops::Range<usize>,
    params: &HeadParams,
    out: &mut [f32],
) {
    assert!(out.len() >= rows * TILE);
    let shared = Shared::new(out);
    parallel(range.len().div_ceil(RUN), rows * range.len() * table.cols, |task| {
        let j = task * RUN;
        let part = RowRange::new(table, range.start + j, (range.len() - j).min(RUN));
        // SAFETY: columns j..j + part.n belong to this task alone.
        unsafe {
            tile_product(level, part, x, Which::From(0, rows), Rows { at: shared.at(j), stride: TILE });
            for i in 0..rows {
                let logits = std::slice::from_raw_parts_mut(shared.at(i * TILE + j), part.n);
                temper(level, logits, part.first, params);
            }
        }
    });
}

/// Soft cap, temperature and bias for the logits of tokens `first..`.
fn temper(level: CpuLevel, logits: &mut [f32], first: usize, params: &HeadParams) {
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

/// `out[n, hidden]` = rows `first..first + n` of the embedding.
fn decode(embedding: &HostWeight, first: usize, n: usize, out: &mut [f32]) {
    rows_mut(&mut out[..n * embedding.cols], embedding.cols, 2, |i, row| embedding.decode(first + i, 0, row));
}

/// Folds a tile's logits into the rows' statistics; the tile then holds exp(l - m).
pub(super) fn statistics(level: CpuLevel, first: usize, n: usize, sweep: &mut Sweep) {
    let (runs, tiles) = (sweep.runs.len() / sweep.rows.len(), sweep.maxima.len() / sweep.rows.len());
    let per_row = sweep.tile.par_chunks_exact_mut(TILE).zip(sweep.rows.par_iter_mut());
    let marks = sweep.runs.par_chunks_exact_mut(runs).zip(sweep.maxima.par_chunks_exact_mut(tiles));
    per_row.zip(marks).with_min_len(16).for_each(|((tile, row), (run_sums, maxima))| {
        let tile = &mut tile[..n];
        let max = math::max(level, tile);
        if max > row.best {
            row.best = max;
            row.argmax = (first + tile.iter().position(|&l| l == max).unwrap_or(0)) as u32;
        }
        let new_max = row.max.max(max);
        let shift = f64::from(row.max - new_max); // minus infinity at first, with sums of zero
        row.rescale = math::exp(row.max - new_max);
        if row.sum > 0.0 {
            let factor = f64::from(row.rescale);
            row.weighted = (row.weighted + shift * row.sum) * factor;
            row.sum *= factor;
        }
        row.max = new_max;
        maxima[first / TILE] = new_max;
        for (run, sum) in tile.chunks_mut(RUN).zip(&mut run_sums[first / RUN..]) {
            let (s, w) = math::exp_sums(level, run, new_max);
            *sum = s;
            row.sum += f64::from(s);
            row.weighted += f64::from(w);
        }
    });
}

/// `soft = soft * rescale + tile * matrix`.
fn accumulate(level: CpuLevel, sweep: &Sweep, n: usize, hidden: usize, matrix: &[f32], soft: &mut [f32]) {
    let rows = sweep.rows.len();
    assert!(matrix.len() >= n * hidden && soft.len() >= rows * hidden);
    let shared = Shared::new(soft);
    parallel(hidden.div_ceil(TILE_ROWS), rows * n * hidden, |task| {
        let j = task * TILE_ROWS;
        let width = (hidden - j).min(TILE_ROWS);
        // SAFETY: columns j..j + width of soft belong to this task alone; tile and matrix have the asserted sizes.
        unsafe {
            for (i, row) in sweep.rows.iter().enumerate().filter(|(_, row)| row.rescale != 1.0) {
                math::scale(level, std::slice::from_raw_parts_mut(shared.at(i * hidden + j), width), row.rescale);
            }
            let a = Rows { at: sweep.tile.as_ptr(), stride: TILE };
            let b = Rows { at: matrix[j..].as_ptr(), stride: hidden };
            gemm(level, (rows, width, n), a, b, Rows { at: shared.at(j), stride: hidden }, true);
        }
    });
}

/// The first token whose cumulative probability exceeds `u`.
fn draw(level: CpuLevel, table: &HostWeight, x: &Operand, sweep: &Sweep, i: usize, u: f32, params: &HeadParams) -> u32 {
    let (runs, tiles) = (sweep.runs.len() / sweep.rows.len(), sweep.maxima.len() / sweep.rows.len());
    let (row, run_sums, maxima) =
        (&sweep.rows[i], &sweep.runs[i * runs..][..runs], &sweep.maxima[i * tiles..][..tiles]);
    let target = f64::from(u) * row.sum;
    let (mut below, mut run) = (0.0f64, 0);
    for (r, &sum) in run_sums.iter().enumerate() {
        let factor = f64::from(maxima[r * RUN / TILE] - row.max).exp();
        run = r;
        if below + f64::from(sum) * factor > target || r + 1 == runs {
            break;
        }
        below += f64::from(sum) * factor;
    }
    let first = run * RUN;
    let n = (table.rows - first).min(RUN);
    let mut logits = [0.0; RUN];
    // SAFETY: one row of at most RUN logits.
    unsafe {
        let out = Rows { at: logits.as_mut_ptr(), stride: RUN };
        tile_product(level, RowRange::new(table, first, n), x, Which::From(i, 1), out);
    }
    temper(level, &mut logits[..n], first, params);
    for (j, l) in logits[..n].iter().enumerate() {
        below += f64::from(l - row.max).exp();
        if below > target {
            return (first + j) as u32;
        }
    }
    // Rounding can leave the target just above the run's end: the run's last possible token is the nearest.
    logits[..n].iter().rposition(|&l| l > NEVER).map_or(row.argmax, |j| (first + j) as u32)
}

/// `out = softmax(logits) * embedding * scale`, logits `[rows, vocab]` in host memory.
pub fn soft_embedding(
    level: CpuLevel,
    embedding: &HostWeight,
    logits: &[f32],
    rows: usize,
    scale: f32,
    out: &mut [f32],
) -> Result<()> {
    let (vocab, hidden) = (embedding.rows, embedding.cols);
    let mut matrix = zeroed(TILE * hidden, "a tile of the embedding")?;
    let row = |i: usize| Row {
        max: math::max(level, &logits[i * vocab..][..vocab]),
        sum: 0.0,
        weighted: 0.0,
        argmax: 0,
        best: 0.0,
        rescale: 1.0,
    };
    let mut sweep = Sweep {
        tile: zeroed(rows * TILE, "probabilities of a tile")?,
        rows: (0..rows).map(row).collect(),
        runs: Vec::new(),
        maxima: Vec::new(),
    };
    out[..rows * hidden].fill(0.0);
    for first in (0..vocab).step_by(TILE) {
        let n = (vocab - first).min(TILE);
        for (i, (tile, row)) in sweep.tile.chunks_exact_mut(TILE).zip(&mut sweep.rows).enumerate() {
            tile[..n].copy_from_slice(&logits[i * vocab + first..][..n]);
            row.sum += f64::from(math::exp_sum(level, &mut tile[..n], row.max));
        }
        decode(embedding, first, n, &mut matrix);
        accumulate(level, &sweep, n, hidden, &matrix, out);
    }
    for (row, out) in sweep.rows.iter().zip(out.chunks_exact_mut(hidden)) {
        math::scale(level, out, (f64::from(scale) / row.sum) as f32);
    }
    Ok(())
}

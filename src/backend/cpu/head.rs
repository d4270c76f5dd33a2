//! The output head: one sweep over the vocabulary (`sweep.rs`) for logits, statistics and draw, with the soft embedding
//! over the tokens that matter made on the way (`soft.rs`).
//!
//! The draw by inverse CDF walks the sums of runs of 64 tokens to the run where the cumulative probability passes u, and
//! computes that run's logits again, bit for bit the same (see `gemm.rs`, `int8/mod.rs`).

use super::gemm::Rows;
use super::math;
use super::matmul::{Operand, RowRange};
use super::panels::Which;
use super::parallel::{Shared, parallel, rows_mut};
use super::soft::{Memory, Soft};
use super::sweep::{NEVER, RUN, Row, Sweep, Visitor, run_logits};
use crate::backend::host_weight::HostWeight;
use crate::backend::{HeadParams, HeadStats, HeadWeights};
use crate::cpu_level::CpuLevel;
use crate::error::Result;

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
        rows_mut(&mut out[..rows * table.rows], table.rows, 16, |_, row| math::softcap(level, row, cap, 1.0));
    }
    Ok(())
}

/// The rows of x against the whole table.
struct Head<'a> {
    level: CpuLevel,
    table: &'a HostWeight,
    x: Operand<'a>,
    rows: usize,
    params: &'a HeadParams<'a>,
}

/// x `[rows, hidden]`, soft `[rows, hidden]`. `dropped`: see `soft.rs`. A soft scale of zero: no soft embedding is made.
pub fn head(
    level: CpuLevel,
    weights: HeadWeights<HostWeight>,
    x: &[f32],
    params: &HeadParams,
    dropped: f64,
    soft: &mut [f32],
    stats: &mut HeadStats,
) -> Result<()> {
    let HeadWeights { table, embedding } = weights;
    let rows = x.len() / table.cols;
    let head = Head { level, table, x: Operand::new(level, table, x, rows)?, rows, params };
    let mut sweep = Sweep::new(rows, table.rows)?;
    for (i, &token) in params.likely.iter().enumerate().take(rows) {
        sweep.rows[i] = Row::with(head.logits_of(i, token as usize, 1)[0]);
    }
    let soft = &mut soft[..rows * embedding.cols];
    let mut found = HeadStats::default();
    if params.soft_scale != 0.0 {
        let mut memory = Memory::new(level, rows, embedding.cols, dropped)?;
        let mut made = Soft::new(level, embedding, dropped, &mut memory, soft);
        head.sweep(&mut sweep, &mut made)?;
        (found.soft_time, found.soft_terms) = made.finish(&sweep.rows, params.soft_scale);
    } else {
        soft.fill(0.0);
        head.sweep(&mut sweep, &mut ())?;
    }
    for row in &sweep.rows {
        found.argmax.push(row.argmax);
        found.entropy.push((row.sum.ln() - row.weighted / row.sum).max(0.0) as f32);
        found.log_prob.push(-row.sum.ln() as f32); // the best logit is the maximum
    }
    found.sampled = vec![0; rows];
    let shared = Shared::new(&mut found.sampled);
    parallel(rows, rows * RUN * table.cols, |i| {
        let token = head.draw(&sweep, i);
        // SAFETY: this row's draw belongs to this task alone.
        unsafe { *shared.at(i) = token };
    });
    *stats = found;
    Ok(())
}

impl Head<'_> {
    fn sweep(&self, sweep: &mut Sweep, visitor: &mut impl Visitor) -> Result<()> {
        let Head { level, table, x, params, .. } = self;
        let fill = |range, to: Rows<*mut f32>| {
            // SAFETY: the sweep gives each run of tokens to one task.
            unsafe { run_logits(*level, table, x, Which::From(0, self.rows), range, params, to) }
        };
        sweep.run(*level, table.cols, params.cancel, fill, visitor)
    }

    /// One row's logits of n tokens, at most a run; the others are zero.
    fn logits_of(&self, row: usize, first: usize, n: usize) -> [f32; RUN] {
        let mut logits = [0.0; RUN];
        let out = Rows { at: logits.as_mut_ptr(), stride: RUN };
        // SAFETY: one row of at most RUN logits.
        unsafe {
            run_logits(self.level, self.table, &self.x, Which::From(row, 1), first..first + n, self.params, out);
        }
        logits
    }

    /// The first token whose cumulative probability exceeds the row's number.
    fn draw(&self, sweep: &Sweep, i: usize) -> u32 {
        let row = &sweep.rows[i];
        let target = f64::from(self.params.uniforms[i]) * row.sum;
        let runs = self.table.rows.div_ceil(RUN);
        let (mut below, mut run) = (0.0f64, 0);
        for (r, mass) in sweep.masses(i).enumerate() {
            run = r;
            if below + mass > target || r + 1 == runs {
                break;
            }
            below += mass;
        }
        let first = run * RUN;
        let n = (self.table.rows - first).min(RUN);
        let logits = &self.logits_of(i, first, n)[..n];
        for (j, l) in logits.iter().enumerate() {
            below += f64::from(l - row.max).exp();
            if below > target {
                return (first + j) as u32;
            }
        }
        // Rounding can leave the target just above the run's end: the run's last possible token is the nearest.
        logits.iter().rposition(|&l| l > NEVER).map_or(row.argmax, |j| (first + j) as u32)
    }
}

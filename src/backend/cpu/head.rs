//! The output head: one sweep over the vocabulary (`sweep.rs`) for logits, statistics and draw, and then the soft embedding
//! over the tokens that matter (`soft.rs`).
//!
//! Rows go in groups, so that the exponentials of a group, which the soft embedding needs once the sums are known, fit into
//! 34 MB; at the real size (262,144 tokens) that is 64 rows in BF16, or 32 in f32 where the backend is exact. A group
//! unpacks the matrix again, which costs as much as the products of some 5 rows.
//!
//! The draw by inverse CDF walks the sums of runs of 64 tokens to the run where the cumulative probability passes u, and
//! computes that run's logits again, bit for bit the same (see `gemm.rs`, `int8/mod.rs`).

use super::gemm::Rows;
use super::int8::Which;
use super::math;
use super::matmul::{Operand, RowRange, tile_product};
use super::parallel::{Shared, parallel, rows_mut};
use super::soft;
use super::sweep::{Kept, NEVER, RUN, Row, Sweep, TILE, temper, tile_logits};
use crate::backend::host_weight::HostWeight;
use crate::backend::{HeadParams, HeadStats, HeadWeights};
use crate::cpu_level::CpuLevel;
use crate::error::Result;
use std::time::Instant;

/// Memory for exponentials.
pub const GROUP_BYTES: usize = 34_000_000;

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

/// x `[rows, hidden]`, soft `[rows, hidden]`. `dropped`: see `soft.rs`. A soft scale of zero: no soft embedding is made.
pub fn head<K: Kept>(
    level: CpuLevel,
    weights: HeadWeights<HostWeight>,
    x: &[f32],
    params: &HeadParams,
    dropped: f64,
    soft: &mut [f32],
    stats: &mut HeadStats,
) -> Result<()> {
    let HeadWeights { table, embedding } = weights;
    let (vocab, hidden) = (table.rows, table.cols);
    let rows = x.len() / hidden;
    let x = &Operand::new(level, table, x, rows)?;
    let keep = params.soft_scale != 0.0;
    let group = if keep { rows.min(GROUP_BYTES / (vocab.max(TILE) * size_of::<K>())).max(1) } else { rows };
    let mut sweep = Sweep::<K>::new(group, vocab, keep)?;
    let mut all = HeadStats::default();
    for first in (0..rows).step_by(group) {
        let these = first..rows.min(first + group);
        let fill = |range, out: &mut [f32]| tile_logits(level, table, x, these.clone(), range, params, out);
        sweep.run(level, these.len(), hidden, params.cancel, fill, |_, _| {})?;
        let statistics: Vec<Row> = (0..these.len()).map(|row| sweep.row(row)).collect();
        for row in &statistics {
            all.argmax.push(row.argmax);
            all.entropy.push((row.sum.ln() - row.weighted / row.sum).max(0.0) as f32);
            all.log_prob.push(-row.sum.ln() as f32); // the best logit is the maximum
        }
        let mut sampled = vec![0; these.len()];
        let shared = Shared::new(&mut sampled);
        parallel(these.len(), these.len() * RUN * hidden, |i| {
            let token = draw(level, table, x, &sweep, (i, first + i), &statistics[i], params);
            // SAFETY: this row's draw belongs to this task alone.
            unsafe { *shared.at(i) = token };
        });
        all.sampled.extend(sampled);
        let soft = &mut soft[these.start * hidden..these.end * hidden];
        if keep {
            let clock = Instant::now();
            all.soft_terms += soft::accumulate(level, embedding, &sweep, &statistics, params.soft_scale, dropped, soft);
            all.soft_time += clock.elapsed();
        } else {
            soft.fill(0.0);
        }
    }
    *stats = all;
    Ok(())
}

/// The first token whose cumulative probability exceeds the row's number; the row of the sweep, and of x.
fn draw<K: Kept>(
    level: CpuLevel,
    table: &HostWeight,
    x: &Operand,
    sweep: &Sweep<K>,
    (i, of_x): (usize, usize),
    row: &Row,
    params: &HeadParams,
) -> u32 {
    let (run_sums, marks) = (sweep.runs(i), sweep.marks(i));
    let target = f64::from(params.uniforms[of_x]) * row.sum;
    let (mut below, mut run) = (0.0f64, 0);
    for (r, &sum) in run_sums.iter().enumerate() {
        let mass = f64::from(sum) * f64::from(marks[r * RUN / TILE].max - row.max).exp();
        run = r;
        if below + mass > target || r + 1 == run_sums.len() {
            break;
        }
        below += mass;
    }
    let first = run * RUN;
    let n = (table.rows - first).min(RUN);
    let mut logits = [0.0; RUN];
    // SAFETY: one row of at most RUN logits.
    unsafe {
        let out = Rows { at: logits.as_mut_ptr(), stride: RUN };
        tile_product(level, RowRange::new(table, first, n), x, Which::From(of_x, 1), out);
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

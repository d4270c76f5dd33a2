//! Log-probabilities of chosen tokens: the sweep of the head without draws and soft embedding. Memory is a segment of
//! logits, and the sums of runs.

use super::gemm::Rows;
use super::matmul::Operand;
use super::panels::Which;
use super::parallel::Shared;
use super::sweep::{Sweep, Visitor, run_logits};
use crate::backend::HeadParams;
use crate::backend::host_weight::HostWeight;
use crate::cpu_level::CpuLevel;
use crate::error::Result;
use std::ops::Range;

/// `out[i]` = ln of the probability of `wanted[i]` = (row, token); x `[rows, hidden]`.
pub fn log_probs(
    level: CpuLevel,
    table: &HostWeight,
    x: &[f32],
    params: &HeadParams,
    wanted: &[(usize, u32)],
    out: &mut [f32],
) -> Result<()> {
    let rows = x.len() / table.cols;
    let x = &Operand::new(level, table, x, rows)?;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&i| wanted[i].1);
    let mut pick = Pick { wanted, order, out: Shared::new(&mut out[..wanted.len()]) };
    let fill = |range, to: Rows<*mut f32>| {
        // SAFETY: the sweep gives each run of tokens to one task.
        unsafe { run_logits(level, table, x, Which::From(0, rows), range, params, to) }
    };
    let mut sweep = Sweep::new(rows, table.rows)?;
    sweep.run(level, table.cols, params.cancel, fill, &mut pick)?;
    for (&(row, _), out) in wanted.iter().zip(out) {
        let row = &sweep.rows[row];
        *out = (f64::from(*out - row.max) - row.sum.ln()) as f32;
    }
    Ok(())
}

/// Keeps the logits of wanted tokens.
struct Pick<'a> {
    wanted: &'a [(usize, u32)],
    /// Of `wanted`, by token.
    order: Vec<usize>,
    out: Shared<f32>,
}

impl Visitor for Pick<'_> {
    fn run(&self, range: Range<usize>, logits: Rows<*const f32>) {
        let from = self.order.partition_point(|&i| (self.wanted[i].1 as usize) < range.start);
        for &i in self.order[from..].iter().take_while(|&&i| (self.wanted[i].1 as usize) < range.end) {
            let (row, token) = self.wanted[i];
            // SAFETY: this token belongs to this run, whose logits are there; its own is written by this task alone.
            unsafe { *self.out.at(i) = *logits.at.add(row * logits.stride + token as usize - range.start) };
        }
    }
}

//! Log-probabilities of chosen tokens: the sweep of `head.rs` without draws and soft embedding. Memory is one tile of
//! logits, whatever the vocabulary.

use super::head::{RUN, Sweep, TILE, statistics, tile_logits};
use super::matmul::Operand;
use crate::backend::HeadParams;
use crate::backend::host_weight::HostWeight;
use crate::cpu_level::CpuLevel;
use crate::error::{Error, Result};
use std::sync::atomic::Ordering;

/// `out[i]` = ln of the probability of `wanted[i]` = (row, token); x `[rows, hidden]`.
pub fn log_probs(
    level: CpuLevel,
    table: &HostWeight,
    x: &[f32],
    params: &HeadParams,
    wanted: &[(usize, u32)],
    out: &mut [f32],
) -> Result<()> {
    let (vocab, rows) = (table.rows, x.len() / table.cols);
    let x = &Operand::new(level, table, x, rows)?;
    let mut sweep = Sweep::new(rows, vocab.div_ceil(TILE), vocab.div_ceil(RUN))?;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&i| wanted[i].1);
    let mut order = order.into_iter().peekable();
    for first in (0..vocab).step_by(TILE) {
        if params.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let n = (vocab - first).min(TILE);
        tile_logits(level, table, x, rows, first..first + n, params, &mut sweep.tile);
        while let Some(i) = order.next_if(|&i| (wanted[i].1 as usize) < first + n) {
            out[i] = sweep.tile[wanted[i].0 * TILE + wanted[i].1 as usize - first];
        }
        statistics(level, first, n, &mut sweep);
    }
    for (&(row, _), out) in wanted.iter().zip(out) {
        let row = &sweep.rows[row];
        *out = (f64::from(*out - row.max) - row.sum.ln()) as f32;
    }
    Ok(())
}

//! Log-probabilities of chosen tokens: the sweep of the head without draws and soft embedding. Memory is a tile of
//! logits per thread, and the sums of tiles and runs.

use super::matmul::Operand;
use super::parallel::Shared;
use super::sweep::{Sweep, TILE, tile_logits};
use crate::backend::HeadParams;
use crate::backend::host_weight::HostWeight;
use crate::cpu_level::CpuLevel;
use crate::error::Result;

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
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&i| wanted[i].1);
    assert!(out.len() >= wanted.len());
    let shared = Shared::new(out);
    let fill = |range, to: &mut [f32]| tile_logits(level, table, x, 0..rows, range, params, to);
    let pick = |range: std::ops::Range<usize>, logits: &[f32]| {
        let from = order.partition_point(|&i| (wanted[i].1 as usize) < range.start);
        for &i in order[from..].iter().take_while(|&&i| (wanted[i].1 as usize) < range.end) {
            let (row, token) = wanted[i];
            // SAFETY: this token belongs to this tile, so its logit is written by this task alone.
            unsafe { *shared.at(i) = logits[row * TILE + token as usize - range.start] };
        }
    };
    let mut sweep = Sweep::<f32>::new(rows, vocab, false)?;
    sweep.run(level, rows, table.cols, params.cancel, fill, pick)?;
    let rows: Vec<_> = (0..rows).map(|row| sweep.row(row)).collect();
    for (&(row, _), out) in wanted.iter().zip(out) {
        *out = (f64::from(*out - rows[row].max) - rows[row].sum.ln()) as f32;
    }
    Ok(())
}

//! Rows of x in 8 bits, with what a format's brackets need of them.

use super::super::parallel::{Shared, parallel};
use super::COLS;
use crate::backend::host_weight::zeroed;
use crate::cpu_level::{CpuLevel, leveled};
use crate::error::Result;
use crate::quant::Codes;

/// `[rows, columns]` numbers, for products with weights of one kind of codes.
pub struct Activations {
    /// `[rows, columns]`: the integers, -127..=127.
    pub q: Vec<i8>,
    /// `[rows, columns / 32]`: what to multiply them with.
    pub scales: Vec<f32>,
    /// `[rows, columns / group]`: for codes with an offset, -offset * sum(q), where the dot product starts; for codes
    /// with minimums, the bits of the f32 scale * sum(q), what the minimum is multiplied with.
    pub corrections: Vec<i32>,
    /// Rows.
    pub rows: usize,
    /// Columns; a multiple of 32.
    pub columns: usize,
    /// Elements under one scale of the weight: 16 or 32.
    pub group: usize,
}

/// Rows that one task rounds.
const TASK_ROWS: usize = 8;

impl Activations {
    /// Rounds `x` `[rows, columns]`.
    pub fn new(level: CpuLevel, codes: &Codes, x: &[f32], rows: usize, columns: usize) -> Result<Activations> {
        let (group, blocks) = (codes.group, columns / COLS);
        assert!(columns.is_multiple_of(COLS) && x.len() >= rows * columns);
        let mut new = Activations {
            q: vec![0; rows * columns],
            scales: zeroed(rows * blocks, "scales of activations")?,
            corrections: vec![0; rows * columns / group],
            rows,
            columns,
            group,
        };
        let (q, scales) = (Shared::new(&mut new.q), Shared::new(&mut new.scales));
        let corrections = Shared::new(&mut new.corrections);
        parallel(rows.div_ceil(TASK_ROWS), rows * columns, |task| {
            for row in task * TASK_ROWS..rows.min((task + 1) * TASK_ROWS) {
                // SAFETY: this row of the three outputs belongs to this task alone.
                let (q, scales, corrections) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(q.at(row * columns), columns),
                        std::slice::from_raw_parts_mut(scales.at(row * blocks), blocks),
                        std::slice::from_raw_parts_mut(corrections.at(row * columns / group), columns / group),
                    )
                };
                let offset = codes.offset.map(i32::from);
                round(level, &x[row * columns..][..columns], q, scales);
                correct(level, q, scales, offset, group, corrections);
            }
        });
        Ok(new)
    }
}

leveled! {
    /// Rounds one row.
    fn round(x: &[f32], q: &mut [i8], scales: &mut [f32]) {
        let blocks = x.as_chunks::<COLS>().0.iter().zip(q.as_chunks_mut::<COLS>().0);
        for ((x, q), scale) in blocks.zip(scales) {
            // As integers, magnitudes have the order of the numbers.
            let largest = f32::from_bits(x.iter().fold(0, |m, x| m.max(x.to_bits() & 0x7fff_ffff)));
            *scale = largest / 127.0;
            // Below that, the reciprocal is no number, and what there is vanishes beside everything else.
            let inverse = if largest > 1e-35 { 127.0 / largest } else { 0.0 };
            for j in 0..COLS {
                q[j] = (x[j] * inverse).round_ties_even() as i8;
            }
        }
    }
}

leveled! {
    fn correct(q: &[i8], scales: &[f32], offset: Option<i32>, group: usize, corrections: &mut [i32]) {
        let per_scale = COLS / group;
        for (i, (q, correction)) in q.chunks_exact(group).zip(corrections).enumerate() {
            let sum: i32 = q.iter().map(|&q| i32::from(q)).sum();
            *correction = match offset {
                Some(offset) => -offset * sum,
                None => (scales[i / per_scale] * sum as f32).to_bits() as i32,
            };
        }
    }
}

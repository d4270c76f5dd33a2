//! Rotary positions: the sines of a row are computed once and used by all of its heads.

use super::parallel::rows_mut;
use crate::cpu_level::{CpuLevel, leveled};

pub fn rope(level: CpuLevel, x: &mut [f32], inv_freq: &[f32], heads: usize, dim: usize, start: usize) {
    rows_mut(x, heads * dim, 4, |t, row| {
        let turn = |f: &f32| ((start + t) as f32 * f).sin_cos();
        let (sin, cos): (Vec<f32>, Vec<f32>) = inv_freq.iter().map(turn).unzip();
        for head in row.chunks_exact_mut(dim) {
            let (low, high) = head.split_at_mut(dim / 2);
            rotate(level, low, high, &sin, &cos);
        }
    });
}

leveled! {
    /// Turns each pair (low\[i\], high\[i\]).
    fn rotate(low: &mut [f32], high: &mut [f32], sin: &[f32], cos: &[f32]) {
        for (((a, b), s), c) in low.iter_mut().zip(high).zip(sin).zip(cos) {
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }
}

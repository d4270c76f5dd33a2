//! Attention over tiles of keys with a running softmax, so that memory does not grow with the context.
//!
//! A task is one K/V head and a block of query rows, with all query heads of the group, so that a tile of keys is
//! gathered and transposed once for them:
//!
//! ```text
//! for each tile of visible positions:
//!     S = q k^T; hide what a row may not see
//!     m' = max(m, max S); P = exp(S - m'); l = l * exp(m - m') + sum P; O = O * exp(m - m') + P v
//! out = O / l
//! ```

use super::gemm::{Rows, gemm, transpose};
use super::math;
use super::parallel::{Shared, parallel};
use crate::backend::host_kv::HostKv;
use crate::backend::{AttentionShape, KvLayer, Mask};
use crate::cpu_level::CpuLevel;

/// Query rows of a task.
const QUERY_ROWS: usize = 32;
/// Positions of a tile: with 512-wide heads, keys and values take 2 x 128 KiB.
const KEY_TILE: usize = 64;

/// One layer's inputs.
pub struct Inputs<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub cache: &'a KvLayer<HostKv>,
    pub shape: &'a AttentionShape,
}

pub fn attention(level: CpuLevel, inputs: Inputs, out: &mut [f32]) {
    let s = inputs.shape;
    assert!(inputs.q.len() >= s.rows * s.heads * s.head_dim && out.len() >= s.rows * s.heads * s.head_dim);
    let blocks = s.rows.div_ceil(QUERY_ROWS);
    let visible = s.start + s.rows - s.first_visible();
    let shared = Shared::new(out);
    parallel(s.kv_heads * blocks, 2 * s.rows * s.heads * s.head_dim * visible, |task| {
        let (kv_head, first_row) = (task / blocks, task % blocks * QUERY_ROWS);
        let rows = first_row..s.rows.min(first_row + QUERY_ROWS);
        // SAFETY: a task alone writes the heads of its K/V head in its rows.
        unsafe { block(level, &inputs, kv_head, rows, shared) };
    });
}

/// # Safety
/// This task alone accesses rows `rows`, heads of `kv_head`, of out.
unsafe fn block(level: CpuLevel, inputs: &Inputs, kv_head: usize, rows: std::ops::Range<usize>, out: Shared) {
    let s = inputs.shape;
    let (dim, group, m) = (s.head_dim, s.heads / s.kv_heads, rows.len());
    let (first, end) = (s.visible(rows.start).0, s.visible(rows.end - 1).1);
    let (mut keys, mut panel, mut values) =
        (vec![0.0; KEY_TILE * dim], vec![0.0; KEY_TILE * dim], vec![0.0; KEY_TILE * dim]);
    let mut scores = vec![0.0; m * KEY_TILE];
    let mut sums = vec![0.0; group * m * dim];
    let mut state = vec![(f32::NEG_INFINITY, 0.0f32); group * m]; // running maximum and denominator

    for tile in (first..end).step_by(KEY_TILE) {
        let n = (end - tile).min(KEY_TILE);
        gather(inputs, &inputs.cache.k, inputs.k, kv_head, tile..tile + n, &mut keys);
        gather(inputs, &inputs.cache.v, inputs.v, kv_head, tile..tile + n, &mut values);
        transpose(level, &keys, n, dim, &mut panel, KEY_TILE);
        for g in 0..group {
            let head = kv_head * group + g;
            let q = Rows { at: inputs.q[(rows.start * s.heads + head) * dim..].as_ptr(), stride: s.heads * dim };
            let c = Rows { at: scores.as_mut_ptr(), stride: KEY_TILE };
            // SAFETY: q holds `m` rows of this stride from here (asserted by the caller); panel and scores have the
            // sizes above.
            unsafe { gemm(level, (m, n, dim), q, Rows { at: panel.as_ptr(), stride: KEY_TILE }, c, false) };
            for i in 0..m {
                let scores = &mut scores[i * KEY_TILE..][..n];
                if s.mask == Mask::Causal {
                    let (from, to) = s.visible(rows.start + i);
                    let hidden = |p: usize| p < from || p >= to;
                    scores
                        .iter_mut()
                        .enumerate()
                        .filter(|(j, _)| hidden(tile + j))
                        .for_each(|(_, x)| *x = f32::NEG_INFINITY);
                }
                let (max, denominator) = &mut state[g * m + i];
                let new_max = max.max(math::max(level, scores));
                if new_max == f32::NEG_INFINITY {
                    scores.fill(0.0); // nothing visible yet: contributes nothing
                    continue;
                }
                let rescale = math::exp(*max - new_max);
                *denominator = *denominator * rescale + math::exp_sum(level, scores, new_max);
                *max = new_max;
                if rescale != 1.0 {
                    math::scale(level, &mut sums[(g * m + i) * dim..][..dim], rescale);
                }
            }
            let (a, b) = (Rows { at: scores.as_ptr(), stride: KEY_TILE }, Rows { at: values.as_ptr(), stride: dim });
            let c = Rows { at: sums[g * m * dim..].as_mut_ptr(), stride: dim };
            // SAFETY: scores `[m, n]`, values `[n, dim]` and sums `[m, dim]` have the sizes above.
            unsafe { gemm(level, (m, dim, n), a, b, c, true) };
        }
    }
    for g in 0..group {
        for (i, row) in rows.clone().enumerate() {
            let inverse = 1.0 / state[g * m + i].1;
            // SAFETY: this head of this row belongs to this task (caller's promise) and lies inside (asserted above).
            let out =
                unsafe { std::slice::from_raw_parts_mut(out.at((row * s.heads + kv_head * group + g) * dim), dim) };
            out.iter_mut().zip(&sums[(g * m + i) * dim..]).for_each(|(o, x)| *o = x * inverse);
        }
    }
}

/// Copies one head of positions `range` into consecutive rows, from the cache or from this pass.
fn gather(
    inputs: &Inputs,
    cached: &HostKv,
    fresh: &[f32],
    head: usize,
    range: std::ops::Range<usize>,
    out: &mut [f32],
) {
    let (s, capacity) = (inputs.shape, inputs.cache.capacity);
    for (p, row) in range.zip(out.chunks_exact_mut(s.head_dim)) {
        if p < s.start {
            cached.load((head * capacity + p % capacity) * s.head_dim, row);
        } else {
            row.copy_from_slice(&fresh[((p - s.start) * s.kv_heads + head) * s.head_dim..][..s.head_dim]);
        }
    }
}

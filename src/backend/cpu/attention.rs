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

use super::bf16;
use super::gemm::{Rows, gemm, transpose};
use super::math;
use super::parallel::{Shared, parallel};
use crate::backend::host_kv::HostKv;
use crate::backend::{AttentionShape, KvLayer, Mask};
use crate::cpu_level::{Avx512Bf16, CpuLevel};
use std::ops::Range;

/// Query rows of a task times query heads of its group, so many that preparing a tile of keys and values costs little
/// beside its products.
const TASK_QUERIES: usize = 256;
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

impl Inputs<'_> {
    /// A row of q, and what follows it.
    fn query(&self, head: usize, row: usize) -> &[f32] {
        &self.q[(row * self.shape.heads + head) * self.shape.head_dim..]
    }
}

/// `exact`: products in f32. Otherwise q, k, v and the exponentials are rounded to BF16 (2^-8 relative at most) where the
/// processor multiplies such numbers; sums stay in f32.
pub fn attention(level: CpuLevel, exact: bool, inputs: Inputs, out: &mut [f32]) {
    let s = inputs.shape;
    assert!(inputs.q.len() >= s.rows * s.heads * s.head_dim && out.len() >= s.rows * s.heads * s.head_dim);
    let query_rows = (TASK_QUERIES / (s.heads / s.kv_heads)).max(1);
    let blocks = s.rows.div_ceil(query_rows);
    let visible = s.start + s.rows - s.first_visible();
    let bf16 = if exact || s.head_dim % 2 == 1 { None } else { level.bf16() };
    let shared = Shared::new(out);
    parallel(s.kv_heads * blocks, 2 * s.rows * s.heads * s.head_dim * visible, |task| {
        let (kv_head, first_row) = (task / blocks, task % blocks * query_rows);
        let rows = first_row..s.rows.min(first_row + query_rows);
        let mut task = Task::new(level, bf16, &inputs, kv_head, rows);
        task.run();
        // SAFETY: a task alone writes the heads of its K/V head in its rows.
        unsafe { task.finish(shared) };
    });
}

/// A K/V head and some query rows, with all query heads of the group.
struct Task<'a> {
    level: CpuLevel,
    bf16: Option<Avx512Bf16>,
    inputs: &'a Inputs<'a>,
    kv_head: usize,
    rows: Range<usize>,
    group: usize,
    /// `[KEY_TILE, dim]` each: keys and values of a tile.
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Keys as the product takes them: transposed, in f32 or in pairs of BF16 numbers; so are values for the latter.
    panel: Vec<f32>,
    key_pairs: Vec<u32>,
    value_pairs: Vec<u32>,
    /// `[group, rows, dim]`: queries in BF16.
    queries: Vec<u16>,
    /// Keys, then exponentials, in BF16.
    rounded: Vec<u16>,
    /// `[rows, KEY_TILE]`: of one query head.
    scores: Vec<f32>,
    /// `[group, rows, dim]`.
    sums: Vec<f32>,
    /// `[group, rows]`: running maximum and denominator.
    state: Vec<(f32, f32)>,
}

impl<'a> Task<'a> {
    fn new(
        level: CpuLevel,
        bf16: Option<Avx512Bf16>,
        inputs: &'a Inputs<'a>,
        kv_head: usize,
        rows: Range<usize>,
    ) -> Self {
        let s = inputs.shape;
        let (dim, group, m) = (s.head_dim, s.heads / s.kv_heads, rows.len());
        let mut task = Task {
            level,
            bf16,
            inputs,
            kv_head,
            rows,
            group,
            keys: vec![0.0; KEY_TILE * dim],
            values: vec![0.0; KEY_TILE * dim],
            panel: Vec::new(),
            key_pairs: Vec::new(),
            value_pairs: Vec::new(),
            queries: Vec::new(),
            rounded: Vec::new(),
            scores: vec![0.0; m * KEY_TILE],
            sums: vec![0.0; group * m * dim],
            state: vec![(f32::NEG_INFINITY, 0.0); group * m],
        };
        if bf16.is_some() {
            task.rounded = vec![0; KEY_TILE * dim.max(m)];
            task.queries = vec![0; group * m * dim];
            for (i, to) in task.queries.chunks_exact_mut(dim).enumerate() {
                bf16::round(level, inputs.query(kv_head * group + i / m, task.rows.start + i % m), to);
            }
        } else {
            task.panel = vec![0.0; KEY_TILE * dim];
        }
        task
    }

    fn run(&mut self) {
        let s = self.inputs.shape;
        let (mut first, end) = (s.visible(self.rows.start).0, s.visible(self.rows.end - 1).1);
        if s.mask == Mask::Causal {
            // Tiles of prompt rows do not depend on where chunks begin, nor do sums; what a row may not see is hidden.
            first = first / KEY_TILE * KEY_TILE;
        }
        for tile in (first..end).step_by(KEY_TILE) {
            let range = tile..end.min(tile + KEY_TILE);
            self.load(range.clone());
            for g in 0..self.group {
                self.score(g, range.len());
                for i in 0..self.rows.len() {
                    self.softmax(g, i, range.clone());
                }
                self.add_values(g, range.len());
            }
        }
    }

    /// Fetches keys and values and puts them in order.
    fn load(&mut self, range: Range<usize>) {
        let (inputs, dim, n) = (self.inputs, self.inputs.shape.head_dim, range.len());
        gather(inputs, &inputs.cache.k, inputs.k, self.kv_head, range.clone(), &mut self.keys);
        gather(inputs, &inputs.cache.v, inputs.v, self.kv_head, range, &mut self.values);
        if self.bf16.is_some() {
            bf16::round(self.level, &self.keys[..n * dim], &mut self.rounded[..n * dim]);
            bf16::pack_rows(self.level, &self.rounded[..n * dim], n, dim, &mut self.key_pairs);
            bf16::pack(self.level, &self.values[..n * dim], dim, &mut self.value_pairs);
        } else {
            transpose(self.level, &self.keys, n, dim, &mut self.panel, KEY_TILE);
        }
    }

    /// `scores = q k^T` of head g of the group, for n keys.
    fn score(&mut self, g: usize, n: usize) {
        let (s, dim, m) = (self.inputs.shape, self.inputs.shape.head_dim, self.rows.len());
        if let Some(token) = self.bf16 {
            self.scores.fill(0.0);
            let queries = &self.queries[g * m * dim..][..m * dim];
            let scores = self.scores.as_mut_ptr();
            let query = |i: usize| (&queries[i * dim..][..dim], 1.0, scores.wrapping_add(i * KEY_TILE));
            // SAFETY: `[m, KEY_TILE]`, of which n columns are written.
            unsafe { bf16::accumulate(token, &self.key_pairs, (dim, n), query, m) };
            return;
        }
        let head = self.kv_head * self.group + g;
        let q = Rows { at: self.inputs.query(head, self.rows.start).as_ptr(), stride: s.heads * dim };
        let c = Rows { at: self.scores.as_mut_ptr(), stride: KEY_TILE };
        // SAFETY: q holds `m` rows of this stride from here (asserted at the start); panel and scores have the sizes above.
        unsafe { gemm(self.level, (m, n, dim), q, Rows { at: self.panel.as_ptr(), stride: KEY_TILE }, c, false) };
    }

    /// Scores of a row become exponentials; its sums follow the new maximum.
    fn softmax(&mut self, g: usize, i: usize, range: Range<usize>) {
        let (s, m, level) = (self.inputs.shape, self.rows.len(), self.level);
        let scores = &mut self.scores[i * KEY_TILE..][..range.len()];
        if s.mask == Mask::Causal {
            let (from, to) = s.visible(self.rows.start + i);
            let seen = from.saturating_sub(range.start)..to.saturating_sub(range.start);
            let hidden = scores.iter_mut().enumerate().filter(|(j, _)| !seen.contains(j));
            hidden.for_each(|(_, x)| *x = f32::NEG_INFINITY);
        }
        let (max, denominator) = &mut self.state[g * m + i];
        let new_max = max.max(math::max(level, scores));
        if new_max == f32::NEG_INFINITY {
            scores.fill(0.0); // nothing visible yet: contributes nothing
            return;
        }
        let rescale = math::exp(*max - new_max);
        *denominator = *denominator * rescale + math::exp_sum(level, scores, new_max);
        *max = new_max;
        if rescale != 1.0 {
            math::scale(level, &mut self.sums[(g * m + i) * s.head_dim..][..s.head_dim], rescale);
        }
    }

    /// `sums += exponentials * v`.
    fn add_values(&mut self, g: usize, n: usize) {
        let (dim, m) = (self.inputs.shape.head_dim, self.rows.len());
        let c = Rows { at: self.sums[g * m * dim..].as_mut_ptr(), stride: dim };
        if let Some(token) = self.bf16 {
            bf16::round(self.level, &self.scores, &mut self.rounded[..m * KEY_TILE]);
            let row = |i: usize| (&self.rounded[i * KEY_TILE..][..n], 1.0, c.at.wrapping_add(i * dim));
            // SAFETY: sums `[m, dim]` from here.
            unsafe { bf16::accumulate(token, &self.value_pairs, (n, dim), row, m) };
            return;
        }
        let (a, b) =
            (Rows { at: self.scores.as_ptr(), stride: KEY_TILE }, Rows { at: self.values.as_ptr(), stride: dim });
        // SAFETY: scores `[m, n]`, values `[n, dim]` and sums `[m, dim]` have the sizes above.
        unsafe { gemm(self.level, (m, dim, n), a, b, c, true) };
    }

    /// # Safety
    /// This task alone accesses its rows and heads of `out`.
    unsafe fn finish(&self, out: Shared) {
        let (s, m) = (self.inputs.shape, self.rows.len());
        for (i, (sums, state)) in self.sums.chunks_exact(s.head_dim).zip(&self.state).enumerate() {
            let (head, row) = (self.kv_head * self.group + i / m, self.rows.start + i % m);
            // SAFETY: the caller's promise; inside, as asserted at the start.
            let out =
                unsafe { std::slice::from_raw_parts_mut(out.at((row * s.heads + head) * s.head_dim), s.head_dim) };
            let inverse = 1.0 / state.1;
            out.iter_mut().zip(sums).for_each(|(o, x)| *o = x * inverse);
        }
    }
}

/// Copies one head of positions `range` into consecutive rows, from the cache or from this pass.
fn gather(inputs: &Inputs, cached: &HostKv, fresh: &[f32], head: usize, range: Range<usize>, out: &mut [f32]) {
    let (s, capacity) = (inputs.shape, inputs.cache.capacity);
    for (p, row) in range.zip(out.chunks_exact_mut(s.head_dim)) {
        if p < s.start {
            cached.load((head * capacity + p % capacity) * s.head_dim, row);
        } else {
            row.copy_from_slice(&fresh[((p - s.start) * s.kv_heads + head) * s.head_dim..][..s.head_dim]);
        }
    }
}

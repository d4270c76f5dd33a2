//! The forward pass. Prompt and canvas rows go through the same layers and differ in three things only: the input
//! transform, the mask, and the layer's output factor.
//!
//! Both kinds can share a pass, which reads the weights once for both: first the prompt rows, then the canvas that stands
//! right behind them. No row's result depends on which other rows share its products, and canvas rows read the prompt rows'
//! keys and values back from the cache, so that is the same, bit for bit, as two passes.
//!
//! Traps that a reader coming from other models falls into:
//! - attention has scale 1, because q and k are normed per head;
//! - V on full layers is the k projection *before* its norm and rotation, with a norm of its own that has no weight;
//! - the router reads the residual stream itself, the experts read a norm of it;
//! - the canvas input passes a weightless norm at every step, also without self-conditioning.

use super::config::LayerShape;
use super::kv_cache::KvCache;
use super::phases::Phase;
use super::state::State;
use super::weights::{LayerWeights, Weights};
use crate::backend::fused::{Heads, Norm, Product};
use crate::backend::{AttentionShape, Backend, DeviceSampler, ExpertWeights, KvLayer, KvType, Mask};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the ids of canvas rows are.
pub enum CanvasIds<'a, B: Backend> {
    /// With the host.
    Host(&'a [u32]),
    /// On the device, so many.
    Device(&'a B::Sampler, usize),
}

/// One pass over the layers: which rows, and who may stop it.
pub struct Pass<'a, B: Backend> {
    /// Prompt rows, at positions `start..`.
    pub prompt: &'a [u32],
    /// Canvas rows, behind them.
    pub canvas: CanvasIds<'a, B>,
    pub start: usize,
    /// Whether `s.soft` conditions the canvas.
    pub self_condition: bool,
    /// Whether the prompt rows go through the whole last layer. Otherwise they leave it once their keys and values are
    /// there, since nothing reads more of them. Only for passes without a canvas.
    pub hidden: bool,
    /// Looked at before every layer.
    pub cancel: &'a AtomicBool,
}

impl<B: Backend> CanvasIds<'_, B> {
    fn len(&self) -> usize {
        match self {
            CanvasIds::Host(ids) => ids.len(),
            CanvasIds::Device(_, rows) => *rows,
        }
    }
}

/// How many rows of each kind are in a layer, prompt rows first.
#[derive(Clone, Copy)]
struct Rows {
    prompt: usize,
    canvas: usize,
    /// Position of the first row.
    start: usize,
}

impl Rows {
    fn all(self) -> usize {
        self.prompt + self.canvas
    }
}

/// The input, then all layers, with the K/V of prompt rows kept. x of the canvas rows (of the prompt rows, where there is
/// no canvas) ends in `s.x`, before the final norm.
pub fn run<B: Backend>(b: &B, w: &Weights<B>, s: &mut State<B>, kv: &mut KvCache<B>, pass: &Pass<B>) -> Result<()> {
    s.watch.start();
    let mut rows = Rows { prompt: pass.prompt.len(), canvas: pass.canvas.len(), start: pass.start };
    kv.will_write(pass.start + rows.prompt);
    input(b, w, s, pass)?;
    for (i, (shape, l)) in w.config.layers.iter().zip(&w.layers).enumerate() {
        let layer = Layer { b, w, shape, l };
        if pass.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if i + 1 == w.layers.len() && rows.prompt > 0 && !pass.hidden {
            layer.keep_only(s, &mut kv.layers[i], rows)?;
            rows = Rows { prompt: 0, start: rows.start + rows.prompt, ..rows };
            if rows.canvas == 0 {
                break;
            }
        }
        layer.attention(s, &mut kv.layers[i], rows)?;
        layer.feed_forward(s, rows)?;
    }
    Ok(())
}

/// The final norm: `s.normed` = what the head reads.
pub fn finish<B: Backend>(b: &B, w: &Weights<B>, s: &mut State<B>, rows: usize) -> Result<()> {
    b.rms_norm(&s.x, Some(&w.output_norm), rows, w.config.hidden, w.config.eps, &mut s.normed)?;
    s.watch.lap(Phase::Other);
    Ok(())
}

/// x = the scaled embeddings; those of canvas rows plus the self-conditioning network's output, normed.
fn input<B: Backend>(b: &B, w: &Weights<B>, s: &mut State<B>, pass: &Pass<B>) -> Result<()> {
    let (c, rows, scale) = (&w.config, pass.canvas.len(), (w.config.hidden as f32).sqrt());
    if rows > 0 {
        match pass.canvas {
            CanvasIds::Host(ids) => b.embed(&w.embedding, ids, scale, &mut s.x)?,
            CanvasIds::Device(sampler, _) => sampler.embed(b, &w.embedding, scale, &mut s.x)?,
        }
        if pass.self_condition {
            s.watch.lap(Phase::Other);
            let norm = Norm { x: &s.soft, weight: &w.sc_norm, rows, dim: c.hidden, eps: c.eps };
            let products = &mut [(&w.sc_gate, &mut s.gate), (&w.sc_up, &mut s.up)];
            b.rms_norm_matmuls(norm, &mut s.normed, products)?;
            b.gelu_mul_matmul((&mut s.gate, &s.up), &w.sc_down, rows, c.ffn, &mut s.branch)?;
            s.watch.lap(Phase::Dense);
            b.add(&s.branch, rows * c.hidden, &mut s.x)?;
        }
        b.rms_norm_in_place(&mut s.x, None, rows, c.hidden, c.eps)?;
    }
    if !pass.prompt.is_empty() {
        move_rows(b, s, c.hidden, (0, pass.prompt.len()), rows)?;
        b.embed(&w.embedding, pass.prompt, scale, &mut s.x)?;
    }
    Ok(())
}

/// Copies `n` rows of x from row `from.0` to row `from.1`, over `s.branch`.
fn move_rows<B: Backend>(b: &B, s: &mut State<B>, hidden: usize, from: (usize, usize), n: usize) -> Result<()> {
    b.copy(&s.x, from.0 * hidden, n * hidden, &mut s.branch, 0)?;
    b.copy(&s.branch, 0, n * hidden, &mut s.x, from.1 * hidden)
}

/// A layer and what runs it.
struct Layer<'a, B: Backend> {
    b: &'a B,
    w: &'a Weights<B>,
    shape: &'a LayerShape,
    l: &'a LayerWeights<B>,
}

impl<'a, B: Backend> Layer<'a, B> {
    /// x += post_norm(o(attention(q, k, v))); keeps the prompt rows' keys and values.
    fn attention(&self, s: &mut State<B>, cache: &mut KvLayer<B::Kv>, rows: Rows) -> Result<()> {
        let &Layer { b, w, shape, l } = self;
        let (c, n, dim) = (&w.config, rows.all(), shape.head_dim);
        self.project(s, n, true)?;
        self.norm_heads(s, (n, rows), (c.heads, cache.kind))?;
        let prompt = AttentionShape {
            first_row: 0,
            rows: rows.prompt,
            start: rows.start,
            heads: c.heads,
            kv_heads: shape.kv_heads,
            head_dim: dim,
            window: shape.window,
            mask: Mask::Causal,
        };
        if rows.prompt > 0 {
            b.attention(&s.q, &s.k, &s.v, cache, &prompt, &mut s.attended)?;
            b.kv_append(&s.k, &s.v, rows.prompt, rows.start, cache)?;
        }
        if rows.canvas > 0 {
            let (first_row, start) = (rows.prompt, rows.start + rows.prompt);
            let canvas = AttentionShape { first_row, rows: rows.canvas, start, mask: Mask::Canvas, ..prompt };
            b.attention(&s.q, &s.k, &s.v, cache, &canvas, &mut s.attended)?;
        }
        s.watch.lap(Phase::Attention);
        b.matmul(&l.o, &s.attended, n, &mut s.branch)?;
        s.watch.lap(Phase::Projections);
        b.rms_norm_add(&s.branch, &l.post_attention, n, c.hidden, c.eps, &mut s.x)
    }

    /// What is left to do for prompt rows in the last layer; afterwards x is that of the canvas rows alone.
    fn keep_only(&self, s: &mut State<B>, cache: &mut KvLayer<B::Kv>, rows: Rows) -> Result<()> {
        let &Layer { b, w, .. } = self;
        self.project(s, rows.prompt, false)?;
        self.norm_heads(s, (rows.prompt, rows), (0, cache.kind))?;
        b.kv_append(&s.k, &s.v, rows.prompt, rows.start, cache)?;
        s.watch.lap(Phase::Attention);
        move_rows(b, s, w.config.hidden, (rows.prompt, 0), rows.canvas)
    }

    /// `s.k`, `s.v` and, with `queries`, `s.q`: the products of the normed input.
    fn project(&self, s: &mut State<B>, rows: usize, queries: bool) -> Result<()> {
        let &Layer { b, w, l, .. } = self;
        let norm = Norm { x: &s.x, weight: &l.attn_norm, rows, dim: w.config.hidden, eps: w.config.eps };
        let query = queries.then_some((&l.q, &mut s.q));
        let value = l.v.as_ref().map(|v| (v, &mut s.v));
        let mut products: Vec<Product<B>> = query.into_iter().chain([(&l.k, &mut s.k)]).chain(value).collect();
        b.rms_norm_matmuls(norm, &mut s.normed, &mut products)?;
        s.watch.lap(Phase::Projections);
        Ok(())
    }

    /// `heads` query heads of all `rows`, and their keys and values, normed and rotated. Keys and values of prompt rows are
    /// rounded to the cache's type: what this chunk's rows see of each other is what later chunks will see of them.
    fn norm_heads(&self, s: &mut State<B>, (all, rows): (usize, Rows), (heads, kind): (usize, KvType)) -> Result<()> {
        let &Layer { b, w, shape, l } = self;
        let inv_freq = self.frequencies()?;
        let heads = Heads {
            q_norm: &l.q_norm,
            k_norm: &l.k_norm,
            inv_freq,
            own_v: l.v.is_some(),
            rows: all,
            start: rows.start,
            heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            eps: w.config.eps,
            rounded: (rows.prompt, kind),
        };
        b.norm_heads(&heads, &mut s.q, &mut s.k, &mut s.v)
    }

    fn frequencies(&self) -> Result<&'a B::Buffer> {
        let frequencies = if self.shape.window.is_some() { &self.w.rope_sliding } else { &self.w.rope_full };
        frequencies.as_ref().ok_or_else(|| Error::Internal("no rotary frequencies for a layer".into()))
    }

    /// x = (x + post_norm(dense(x) + experts(x))) * the layer's output factor.
    fn feed_forward(&self, s: &mut State<B>, kinds: Rows) -> Result<()> {
        let &Layer { b, w, l, .. } = self;
        let (c, h, eps, rows) = (&w.config, w.config.hidden, w.config.eps, kinds.all());
        // Dense branch.
        s.watch.lap(Phase::Other);
        let norm = Norm { x: &s.x, weight: &l.ffn_norm, rows, dim: h, eps };
        b.rms_norm_matmuls(norm, &mut s.normed, &mut [(&l.gate, &mut s.gate), (&l.up, &mut s.up)])?;
        b.gelu_mul_matmul((&mut s.gate, &s.up), &l.down, rows, c.ffn, &mut s.branch)?;
        s.watch.lap(Phase::Dense);
        b.rms_norm(&s.branch, Some(&l.post_ffw_1), rows, h, eps, &mut s.dense)?;
        // Router and experts.
        s.watch.lap(Phase::Other);
        let norm = Norm { x: &s.x, weight: &l.router_scale, rows, dim: h, eps };
        b.rms_norm_matmuls(norm, &mut s.normed, &mut [(&l.router, &mut s.router)])?;
        b.route(&s.router, &l.expert_scale, rows, c.experts, c.top_k, &mut s.routes)?;
        s.watch.lap(Phase::Router);
        if !B::DEFERRED || s.watch.wait.is_some() {
            s.watch.phases.note_experts(b.expert_load(&s.routes));
        }
        let up = l.experts.split_up.as_ref().map_or((&l.experts.gate, c.expert_ffn), |up| (up, 0));
        let experts = ExpertWeights {
            gate: (&l.experts.gate, 0),
            up,
            down: &l.experts.down,
            experts: c.experts,
            ffn: c.expert_ffn,
            hidden: h,
        };
        let norm = Norm { x: &s.x, weight: &l.pre_ffw_2, rows, dim: h, eps };
        b.rms_norm_experts(norm, &mut s.normed, experts, &mut s.routes, &mut s.branch)?;
        s.watch.lap(Phase::Experts);
        b.rms_norm_add(&s.branch, &l.post_ffw_2, rows, h, eps, &mut s.dense)?;
        // Both join the stream; the layer's output factor is another one for each kind of rows.
        let (prompt, canvas) = ((kinds.prompt, l.prompt_scalar), (kinds.canvas, l.canvas_scalar));
        b.rms_norm_add_scaled((&mut s.dense, &l.post_ffw, h, eps), prompt, canvas, &mut s.x)?;
        s.watch.lap(Phase::Other);
        Ok(())
    }
}

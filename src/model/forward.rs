//! The forward pass. Prompt and canvas rows go through the same layers and differ in three things only: the input
//! transform, the mask, and the layer's output factor.
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
use crate::backend::{AttentionShape, Backend, ExpertWeights, KvLayer, KvType, Mask};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// One pass over the layers: which rows, and who may stop it.
pub struct Pass<'a> {
    pub ids: &'a [u32],
    /// Position of the first row.
    pub start: usize,
    /// Looked at before every layer.
    pub cancel: &'a AtomicBool,
}

/// The input transform of prompt rows, then all layers with their K/V kept. x ends in `s.x`, before the final norm.
pub fn prompt<B: Backend>(b: &B, w: &Weights<B>, s: &mut State<B>, kv: &mut KvCache<B>, pass: &Pass) -> Result<()> {
    let (rows, scale) = (pass.ids.len(), (w.config.hidden as f32).sqrt());
    s.watch.start();
    kv.will_write(pass.start + rows);
    b.embed(&w.embedding, pass.ids, scale, &mut s.x)?;
    for (i, (shape, layer)) in w.config.layers.iter().zip(&w.layers).enumerate() {
        check(pass.cancel)?;
        attention(b, w, shape, layer, s, &kv.layers[i], pass, Mask::Causal)?;
        b.kv_append(&s.k, &s.v, rows, pass.start, &mut kv.layers[i])?;
        s.watch.lap(Phase::Attention);
        feed_forward(b, w, layer, s, rows, layer.prompt_scalar)?;
    }
    Ok(())
}

/// The input transform of canvas rows (with `s.soft` if `self_condition`), then all layers. x ends in `s.x`.
pub fn canvas<B: Backend>(
    b: &B,
    w: &Weights<B>,
    s: &mut State<B>,
    kv: &KvCache<B>,
    pass: &Pass,
    self_condition: bool,
) -> Result<()> {
    let (rows, c) = (pass.ids.len(), &w.config);
    s.watch.start();
    b.embed(&w.embedding, pass.ids, (c.hidden as f32).sqrt(), &mut s.x)?;
    if self_condition {
        b.rms_norm(&s.soft, Some(&w.sc_norm), rows, c.hidden, c.eps, &mut s.normed)?;
        s.watch.lap(Phase::Other);
        b.matmul(&w.sc_gate, &s.normed, rows, &mut s.gate)?;
        b.matmul(&w.sc_up, &s.normed, rows, &mut s.up)?;
        b.gelu_mul(&mut s.gate, &s.up, rows * c.ffn)?;
        b.matmul(&w.sc_down, &s.gate, rows, &mut s.branch)?;
        s.watch.lap(Phase::Dense);
        b.add(&s.branch, rows * c.hidden, &mut s.x)?;
    }
    b.rms_norm_in_place(&mut s.x, None, rows, c.hidden, c.eps)?;
    for (i, (shape, layer)) in c.layers.iter().zip(&w.layers).enumerate() {
        check(pass.cancel)?;
        attention(b, w, shape, layer, s, &kv.layers[i], pass, Mask::Canvas)?;
        feed_forward(b, w, layer, s, rows, layer.canvas_scalar)?;
    }
    Ok(())
}

/// The final norm: `s.normed` = what the head reads.
pub fn finish<B: Backend>(b: &B, w: &Weights<B>, s: &mut State<B>, rows: usize) -> Result<()> {
    b.rms_norm(&s.x, Some(&w.output_norm), rows, w.config.hidden, w.config.eps, &mut s.normed)?;
    s.watch.lap(Phase::Other);
    Ok(())
}

fn check(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
}

/// x += post_norm(o(attention(q, k, v))); leaves the rows' keys and values in `s.k` and `s.v`.
#[allow(clippy::too_many_arguments)]
fn attention<B: Backend>(
    b: &B,
    w: &Weights<B>,
    shape: &LayerShape,
    l: &LayerWeights<B>,
    s: &mut State<B>,
    cache: &KvLayer<B::Kv>,
    pass: &Pass,
    mask: Mask,
) -> Result<()> {
    let (c, rows, start, dim) = (&w.config, pass.ids.len(), pass.start, shape.head_dim);
    b.rms_norm(&s.x, Some(&l.attn_norm), rows, c.hidden, c.eps, &mut s.normed)?;
    s.watch.lap(Phase::Other);
    b.matmul(&l.q, &s.normed, rows, &mut s.q)?;
    b.matmul(&l.k, &s.normed, rows, &mut s.k)?;
    if let Some(v) = &l.v {
        b.matmul(v, &s.normed, rows, &mut s.v)?;
    }
    s.watch.lap(Phase::Projections);
    match &l.v {
        Some(_) => b.rms_norm_in_place(&mut s.v, None, rows * shape.kv_heads, dim, c.eps)?,
        None => b.rms_norm(&s.k, None, rows * shape.kv_heads, dim, c.eps, &mut s.v)?,
    }
    b.rms_norm_in_place(&mut s.q, Some(&l.q_norm), rows * c.heads, dim, c.eps)?;
    b.rms_norm_in_place(&mut s.k, Some(&l.k_norm), rows * shape.kv_heads, dim, c.eps)?;
    let frequencies = if shape.window.is_some() { &w.rope_sliding } else { &w.rope_full };
    let inv_freq = frequencies.as_ref().ok_or_else(|| Error::Internal("no rotary frequencies for a layer".into()))?;
    b.rope(&mut s.q, inv_freq, rows, c.heads, dim, start)?;
    b.rope(&mut s.k, inv_freq, rows, shape.kv_heads, dim, start)?;
    if mask == Mask::Causal && cache.kind != KvType::F32 {
        // What this chunk's rows see of each other is what later chunks will see of them.
        b.kv_round(cache.kind, &mut s.k, rows * shape.kv_heads * dim)?;
        b.kv_round(cache.kind, &mut s.v, rows * shape.kv_heads * dim)?;
    }
    let shape = AttentionShape {
        rows,
        start,
        heads: c.heads,
        kv_heads: shape.kv_heads,
        head_dim: dim,
        window: shape.window,
        mask,
    };
    b.attention(&s.q, &s.k, &s.v, cache, &shape, &mut s.attended)?;
    s.watch.lap(Phase::Attention);
    b.matmul(&l.o, &s.attended, rows, &mut s.branch)?;
    s.watch.lap(Phase::Projections);
    b.rms_norm_add(&s.branch, &l.post_attention, rows, c.hidden, c.eps, &mut s.x)
}

/// x = (x + post_norm(dense(x) + experts(x))) * scalar.
fn feed_forward<B: Backend>(
    b: &B,
    w: &Weights<B>,
    l: &LayerWeights<B>,
    s: &mut State<B>,
    rows: usize,
    scalar: f32,
) -> Result<()> {
    let (c, h, eps) = (&w.config, w.config.hidden, w.config.eps);
    // Dense branch.
    b.rms_norm(&s.x, Some(&l.ffn_norm), rows, h, eps, &mut s.normed)?;
    s.watch.lap(Phase::Other);
    b.matmul(&l.gate, &s.normed, rows, &mut s.gate)?;
    b.matmul(&l.up, &s.normed, rows, &mut s.up)?;
    b.gelu_mul(&mut s.gate, &s.up, rows * c.ffn)?;
    b.matmul(&l.down, &s.gate, rows, &mut s.branch)?;
    s.watch.lap(Phase::Dense);
    b.rms_norm(&s.branch, Some(&l.post_ffw_1), rows, h, eps, &mut s.dense)?;
    // Router and experts.
    b.rms_norm(&s.x, Some(&l.router_scale), rows, h, eps, &mut s.normed)?;
    s.watch.lap(Phase::Other);
    b.matmul(&l.router, &s.normed, rows, &mut s.router)?;
    b.route(&s.router, &l.expert_scale, rows, c.experts, c.top_k, &mut s.routes)?;
    s.watch.lap(Phase::Router);
    s.watch.phases.note_experts(b.expert_load(&s.routes));
    b.rms_norm(&s.x, Some(&l.pre_ffw_2), rows, h, eps, &mut s.normed)?;
    s.watch.lap(Phase::Other);
    let up = l.experts.split_up.as_ref().map_or((&l.experts.gate, c.expert_ffn), |up| (up, 0));
    let experts = ExpertWeights {
        gate: (&l.experts.gate, 0),
        up,
        down: &l.experts.down,
        experts: c.experts,
        ffn: c.expert_ffn,
        hidden: h,
    };
    b.experts(experts, &s.normed, rows, &mut s.routes, &mut s.branch)?;
    s.watch.lap(Phase::Experts);
    b.rms_norm_add(&s.branch, &l.post_ffw_2, rows, h, eps, &mut s.dense)?;
    // Both join the stream.
    b.rms_norm_add(&s.dense, &l.post_ffw, rows, h, eps, &mut s.x)?;
    b.scale(&mut s.x, scalar, rows * h)?;
    s.watch.lap(Phase::Other);
    Ok(())
}

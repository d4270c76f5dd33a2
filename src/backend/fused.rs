//! Groups of operations that a device may do at once, made of the single ones. A backend that fuses them gives the same bits.

use super::{Backend, ExpertWeights, KvType};
use crate::error::Result;

/// A norm whose result is the input of products.
pub struct Norm<'a, B: Backend> {
    /// `[rows, dim]`.
    pub x: &'a B::Buffer,
    /// `[dim]`.
    pub weight: &'a B::Buffer,
    /// Rows.
    pub rows: usize,
    /// Their width.
    pub dim: usize,
    /// Added to the mean square.
    pub eps: f32,
}

/// A weight, and where its product goes.
pub type Product<'a, B> = (&'a <B as Backend>::Weight, &'a mut <B as Backend>::Buffer);

/// What attention's inputs go through behind their products.
pub struct Heads<'a, B: Backend> {
    /// Weight of q's norm, `[head_dim]`. That of v has none.
    pub q_norm: &'a B::Buffer,
    /// Weight of k's norm, `[head_dim]`.
    pub k_norm: &'a B::Buffer,
    /// Rotary frequencies, `[head_dim / 2]`.
    pub inv_freq: &'a B::Buffer,
    /// Whether v holds a product of its own; otherwise it is made of k's.
    pub own_v: bool,
    /// Rows of q, k and v.
    pub rows: usize,
    /// Position of the first row.
    pub start: usize,
    /// Query heads; 0: q is left alone.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per head, even.
    pub head_dim: usize,
    /// As in [`Norm`].
    pub eps: f32,
    /// k and v of the first so many rows are rounded to this type.
    pub rounded: (usize, KvType),
}

/// See [`Backend::rms_norm_matmuls`].
pub fn rms_norm_matmuls<B: Backend>(
    b: &B,
    norm: Norm<B>,
    normed: &mut B::Buffer,
    products: &mut [Product<B>],
) -> Result<()> {
    b.rms_norm(norm.x, Some(norm.weight), norm.rows, norm.dim, norm.eps, normed)?;
    products.iter_mut().try_for_each(|(weight, out)| b.matmul(weight, normed, norm.rows, out))
}

/// See [`Backend::gelu_mul_matmul`].
pub fn gelu_mul_matmul<B: Backend>(
    b: &B,
    (gate, up): (&mut B::Buffer, &B::Buffer),
    weight: &B::Weight,
    rows: usize,
    dim: usize,
    out: &mut B::Buffer,
) -> Result<()> {
    b.gelu_mul(gate, up, rows * dim)?;
    b.matmul(weight, gate, rows, out)
}

/// See [`Backend::rms_norm_experts`].
pub fn rms_norm_experts<B: Backend>(
    b: &B,
    norm: Norm<B>,
    normed: &mut B::Buffer,
    weights: ExpertWeights<B::Weight>,
    routes: &mut B::Routes,
    out: &mut B::Buffer,
) -> Result<()> {
    b.rms_norm(norm.x, Some(norm.weight), norm.rows, norm.dim, norm.eps, normed)?;
    b.experts(weights, normed, norm.rows, routes, out)
}

/// See [`Backend::norm_heads`].
pub fn norm_heads<B: Backend>(
    b: &B,
    h: &Heads<B>,
    q: &mut B::Buffer,
    k: &mut B::Buffer,
    v: &mut B::Buffer,
) -> Result<()> {
    let (queries, keys, dim) = (h.rows * h.heads, h.rows * h.kv_heads, h.head_dim);
    if h.own_v {
        b.rms_norm_in_place(v, None, keys, dim, h.eps)?;
    } else {
        b.rms_norm(k, None, keys, dim, h.eps, v)?;
    }
    b.rms_norm_in_place(k, Some(h.k_norm), keys, dim, h.eps)?;
    b.rope(k, h.inv_freq, h.rows, h.kv_heads, dim, h.start)?;
    if h.heads > 0 {
        b.rms_norm_in_place(q, Some(h.q_norm), queries, dim, h.eps)?;
        b.rope(q, h.inv_freq, h.rows, h.heads, dim, h.start)?;
    }
    let (rows, kind) = h.rounded;
    if rows == 0 || kind == KvType::F32 {
        return Ok(());
    }
    b.kv_round(kind, k, rows * h.kv_heads * dim)?;
    b.kv_round(kind, v, rows * h.kv_heads * dim)
}

/// See [`Backend::rms_norm_add_scaled`].
pub fn rms_norm_add_scaled<B: Backend>(
    b: &B,
    (x, weight, dim, eps): (&mut B::Buffer, &B::Buffer, usize, f32),
    (first_rows, first): (usize, f32),
    (rest_rows, rest): (usize, f32),
    acc: &mut B::Buffer,
) -> Result<()> {
    b.rms_norm_add(x, weight, first_rows + rest_rows, dim, eps, acc)?;
    let (first_len, rest_len) = (first_rows * dim, rest_rows * dim);
    if first_rows == 0 {
        return b.scale(acc, rest, rest_len);
    }
    b.scale(acc, first, first_len)?;
    b.copy(acc, first_len, rest_len, x, 0)?;
    b.scale(x, rest, rest_len)?;
    b.copy(x, 0, rest_len, acc, first_len)
}

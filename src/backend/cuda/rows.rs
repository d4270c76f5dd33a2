//! Launchers of `rms_norm.cu`, `rope.cu`, `qkv.cu` and `elementwise.cu`.

use super::driver::Memory;
use super::{Buffer, Cuda, arguments, grid, kv};
use crate::backend::fused::Heads;
use crate::error::Result;

/// Threads of `rms_norm`, and its shared memory: a float per warp.
pub const NORM_THREADS: u32 = 256;
pub const NORM_SHARED: usize = NORM_THREADS as usize / 32 * 4;

/// x is an address, since it may be that of `out`.
pub fn rms_norm(
    cuda: &Cuda,
    entry: &'static str,
    x: u64,
    weight: Option<&Buffer>,
    (rows, dim): (usize, usize),
    eps: f32,
    out: &Buffer,
) -> Result<()> {
    let grid = grid::per_row("rms_norm", rows, NORM_THREADS, NORM_SHARED)?;
    let weight = weight.map_or(0, |w| w.0.address(0));
    let (dim, out) = (grid::int(dim, "row width")?, out.0.address(0));
    // SAFETY: (x, weight, dim, eps, out), with rows * dim numbers in x and out and dim in weight, by the trait's contract.
    unsafe { cuda.launch("rms_norm", None, entry, grid, arguments![x, weight, dim, eps, out]) }
}

/// out = (out + norm of x) * factor, another one for the first rows.
pub fn rms_norm_add_scaled(
    cuda: &Cuda,
    (x, weight, dim, eps): (&Buffer, &Buffer, usize, f32),
    (first_rows, first): (usize, f32),
    (rest_rows, rest): (usize, f32),
    out: &Buffer,
) -> Result<()> {
    let grid = grid::per_row("rms_norm", first_rows + rest_rows, NORM_THREADS, NORM_SHARED)?;
    let (x, weight, out) = (x.0.address(0), weight.0.address(0), out.0.address(0));
    let (dim, first_rows) = (grid::int(dim, "row width")?, grid::int(first_rows, "rows")?);
    // SAFETY: (x, weight, dim, eps, out, first_rows, first, rest), sizes as for `rms_norm`.
    unsafe {
        cuda.launch(
            "rms_norm",
            None,
            "rms_norm_add_scaled",
            grid,
            arguments![x, weight, dim, eps, out, first_rows, first, rest],
        )
    }
}

/// `QkvShape` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct QkvShape {
    heads: i32,
    kv_heads: i32,
    dim: i32,
    start: i32,
    own_v: i32,
    rounded: i32,
    kind: i32,
    eps: f32,
}

pub fn norm_heads(cuda: &Cuda, h: &Heads<Cuda>, q: &Buffer, k: &Buffer, v: &Buffer) -> Result<()> {
    let shared = NORM_SHARED + h.head_dim * size_of::<f32>();
    let grid = grid::plane("qkv", h.rows, h.heads + h.kv_heads, NORM_THREADS, shared)?;
    let shape = QkvShape {
        heads: grid::int(h.heads, "heads")?,
        kv_heads: grid::int(h.kv_heads, "heads")?,
        dim: grid::int(h.head_dim, "head width")?,
        start: grid::int(h.start + h.rows, "position")? - h.rows as i32,
        own_v: h.own_v.into(),
        rounded: grid::int(h.rounded.0, "rows")?,
        kind: kv::number(h.rounded.1),
        eps: h.eps,
    };
    let (q, k, v) = (q.0.address(0), k.0.address(0), v.0.address(0));
    let (q_norm, k_norm, inv_freq) = (h.q_norm.0.address(0), h.k_norm.0.address(0), h.inv_freq.0.address(0));
    // SAFETY: (q, k, v, q_norm, k_norm, inv_freq, shape), sizes by the trait's contract.
    unsafe { cuda.launch("qkv", None, "qkv", grid, arguments![q, k, v, q_norm, k_norm, inv_freq, shape]) }
}

pub fn rope(
    cuda: &Cuda,
    x: &Buffer,
    inv_freq: &Buffer,
    rows: usize,
    heads: usize,
    dim: usize,
    start: usize,
) -> Result<()> {
    let grid = grid::plane("rope", rows, heads, 128, 0)?;
    let (x, inv_freq) = (x.0.address(0), inv_freq.0.address(0));
    let (heads, dim, start) =
        (grid::int(heads, "heads")?, grid::int(dim, "head width")?, grid::int(start + rows, "position")? - rows as i32);
    // SAFETY: (x, inv_freq, heads, dim, start), with rows * heads * dim numbers in x and dim / 2 frequencies.
    unsafe { cuda.launch("rope", None, "rope", grid, arguments![x, inv_freq, heads, dim, start]) }
}

pub fn gelu_mul(cuda: &Cuda, gate: &Memory, up: &Memory, len: usize) -> Result<()> {
    let grid = grid::per_element("gelu_mul", len, 256)?;
    // SAFETY: (gate, up, n), with n numbers in each.
    unsafe {
        cuda.launch("elementwise", None, "gelu_mul", grid, arguments![gate.address(0), up.address(0), len as i64])
    }
}

pub fn add(cuda: &Cuda, x: &Buffer, len: usize, acc: &Buffer) -> Result<()> {
    let grid = grid::per_element("add", len, 256)?;
    // SAFETY: (x, acc, n), with n numbers in each.
    unsafe { cuda.launch("elementwise", None, "add", grid, arguments![x.0.address(0), acc.0.address(0), len as i64]) }
}

pub fn scale(cuda: &Cuda, x: &Buffer, factor: f32, len: usize) -> Result<()> {
    let grid = grid::per_element("scale", len, 256)?;
    // SAFETY: (x, factor, n), with n numbers in x.
    unsafe { cuda.launch("elementwise", None, "scale", grid, arguments![x.0.address(0), factor, len as i64]) }
}

pub fn softcap(cuda: &Cuda, x: &Memory, cap: f32, len: usize) -> Result<()> {
    let grid = grid::per_element("softcap", len, 256)?;
    // SAFETY: (x, cap, n), with n numbers in x.
    unsafe { cuda.launch("elementwise", None, "softcap", grid, arguments![x.address(0), cap, len as i64]) }
}

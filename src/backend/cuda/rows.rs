//! Launchers of `rms_norm.cu`, `rope.cu` and `elementwise.cu`.

use super::driver::Memory;
use super::{Buffer, Cuda, arguments, grid};
use crate::error::Result;

/// Threads of `rms_norm`, and its shared memory: a float per warp.
const NORM_THREADS: u32 = 256;
const NORM_SHARED: usize = NORM_THREADS as usize / 32 * 4;

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

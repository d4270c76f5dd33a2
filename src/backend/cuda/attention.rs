//! Launchers of `attention.cu` and `attention_tiles.cu`.

use super::grid::AttentionTiles;
use super::kv::{self, Kv};
use super::scratch::{Limits, Scratch};
use super::{Buffer, Cuda, arguments, grid};
use crate::backend::{AttentionShape, KvLayer, KvType, Mask};
use crate::error::Result;

/// `Shape` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct Shape {
    rows: i32,
    start: i32,
    heads: i32,
    kv_heads: i32,
    dim: i32,
    window: i32,
    causal: i32,
    capacity: i32,
    kind: i32,
}

fn kernel_shape(s: &AttentionShape, cache: &KvLayer<Kv>) -> Result<Shape> {
    Ok(Shape {
        rows: grid::int(s.rows, "rows")?,
        start: grid::int(s.start + s.rows, "position")? - s.rows as i32,
        heads: grid::int(s.heads, "heads")?,
        kv_heads: s.kv_heads as i32,
        dim: s.head_dim as i32,
        window: s.window.map_or(0, |w| w.min(i32::MAX as usize) as i32),
        causal: (s.mask == Mask::Causal).into(),
        capacity: grid::int(cache.capacity, "positions")?,
        kind: kv::number(cache.kind),
    })
}

/// Bytes of what splits leave, at most, for up to `rows` rows over up to `seen` positions; `exact`: of the f32 kernel.
pub fn work_bytes(rows: usize, (heads, kv_heads, dim): (usize, usize, usize), seen: usize, device: Limits) -> usize {
    let vectors = |rows: usize| rows * (heads / kv_heads);
    let tiles = |rows: usize, seen: usize| {
        grid::most_tile_splits(vectors(rows), kv_heads, dim, seen, (device.processors, device.shared))
    };
    let tiled = !device.rounding.exact && tiles(rows, 1).is_some();
    let splits = |rows: usize| {
        let tiles = if tiled { tiles(rows, seen) } else { None };
        tiles.unwrap_or_else(|| grid::most_splits(vectors(rows), kv_heads, seen, device.processors))
    };
    // Rows count in blocks of vectors: those that fill their blocks take the most.
    let of = |rows: usize| match splits(rows) {
        1 => 0,
        splits => rows * heads * splits * (dim + 2) * size_of::<f32>(),
    };
    let block = if tiled { grid::TILE_VECTORS } else { grid::VECTORS };
    let full = (block * kv_heads / heads).max(1);
    (full..rows).step_by(full).chain([rows]).map(of).max().unwrap_or(0)
}

/// Bytes of queries, keys and values in 16 bits for `rows` rows.
pub fn operand_bytes(rows: usize, (heads, kv_heads, dim): (usize, usize, usize)) -> usize {
    rows * (heads + 2 * kv_heads) * dim * 2
}

/// On tensor cores, unless the backend is exact or the heads are of a width that those kernels do not take.
pub fn attention(
    cuda: &Cuda,
    q: &Buffer,
    k: &Buffer,
    v: &Buffer,
    cache: &KvLayer<Kv>,
    shape: &AttentionShape,
    out: &Buffer,
) -> Result<()> {
    let s = *shape;
    // A multiple of 16 bytes, since heads are a multiple of 4 numbers wide.
    let (query, key) = (s.query_start() * size_of::<f32>(), s.key_start() * size_of::<f32>());
    let (q, k, v, out) = (q.0.address(query), k.0.address(key), v.0.address(key), out.0.address(query));
    // Causal rows see fewer positions than this; their blocks' later splits are empty.
    let seen = s.start + s.rows - s.first_visible();
    let vectors = s.rows * (s.heads / s.kv_heads);
    let info = &cuda.device.info;
    if !cuda.rounding.exact {
        let cut = grid::attention_tiles(vectors, s.kv_heads, s.head_dim, seen, (info.processors, info.shared))?;
        if let Some(cut) = cut {
            return tiles(cuda, (q, k, v), cache, &s, &cut, out);
        }
    }
    let cut = grid::attention(vectors, s.kv_heads, s.head_dim, seen, info.processors)?;
    let splits = cut.grid.blocks[2] as usize;
    let mut scratch = cuda.scratch();
    let partial = partial(cuda, &mut scratch, &s, splits)?;
    let (k_cache, v_cache) = (cache.k.memory.address(0), cache.v.memory.address(0));
    let per_split = grid::int(cut.per_split, "positions")?;
    let shape = kernel_shape(&s, cache)?;
    // SAFETY: (q, k, v, k_cache, v_cache, shape, per_split, out, partial): sizes by the trait's contract, from row first_row
    // on, and `partial` with head_dim + 2 numbers for each split of each vector.
    unsafe {
        cuda.launch(
            "attention",
            None,
            "attention",
            cut.grid,
            arguments![q, k, v, k_cache, v_cache, shape, per_split, out, partial],
        )?;
    }
    merge(cuda, &s, splits, partial, 1.0, out)
}

/// Products of 16-bit numbers: those of the cache, or f16 for a cache of f32.
fn tiles(
    cuda: &Cuda,
    (q, k, v): (u64, u64, u64),
    cache: &KvLayer<Kv>,
    s: &AttentionShape,
    cut: &AttentionTiles,
    out: u64,
) -> Result<()> {
    let (operands, entry) = match cache.kind {
        KvType::Bf16 => ("attention_operands_bf16", cut.variant.bf16),
        KvType::F16 | KvType::F32 => ("attention_operands_f16", cut.variant.f16),
    };
    let (nq, nk) = (s.rows * s.heads * s.head_dim, s.rows * s.kv_heads * s.head_dim);
    let mut scratch = cuda.scratch();
    let rounded = scratch.operand.of(&cuda.device, (nq + 2 * nk) * 2)?.address(0);
    let grid = grid::attention_operands(nq + 2 * nk)?;
    // SAFETY: (q, k, v, q_numbers, k_numbers, out), multiples of 8 since the width of a head is one.
    unsafe {
        cuda.launch("attention_tiles", None, operands, grid, arguments![q, k, v, nq as i64, nk as i64, rounded])?;
    }
    let (k, v) = (rounded + nq as u64 * 2, rounded + (nq + nk) as u64 * 2);
    let splits = cut.grid.blocks[2] as usize;
    let partial = partial(cuda, &mut scratch, s, splits)?;
    let (k_cache, v_cache) = (cache.k.memory.address(0), cache.v.memory.address(0));
    let (shape, per_split) = (kernel_shape(s, cache)?, grid::int(cut.per_split, "positions")?);
    // SAFETY: (q, k, v, k_cache, v_cache, shape, per_split, out, partial): as in `attention`, q, k and v rounded.
    unsafe {
        cuda.launch(
            "attention_tiles",
            None,
            entry,
            cut.grid,
            arguments![rounded, k, v, k_cache, v_cache, shape, per_split, out, partial],
        )?;
    }
    merge(cuda, s, splits, partial, std::f32::consts::LN_2, out)
}

/// The address of memory for what splits leave; 0 where there is one only.
fn partial(cuda: &Cuda, scratch: &mut Scratch, s: &AttentionShape, splits: usize) -> Result<u64> {
    if splits == 1 {
        return Ok(0);
    }
    let bytes = s.rows * s.heads * splits * (s.head_dim + 2) * size_of::<f32>();
    Ok(scratch.partial.of(&cuda.device, bytes)?.address(0))
}

/// Adds up what splits left, while the caller holds their memory; maxima are in units of `unit`.
fn merge(cuda: &Cuda, s: &AttentionShape, splits: usize, partial: u64, unit: f32, out: u64) -> Result<()> {
    if splits == 1 {
        return Ok(());
    }
    let grid = grid::per_row("attention_merge", s.rows * s.heads, 256, 0)?;
    let (splits, dim) = (grid::int(splits, "splits")?, grid::int(s.head_dim, "head width")?);
    // SAFETY: (partial, splits, dim, unit, out), as above.
    unsafe { cuda.launch("attention", None, "attention_merge", grid, arguments![partial, splits, dim, unit, out]) }
}

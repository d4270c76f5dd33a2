//! Launcher of `attention.cu`.

use super::kv::{self, Kv};
use super::{Buffer, Cuda, arguments, grid};
use crate::backend::{AttentionShape, KvLayer, Mask};
use crate::error::Result;

/// `Shape` of the kernel.
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

/// Bytes of work space for up to `rows` rows over up to `seen` positions: results of splits.
pub fn work_bytes(rows: usize, heads: usize, kv_heads: usize, dim: usize, seen: usize, processors: usize) -> usize {
    let of = |rows: usize| match grid::most_splits(rows * (heads / kv_heads), kv_heads, seen, processors) {
        1 => 0,
        splits => rows * heads * splits * (dim + 2) * 4,
    };
    (1..=rows).map(of).max().unwrap_or(0)
}

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
    let vectors = s.rows * (s.heads / s.kv_heads);
    // Causal rows see fewer positions than this; their blocks' later splits are empty.
    let seen = s.start + s.rows - s.first_visible();
    let cut = grid::attention(vectors, s.kv_heads, s.head_dim, seen, cuda.device.info.processors)?;
    let splits = cut.grid.blocks[2] as usize;
    let mut scratch = cuda.scratch();
    let partial = if splits > 1 {
        scratch.partial.of(&cuda.device, s.rows * s.heads * splits * (s.head_dim + 2) * 4)?.address(0)
    } else {
        0
    };
    let kernel_shape = Shape {
        rows: grid::int(s.rows, "rows")?,
        start: grid::int(s.start + s.rows, "position")? - s.rows as i32,
        heads: grid::int(s.heads, "heads")?,
        kv_heads: s.kv_heads as i32,
        dim: s.head_dim as i32,
        window: s.window.map_or(0, |w| w.min(i32::MAX as usize) as i32),
        causal: (s.mask == Mask::Causal).into(),
        capacity: grid::int(cache.capacity, "positions")?,
        kind: kv::number(cache.kind),
    };
    // A multiple of 16 bytes, since heads are a multiple of 4 numbers wide.
    let (query, key) = (s.query_start() * size_of::<f32>(), s.key_start() * size_of::<f32>());
    let (q, k, v, out) = (q.0.address(query), k.0.address(key), v.0.address(key), out.0.address(query));
    let (k_cache, v_cache) = (cache.k.memory.address(0), cache.v.memory.address(0));
    let per_split = grid::int(cut.per_split, "positions")?;
    // SAFETY: (q, k, v, k_cache, v_cache, shape, per_split, out, partial): sizes by the trait's contract, from row first_row
    // on, and `partial` with head_dim + 2 numbers for each split of each vector.
    unsafe {
        cuda.launch(
            "attention",
            None,
            "attention",
            cut.grid,
            arguments![q, k, v, k_cache, v_cache, kernel_shape, per_split, out, partial],
        )?;
    }
    if splits == 1 {
        return Ok(());
    }
    let grid = grid::per_row("attention_merge", s.rows * s.heads, 256, 0)?;
    // SAFETY: (partial, splits, dim, out), as above.
    unsafe {
        cuda.launch(
            "attention",
            None,
            "attention_merge",
            grid,
            arguments![partial, splits as i32, s.head_dim as i32, out],
        )
    }
}

//! Weights on the device: laid out once, at upload (`pack.rs`), from the mapped file through two page-locked buffers, so
//! that packing one part overlaps with copying the part before.

use super::driver::{Device, Event, Memory, Pinned};
use super::grid::Operand;
use super::pack::{self, Layout, TILE_COLS, TILE_ROWS};
use crate::error::{Error, Result};
use crate::gguf::Tensor;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::sync::Arc;

/// A matrix `[rows, cols]`, or a stack of them, in tiles.
pub struct Weight {
    /// How its elements lie.
    pub layout: &'static Layout,
    /// What it is multiplied with.
    pub operand: Operand,
    memory: Memory,
    /// Rows of one matrix.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

impl Weight {
    /// Tiles of 64 columns in a row.
    pub fn k_tiles(&self) -> usize {
        self.cols.div_ceil(TILE_COLS)
    }

    /// Tiles of 16 rows of one matrix.
    pub fn row_tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Where it starts.
    pub fn address(&self) -> u64 {
        self.memory.address(0)
    }
}

/// What a tensor is to a backend.
struct Shape {
    cols: usize,
    rows: usize,
    count: usize,
    row_bytes: usize,
}

/// Bytes of page-locked memory for each of the two parts under way.
const PART_BYTES: usize = 32 << 20;

/// The buffers of uploads.
pub struct Uploads {
    parts: Vec<(Pinned, Event)>,
    next: usize,
}

/// The layout of a tensor's format, or an error that names the formats there are.
pub fn layout(tensor: &Tensor) -> Result<&'static Layout> {
    pack::layout(tensor.format).ok_or_else(|| {
        let names = pack::LAYOUTS.each_ref().map(|l| l.name.to_uppercase()).join(", ");
        let (tensor, format) = (&tensor.name, tensor.format.name);
        Error::argument("backend", format!("tensor `{tensor}` is {format}, the CUDA backend expects one of {names}"))
    })
}

impl Uploads {
    /// None allocated yet.
    pub fn new() -> Self {
        Uploads { parts: Vec::new(), next: 0 }
    }

    /// Copies `tensor` to the device, laid out by `pool`. `exact`: its products are to have the accuracy of f32.
    pub fn weight(&mut self, device: &Arc<Device>, pool: &ThreadPool, tensor: &Tensor, exact: bool) -> Result<Weight> {
        let layout = layout(tensor)?;
        let shape = shape(tensor)?;
        let bad = || Error::Internal(format!("tensor `{}` reached a backend with inconsistent sizes", tensor.name));
        let bytes = layout.bytes(shape.cols, shape.rows, shape.count).ok_or_else(bad)?;
        let mut memory = Memory::new(device, bytes, "weights")?;
        self.fill(device, pool, tensor, &shape, layout, &mut memory)?;
        let operand = match (exact, layout.quantized(), layout.half()) {
            (false, true, _) => Operand::Int8,
            (false, _, true) => Operand::Bf16,
            _ => Operand::Exact,
        };
        Ok(Weight { layout, operand, memory, rows: shape.rows, cols: shape.cols })
    }

    fn fill(
        &mut self,
        device: &Arc<Device>,
        pool: &ThreadPool,
        tensor: &Tensor,
        shape: &Shape,
        layout: &Layout,
        memory: &mut Memory,
    ) -> Result<()> {
        let record = layout.row_tile_bytes(shape.cols.div_ceil(TILE_COLS));
        let per_matrix = shape.rows.div_ceil(TILE_ROWS);
        let per_part = (PART_BYTES / record).max(1);
        let all = per_matrix * shape.count;
        for first in (0..all).step_by(per_part) {
            let n = per_part.min(all - first);
            let (part, copied) = self.part(device, n * record)?;
            copied.wait()?;
            let bytes = &mut part.bytes()[..n * record];
            let pack = |(i, to): (usize, &mut [u8])| {
                let (matrix, row) = ((first + i) / per_matrix, (first + i) % per_matrix * TILE_ROWS);
                let rows = TILE_ROWS.min(shape.rows - row);
                let start = (matrix * shape.rows + row) * shape.row_bytes;
                to.fill(0);
                let from = &tensor.data[start..start + rows * shape.row_bytes];
                layout.pack(tensor.format, from, shape.row_bytes, shape.cols, to);
            };
            pool.install(|| bytes.par_chunks_exact_mut(record).enumerate().for_each(pack));
            memory.write_pinned(part, n * record, first * record)?;
            copied.record()?;
        }
        Ok(())
    }

    /// The next buffer, of at least `bytes`, and the event that tells when it may be filled again.
    fn part(&mut self, device: &Arc<Device>, bytes: usize) -> Result<&mut (Pinned, Event)> {
        let wanted = bytes.max(PART_BYTES);
        if self.parts.iter_mut().any(|(part, _)| part.bytes().len() < bytes) {
            self.parts.clear();
        }
        while self.parts.len() < 2 {
            self.parts.push((Pinned::new(device, wanted)?, Event::new(device)?));
        }
        self.next = 1 - self.next;
        Ok(&mut self.parts[self.next])
    }
}

fn shape(tensor: &Tensor) -> Result<Shape> {
    let dim = |i: usize| tensor.shape.get(i).copied().unwrap_or(1);
    let (cols, rows, count) = (dim(0), dim(1), dim(2));
    let bad = || Error::Internal(format!("tensor `{}` reached a backend with inconsistent sizes", tensor.name));
    let row_bytes = tensor.format.row_bytes(cols).ok_or_else(bad)?;
    if rows.checked_mul(count).and_then(|n| n.checked_mul(row_bytes)) != Some(tensor.data.len()) {
        return Err(bad());
    }
    Ok(Shape { cols, rows, count, row_bytes })
}

//! Weights in their tiles: laid out once, at load (`pack.rs`), from the mapped file. Those that live on the device go there
//! through page-locked buffers, so that packing one part overlaps with copying the parts before; those that stay on the
//! host (`streamed.rs`) are laid out where they stay.

use super::driver::{Device, Event, Memory, Pinned};
use super::grid::Operand;
use super::pack::{self, Layout, TILE_COLS, TILE_ROWS};
use super::streamed::{Place, Streamed};
use crate::error::{Error, Result};
use crate::gguf::Tensor;
use crate::quant::Format;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::sync::Arc;

/// A matrix `[rows, cols]`, or a stack of them, in tiles.
pub struct Weight {
    /// How its elements lie.
    pub layout: &'static Layout,
    /// What it is multiplied with.
    pub operand: Operand,
    home: Home,
    /// Rows of one matrix.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// Where it lives.
enum Home {
    Device(Memory),
    Host(Place),
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

    /// Where it starts, for a weight that lives on the device.
    pub fn address(&self) -> Result<u64> {
        match &self.home {
            Home::Device(memory) => Ok(memory.address(0)),
            Home::Host(_) => Err(Error::Internal("a weight that must live on the device was left on the host".into())),
        }
    }

    /// Where kernels find it that are put on the stream before the next weight is fetched, wherever it lives.
    pub fn fetch(&self, streamed: &mut Option<Streamed>) -> Result<u64> {
        match (&self.home, streamed) {
            (Home::Host(place), Some(streamed)) => streamed.fetch(*place),
            _ => self.address(),
        }
    }
}

/// What a tensor is to a backend.
struct Shape {
    cols: usize,
    rows: usize,
    count: usize,
    row_bytes: usize,
}

/// Bytes of page-locked memory for each part under way.
const PART_BYTES: usize = 32 << 20;
/// Parts under way: one being packed, one being copied, one waiting, so that neither side stops for the other's swings.
const PARTS: usize = 3;
/// Page-locked memory while weights are loaded.
pub const UPLOAD_BYTES: usize = PARTS * PART_BYTES;

/// The buffers of uploads.
pub struct Uploads {
    parts: Vec<(Pinned, Event)>,
    next: usize,
}

/// The layout of a format, or an error that names the tensor and the formats there are.
pub fn layout(tensor: &str, format: &Format) -> Result<&'static Layout> {
    pack::layout(format).ok_or_else(|| {
        let names = pack::LAYOUTS.each_ref().map(|l| l.name.to_uppercase()).join(", ");
        let format = format.name;
        Error::argument("backend", format!("tensor `{tensor}` is {format}, the CUDA backend expects one of {names}"))
    })
}

/// What a weight of a layout is multiplied with. `exact`: its products are to have the accuracy of f32.
pub fn operand(layout: &Layout, exact: bool) -> Operand {
    match (exact, layout.quantized(), layout.half()) {
        (false, true, _) => Operand::Int8,
        (false, _, true) => Operand::Bf16,
        _ => Operand::Exact,
    }
}

impl Uploads {
    /// None allocated yet.
    pub fn new() -> Self {
        Uploads { parts: Vec::new(), next: 0 }
    }

    /// Lays `tensor` out on the threads of `pool`, and copies it to the device, unless it has a `place` among the streamed.
    pub fn weight(
        &mut self,
        device: &Arc<Device>,
        pool: &ThreadPool,
        tensor: &Tensor,
        exact: bool,
        place: Option<(Place, &mut Streamed)>,
    ) -> Result<Weight> {
        let layout = layout(&tensor.name, tensor.format)?;
        let source = Source { tensor, shape: shape(tensor)?, layout };
        let bytes = source.bytes().ok_or_else(|| inconsistent(tensor))?;
        let home = match place {
            None => {
                let mut memory = Memory::new(device, bytes, "weights")?;
                self.copy(device, pool, &source, &mut memory)?;
                Home::Device(memory)
            }
            Some((place, streamed)) => {
                source.pack(pool, 0, streamed.bytes(place, bytes));
                Home::Host(place)
            }
        };
        let (rows, cols) = (source.shape.rows, source.shape.cols);
        Ok(Weight { layout, operand: operand(layout, exact), home, rows, cols })
    }

    fn copy(&mut self, device: &Arc<Device>, pool: &ThreadPool, from: &Source, to: &mut Memory) -> Result<()> {
        let record = from.record_bytes();
        let per_part = (PART_BYTES / record).max(1);
        let all = from.records();
        for first in (0..all).step_by(per_part) {
            let bytes = per_part.min(all - first) * record;
            let (part, copied) = self.part(device, bytes)?;
            copied.wait()?;
            from.pack(pool, first, &mut part.bytes()[..bytes]);
            to.write_pinned(part, bytes, first * record)?;
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
        while self.parts.len() < PARTS {
            self.parts.push((Pinned::new(device, wanted)?, Event::new(device)?));
        }
        self.next = (self.next + 1) % PARTS;
        Ok(&mut self.parts[self.next])
    }
}

/// A tensor on its way: its records are 16 rows of one matrix each.
struct Source<'a> {
    tensor: &'a Tensor,
    shape: Shape,
    layout: &'static Layout,
}

impl Source<'_> {
    fn bytes(&self) -> Option<usize> {
        self.layout.bytes(self.shape.cols, self.shape.rows, self.shape.count)
    }

    fn record_bytes(&self) -> usize {
        self.layout.row_tile_bytes(self.shape.cols.div_ceil(TILE_COLS))
    }

    fn records(&self) -> usize {
        self.shape.rows.div_ceil(TILE_ROWS) * self.shape.count
    }

    /// Lays out records `first ..`, as many as `to` takes.
    fn pack(&self, pool: &ThreadPool, first: usize, to: &mut [u8]) {
        let (shape, per_matrix) = (&self.shape, self.shape.rows.div_ceil(TILE_ROWS));
        let pack = |(i, to): (usize, &mut [u8])| {
            let (matrix, row) = ((first + i) / per_matrix, (first + i) % per_matrix * TILE_ROWS);
            let rows = TILE_ROWS.min(shape.rows - row);
            let start = (matrix * shape.rows + row) * shape.row_bytes;
            let from = &self.tensor.data[start..start + rows * shape.row_bytes];
            to.fill(0);
            self.layout.pack(self.tensor.format, from, shape.row_bytes, shape.cols, to);
        };
        pool.install(|| to.par_chunks_exact_mut(self.record_bytes()).enumerate().for_each(pack));
    }
}

fn inconsistent(tensor: &Tensor) -> Error {
    Error::Internal(format!("tensor `{}` reached a backend with inconsistent sizes", tensor.name))
}

fn shape(tensor: &Tensor) -> Result<Shape> {
    let dim = |i: usize| tensor.shape.get(i).copied().unwrap_or(1);
    let (cols, rows, count) = (dim(0), dim(1), dim(2));
    let row_bytes = tensor.format.row_bytes(cols).ok_or_else(|| inconsistent(tensor))?;
    if rows.checked_mul(count).and_then(|n| n.checked_mul(row_bytes)) != Some(tensor.data.len()) {
        return Err(inconsistent(tensor));
    }
    Ok(Shape { cols, rows, count, row_bytes })
}

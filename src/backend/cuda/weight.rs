//! Weights in their tiles, on the device, or on the host until a pass needs them (`streamed.rs`). Next: `upload.rs`.

use super::driver::Memory;
use super::grid::Operand;
use super::layout::{self, Layout, TILE_COLS, TILE_ROWS};
use super::streamed::{Place, Streamed};
use crate::error::{Error, Result};
use crate::quant::Format;

/// A matrix `[rows, cols]`, or a stack of them, in tiles.
pub struct Weight {
    /// How its elements lie.
    pub layout: &'static Layout,
    /// What it is multiplied with.
    pub operand: Operand,
    pub(super) home: Home,
    /// Rows of one matrix.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// Where it lives.
pub(super) enum Home {
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

    fn on_device(&self) -> Result<&Memory> {
        match &self.home {
            Home::Device(memory) => Ok(memory),
            Home::Host(_) => Err(Error::Internal("a weight that must live on the device was left on the host".into())),
        }
    }

    /// Where it starts, for a weight that lives on the device.
    pub fn address(&self) -> Result<u64> {
        self.on_device().map(|memory| memory.address(0))
    }

    /// Where kernels find it that are put on the stream before the next weight is fetched, wherever it lives.
    pub fn fetch(&self, streamed: &mut Option<Streamed>) -> Result<u64> {
        match (&self.home, streamed) {
            (Home::Host(place), Some(streamed)) => streamed.fetch(*place),
            _ => self.address(),
        }
    }

    /// Its bytes as they lie on the device, for a weight that lives there: so that tests can look at them.
    pub fn stored(&self) -> Result<Vec<u8>> {
        let memory = self.on_device()?;
        let mut bytes = vec![0; memory.bytes()];
        memory.read(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// The layout of a format, or an error that names the tensor and the formats there are.
pub fn layout(tensor: &str, format: &Format) -> Result<&'static Layout> {
    layout::layout(format).ok_or_else(|| {
        let names = layout::LAYOUTS.each_ref().map(|l| l.name.to_uppercase()).join(", ");
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

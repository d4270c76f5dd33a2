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

/// How products round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding {
    /// Not at all: they are to have the accuracy of f32.
    pub exact: bool,
    /// Both sides to bf16 with quantized weights that are no experts, instead of activations to 8 bits.
    pub bf16: bool,
}

impl Rounding {
    /// What a device of this compute capability does by itself. At a canvas's rows, weights become bf16 with fewer
    /// instructions than 8-bit products take for their scales; but only devices of data centers have the tensor cores for that:
    /// half the rate of 8 bits (10.3: more than that of 8 bits), where others have a quarter.
    pub fn of(capability: (i32, i32)) -> Self {
        Rounding { exact: false, bf16: matches!(capability, (8..=10, 0) | (10, 3)) }
    }
}

/// What a weight of a layout is multiplied with, at any number of rows: a row's result is the same whichever rows are
/// computed with it. Experts, which have few rows each, take fewer instructions in 8 bits on every device
/// (tests/bench/SPEED.md).
pub fn operand(layout: &Layout, experts: bool, rounding: Rounding) -> Operand {
    match (rounding.exact, layout.quantized(), layout.half()) {
        (false, true, _) if experts || !rounding.bf16 => Operand::Int8,
        (false, true, _) | (false, _, true) => Operand::Bf16,
        _ => Operand::Exact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_center_devices_multiply_in_bf16_but_for_experts() {
        let of = |name, experts, capability, exact| {
            let layout = layout::LAYOUTS.iter().find(|l| l.name == name).unwrap();
            operand(layout, experts, Rounding { exact, ..Rounding::of(capability) })
        };
        // A100, H100 and H200, B200, B300; A10 and RTX 30, Orin, RTX 40 and L4, RTX 50.
        let (data_center, others) = ([(8, 0), (9, 0), (10, 0), (10, 3)], [(8, 6), (8, 7), (8, 9), (12, 0)]);
        for (capability, dense) in
            data_center.map(|c| (c, Operand::Bf16)).into_iter().chain(others.map(|c| (c, Operand::Int8)))
        {
            for name in ["q8_0", "q6_k", "q4_k", "mxfp4"] {
                assert_eq!(of(name, false, capability, false), dense, "{name} on {capability:?}");
                assert_eq!(of(name, true, capability, false), Operand::Int8, "experts, {name} on {capability:?}");
            }
            for experts in [false, true] {
                assert_eq!(of("bf16", experts, capability, false), Operand::Bf16);
                assert_eq!(of("f32", experts, capability, false), Operand::Exact);
                assert_eq!(of("q8_0", experts, capability, true), Operand::Exact);
            }
        }
    }
}

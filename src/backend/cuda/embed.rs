//! Launcher of `embed.cu`.

use super::{Buffer, Cuda, Weight, arguments, grid};
use crate::error::Result;

pub fn embed(cuda: &Cuda, table: &Weight, ids: &[u32], scale: f32, out: &Buffer) -> Result<()> {
    let mut scratch = cuda.scratch();
    let to = scratch.ids.of(&cuda.device, size_of_val(ids))?;
    to.write(ids, 0)?;
    rows(cuda, table, to.address(0), ids.len(), scale, out)
}

/// Of ids that are on the device.
pub fn rows(cuda: &Cuda, table: &Weight, ids: u64, rows: usize, scale: f32, out: &Buffer) -> Result<()> {
    let grid = grid::per_row("embed", rows, 128, 0)?;
    let (k, k_tiles) = (grid::int(table.cols, "columns")?, grid::int(table.k_tiles(), "tiles")?);
    let (weight, out) = (table.address()?, out.0.address(0));
    // SAFETY: (table, k, k_tiles, ids, scale, out), with ids below the table's rows, by the trait's contract.
    unsafe {
        cuda.launch("embed", Some(table.layout.name), "embed", grid, arguments![weight, k, k_tiles, ids, scale, out])
    }
}

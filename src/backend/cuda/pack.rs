//! Launcher of `pack.cu`: rows of a file become tiles.

use super::driver::Memory;
use super::layout::{Layout, PIECE_COLS, TILE_COLS, TILE_ROWS};
use super::{Cuda, arguments, grid};
use crate::error::{Error, Result};
use crate::gguf::Tensor;
use std::ops::Range;

/// How many bytes the kernel reads behind the rows, of no matter what.
pub const READ_BEHIND: usize = 8;

/// A tensor as the file has it, and its layout: its records are up to 16 rows of one matrix each.
pub struct Source<'a> {
    tensor: &'a Tensor,
    /// Columns.
    pub cols: usize,
    /// Rows of one matrix.
    pub rows: usize,
    count: usize,
    /// Bytes of a row in the file.
    pub row_bytes: usize,
    /// How it will lie on the device.
    pub layout: &'static Layout,
}

impl<'a> Source<'a> {
    /// An error unless the tensor has the bytes that its shape says.
    pub fn new(tensor: &'a Tensor, layout: &'static Layout) -> Result<Self> {
        let dim = |i: usize| tensor.shape.get(i).copied().unwrap_or(1);
        let (cols, rows, count) = (dim(0), dim(1), dim(2));
        let row_bytes = tensor.format.row_bytes(cols).ok_or_else(|| inconsistent(tensor))?;
        if rows.checked_mul(count).and_then(|n| n.checked_mul(row_bytes)) != Some(tensor.data.len()) {
            return Err(inconsistent(tensor));
        }
        Ok(Source { tensor, cols, rows, count, row_bytes, layout })
    }

    /// Whether it is a stack, if only of one matrix: experts are, and nothing else.
    pub fn stack(&self) -> bool {
        self.tensor.shape.len() > 2
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> Result<usize> {
        self.layout.bytes(self.cols, self.rows, self.count).ok_or_else(|| inconsistent(self.tensor))
    }

    fn row_tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Bytes of a record in the file, where it has all of its rows.
    fn record_bytes(&self) -> usize {
        TILE_ROWS * self.row_bytes
    }

    /// The records, cut into ranges of at most `bytes` bytes of the file, or one record.
    pub fn parts(&self, bytes: usize) -> impl Iterator<Item = Range<usize>> {
        let (all, step) = (self.row_tiles() * self.count, (bytes / self.record_bytes().max(1)).max(1));
        (0..all).step_by(step).map(move |first| first..all.min(first + step))
    }

    /// The file's bytes of some records.
    pub fn file(&self, records: &Range<usize>) -> &'a [u8] {
        let row = |record: usize| {
            let (matrix, row) = (record / self.row_tiles(), record % self.row_tiles() * TILE_ROWS);
            (matrix * self.rows + row) * self.row_bytes
        };
        &self.tensor.data[row(records.start)..row(records.end)]
    }

    /// Where some records lie on the device, from the start of the tensor there.
    pub fn place(&self, records: &Range<usize>) -> Range<usize> {
        let bytes = self.layout.row_tile_bytes(self.cols.div_ceil(TILE_COLS));
        records.start * bytes..records.end * bytes
    }
}

fn inconsistent(tensor: &Tensor) -> Error {
    Error::Internal(format!("tensor `{}` reached a backend with inconsistent sizes", tensor.name))
}

/// Lays out some records, whose bytes are in `from`, [`READ_BEHIND`] of no meaning behind them, in the tensor at `to`.
pub fn pack(cuda: &Cuda, source: &Source, records: &Range<usize>, from: &Memory, to: u64) -> Result<()> {
    let format = source.tensor.format;
    let k_tiles = source.cols.div_ceil(TILE_COLS);
    let piece = PIECE_COLS / format.block * format.block_bytes;
    let grid = grid::pack(records.len(), k_tiles, piece)?;
    let (from, row_bytes, k_tiles) = (from.address(0), source.row_bytes as i64, grid::int(k_tiles, "tiles")?);
    let (rows, row_tiles) = (grid::int(source.rows, "rows")?, grid::int(source.row_tiles(), "tiles")?);
    grid::int(records.end, "records")?;
    let first = grid::int(records.start, "records")?;
    // SAFETY: (from, row_bytes, k_tiles, rows, row_tiles, first, to), with the rows of the records in `from` and the whole
    // tensor at `to`.
    unsafe {
        cuda.launch(
            "pack",
            Some(source.layout.name),
            "pack",
            grid,
            arguments![from, row_bytes, k_tiles, rows, row_tiles, first, to],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::layout;
    use super::*;
    use crate::gguf::Bytes;
    use crate::quant;
    use std::sync::Arc;

    fn tensor(shape: &[usize], format: &str) -> Tensor {
        let format = quant::by_name(format).unwrap();
        let bytes = shape[1..].iter().product::<usize>() * format.row_bytes(shape[0]).unwrap();
        let data = Bytes::new(Arc::new(vec![0; bytes]), 0, bytes);
        Tensor { name: "test".into(), shape: shape.to_vec(), format, data }
    }

    /// Parts follow each other without a gap, none is larger than asked for, and no record is cut.
    #[test]
    fn parts_cover_a_tensor() {
        for (shape, format) in
            [(vec![64, 16], "Q4_0"), (vec![33, 100], "F32"), (vec![96, 40, 7], "Q5_1"), (vec![8], "F16")]
        {
            let tensor = tensor(&shape, format);
            let source = Source::new(&tensor, layout(tensor.format).unwrap()).unwrap();
            for most in [1, 1000, 4096, 1 << 20] {
                let (mut file, mut device, mut next) = (0, 0, 0);
                for records in source.parts(most) {
                    let bytes = source.file(&records);
                    assert!(bytes.len() <= most || records.len() == 1, "{shape:?} {most}: {records:?}");
                    assert_eq!(bytes.as_ptr(), tensor.data[file..].as_ptr(), "{shape:?} {most}: {records:?}");
                    assert_eq!((source.place(&records).start, records.start), (device, next));
                    (file, device, next) = (file + bytes.len(), source.place(&records).end, records.end);
                }
                assert_eq!((file, device), (tensor.data.len(), source.bytes().unwrap()), "{shape:?} {most}");
            }
        }
    }

    #[test]
    fn a_tensor_of_the_wrong_size_is_refused() {
        let mut tensor = tensor(&[64, 16], "Q4_0");
        tensor.shape[1] = 17;
        let error = Source::new(&tensor, layout(tensor.format).unwrap()).err().unwrap().to_string();
        assert!(error.contains("tensor `test` reached a backend with inconsistent sizes"), "{error}");
    }
}

//! A weight that stays where the file mapping put it, for backends that run on the host.

use crate::error::{Error, Result};
use crate::gguf::{Bytes, Tensor};
use crate::quant::pairs::UnpackPairs;
use crate::quant::{Codes, Format, panel};

/// A matrix `[rows, cols]`, or a stack of them seen as one tall matrix `[count * rows, cols]`.
pub struct HostWeight {
    format: &'static Format,
    data: Bytes,
    row_bytes: usize,
    /// Rows of one matrix.
    pub rows: usize,
    /// Elements per row.
    pub cols: usize,
    /// The integers in it, where products may use them: never for floats, and not in a backend that was asked to be exact.
    pub codes: Option<&'static Codes>,
    /// How it becomes BF16 numbers, where products may use them: under the same condition.
    pub pairs: Option<UnpackPairs>,
}

impl HostWeight {
    /// Takes over a tensor of one to three dimensions.
    pub fn new(tensor: Tensor) -> Result<Self> {
        let cols = tensor.shape.first().copied().unwrap_or(1);
        let rows = tensor.shape.get(1).copied().unwrap_or(1);
        let count = tensor.shape.get(2).copied().unwrap_or(1);
        let bad = || Error::Internal(format!("tensor `{}` reached a backend with inconsistent sizes", tensor.name));
        let row_bytes = tensor.format.row_bytes(cols).ok_or_else(bad)?;
        if rows.checked_mul(count).and_then(|n| n.checked_mul(row_bytes)) != Some(tensor.data.len()) {
            return Err(bad());
        }
        let (codes, pairs) = (tensor.format.codes.as_ref(), tensor.format.pairs);
        Ok(HostWeight { format: tensor.format, data: tensor.data, row_bytes, rows, cols, codes, pairs })
    }

    /// Elements per block of the format: the granularity of `decode`'s columns.
    pub fn block(&self) -> usize {
        self.format.block
    }

    /// How it is stored.
    pub fn format(&self) -> &'static Format {
        self.format
    }

    /// The bytes of columns `col..col + n` of row `row` (counted over the whole stack); both ends on block borders.
    #[inline]
    pub fn stored(&self, row: usize, col: usize, n: usize) -> &[u8] {
        let start = row * self.row_bytes + col / self.format.block * self.format.block_bytes;
        &self.data[start..start + n / self.format.block * self.format.block_bytes]
    }

    /// The bytes of `n` whole rows from `row` on (counted over the whole stack).
    #[inline]
    pub fn stored_rows(&self, row: usize, n: usize) -> &[u8] {
        &self.data[row * self.row_bytes..][..n * self.row_bytes]
    }

    /// Where row `row` is, or would be if there were that many.
    #[inline]
    pub fn address(&self, row: usize) -> *const u8 {
        self.data.as_ptr().wrapping_add(row * self.row_bytes)
    }

    /// Asks for the bytes of `n` columns from `col` on of a row that need not exist, soon to be read.
    #[inline]
    pub fn prefetch(&self, row: usize, col: usize, n: usize) {
        let block = self.format.block;
        panel::prefetch(
            self.address(row).wrapping_add(col / block * self.format.block_bytes),
            n / block * self.format.block_bytes,
        );
    }

    /// Decodes columns `col..col + out.len()` of row `row` (counted over the whole stack); both ends on block borders.
    #[inline]
    pub fn decode(&self, row: usize, col: usize, out: &mut [f32]) {
        (self.format.decode)(self.stored(row, col, out.len()), out);
    }
}

/// Numbers of which zero bytes are a zero.
///
/// # Safety
/// They are valid values.
pub unsafe trait ZeroBytes {}
// SAFETY: so says the language of all of them.
unsafe impl ZeroBytes for f32 {}
// SAFETY: as above.
unsafe impl ZeroBytes for u16 {}
// SAFETY: as above.
unsafe impl ZeroBytes for u8 {}

/// `len` zeros, or an error instead of an abort when they cannot be had. The system hands out the pages on first use.
pub fn zeroed<T: ZeroBytes>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let bytes = len.saturating_mul(size_of::<T>());
    let layout = std::alloc::Layout::array::<T>(len).map_err(|_| Error::OutOfMemory { bytes, what })?;
    if len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the layout has a non-zero size.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    if memory.is_null() {
        return Err(Error::OutOfMemory { bytes, what });
    }
    // SAFETY: the memory comes from the global allocator with exactly the layout of a Vec<T> of this capacity, and
    // all-zero bytes are `len` valid values, as `T` says.
    Ok(unsafe { Vec::from_raw_parts(memory.cast(), len, len) })
}

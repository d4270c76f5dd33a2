//! Where the elements of a tensor come from: the one interface between all kinds of input and the conversion.

use dgemma::quant::Format;
use dgemma::{Error, Result};

/// The elements of one tensor, to be read in pieces by several threads at once.
pub trait Source: Send + Sync {
    /// An error about this tensor, with the names of its file and of itself there.
    fn error(&self, what: &str) -> Error;

    /// An error about one element.
    fn error_at(&self, element: usize, what: &str) -> Error {
        self.error(&format!("element {element} {what}"))
    }

    /// How the elements are stored, if in one of the library's formats. A target of the same format then gets the very
    /// bytes, through [`Source::read_stored`].
    fn format(&self) -> Option<&'static Format> {
        None
    }

    /// Fills `out` with the blocks from element `start` on, as they are stored in [`Source::format`].
    fn read_stored(&self, start: usize, out: &mut [u8]) -> Result<()> {
        let _ = (start, out);
        Err(Error::Internal("a tensor without a stored format was asked for its bytes".to_owned()))
    }

    /// Fills `out` with blocks of `target` from element `start` on, if there is a better way to them than by the numbers; says
    /// whether there is.
    fn read_as(&self, target: &Format, start: usize, out: &mut [u8], scratch: &mut Vec<u8>) -> Result<bool> {
        let _ = (target, start, out, scratch);
        Ok(false)
    }

    /// Says that about `count` elements from `start` on will be read soon, so that the disk can begin.
    fn prefetch(&self, start: usize, count: usize) {
        let _ = (start, count);
    }

    /// Fills `out` with the elements from `start` on. Both are whole rows. `scratch` is for the source to use; callers keep
    /// it from one call to the next.
    fn read(&self, start: usize, out: &mut [f32], scratch: &mut Vec<u8>) -> Result<()> {
        let Some(format) = self.format() else {
            return Err(Error::Internal("a tensor without a stored format must decode itself".to_owned()));
        };
        scratch.resize(out.len() / format.block * format.block_bytes, 0);
        self.read_stored(start, scratch)?;
        (format.decode)(scratch, out);
        Ok(())
    }
}

/// Numbers that were made rather than read.
pub struct Generated {
    /// What they are for, in messages.
    pub name: String,
    /// All of them.
    pub values: Vec<f32>,
}

impl Source for Generated {
    fn error(&self, what: &str) -> Error {
        Error::Internal(format!("generated tensor {}: {what}", self.name))
    }

    fn read(&self, start: usize, out: &mut [f32], _: &mut Vec<u8>) -> Result<()> {
        out.copy_from_slice(&self.values[start..start + out.len()]);
        Ok(())
    }
}

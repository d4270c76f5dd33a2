//! The name table: which tensors the network has, under which names, in which shapes (those of llama.cpp's
//! converter). Every lookup checks the shape, so that no backend meets a surprise.

use super::config::Config;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Tensor};

/// The tensors of one file, seen through the configuration.
pub struct Tensors<'a> {
    pub file: &'a Gguf,
    pub config: &'a Config,
}

/// A tensor's name within layer `layer`.
pub fn in_layer(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}")
}

impl Tensors<'_> {
    /// The tensor `name`, whose ggml shape (`shape[0]` contiguous) must be `shape`.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.file.require(name)?;
        // Trailing ones carry no meaning; some writers pad scalars and vectors with them.
        let significant = |s: &[usize]| s.iter().rposition(|&n| n != 1).map_or(0, |last| last + 1);
        if tensor.shape[..significant(&tensor.shape)] == shape[..significant(shape)] {
            return Ok(Tensor { shape: shape.to_vec(), ..tensor });
        }
        let what = format!("has shape {:?}, expected {shape:?} (contiguous dimension first)", tensor.shape);
        Err(Error::tensor(self.file.path(), name, what))
    }

    /// [`Tensors::get`], or `None` if the file has no such tensor.
    pub fn find(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        self.file.tensor(name).map(|_| self.get(name, shape)).transpose()
    }

    /// All elements of a small tensor.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Ok(decode(&self.get(name, shape)?))
    }
}

/// All elements of a tensor whose size was checked by the reader.
pub fn decode(tensor: &Tensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.shape.iter().product()];
    (tensor.format.decode)(&tensor.data, &mut out);
    out
}

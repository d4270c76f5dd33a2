//! The name table: which tensors the network has, under which names, in which shapes (those of llama.cpp's
//! converter). Every lookup checks the shape, so that no backend meets a surprise.

use super::config::{Config, LayerShape};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Tensor};
use crate::quant::Format;

/// The tensors of one file, seen through the configuration.
pub struct Tensors<'a> {
    pub file: &'a Gguf,
    pub config: &'a Config,
}

/// A tensor's name within layer `layer`.
pub fn in_layer(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}")
}

/// A matrix of the network, or a stack of them, as it lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The tensor's name.
    pub name: String,
    /// The layer that it belongs to, if any.
    pub layer: Option<usize>,
    /// Whether it holds experts.
    pub experts: bool,
    /// `[columns, rows, count]`.
    pub shape: [usize; 3],
    /// How it is stored.
    pub format: &'static Format,
}

/// A layer's matrices in the order of their use.
const OF_LAYER: [&str; 8] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_inp"];
/// The same of its experts: gate and up in one stack, or in two where that is missing.
const OF_EXPERTS: [&str; 4] = ["ffn_gate_up_exps", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];
/// Those outside of layers.
const OUTSIDE: [&str; 5] = ["token_embd", "output", "self_cond_gate", "self_cond_up", "self_cond_down"];

/// The matrices of a file with `layers` layers, those of layers first, in the order of use. What is missing is left out.
pub fn matrices(file: &Gguf, layers: usize) -> Vec<Matrix> {
    let matrix = |name: String, layer, experts| {
        let tensor = file.tensor(&name)?;
        let dim = |i: usize| tensor.shape.get(i).copied().unwrap_or(1);
        Some(Matrix { name, layer, experts, shape: [dim(0), dim(1), dim(2)], format: tensor.format })
    };
    let mut all = Vec::new();
    for i in 0..layers {
        let named = |name: &str| in_layer(i, &format!("{name}.weight"));
        all.extend(OF_LAYER.iter().filter_map(|name| matrix(named(name), Some(i), false)));
        let fused = file.tensor(&named(OF_EXPERTS[0])).is_some();
        let loaded = OF_EXPERTS.iter().filter(|name| !fused || !OF_EXPERTS[1..3].contains(name));
        all.extend(loaded.filter_map(|name| matrix(named(name), Some(i), true)));
    }
    all.extend(OUTSIDE.iter().filter_map(|name| matrix(format!("{name}.weight"), None, false)));
    all
}

/// Numbers in everything that is no matrix and that layers, norms and rotations keep beside them.
pub fn vector_numbers(c: &Config) -> usize {
    let layer = |l: &LayerShape| 8 * c.hidden + 2 * l.head_dim + c.experts;
    let kind = |sliding: bool| c.layers.iter().find(|l| l.window.is_some() == sliding).map_or(0, |l| l.head_dim / 2);
    c.layers.iter().map(layer).sum::<usize>() + 2 * c.hidden + kind(true) + kind(false)
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

//! Random weights with which activations stay finite and nothing saturates, made directly in the format of the file.
//!
//! Encoding 25 G random numbers would take ten minutes, and they would be no more random for it: instead a *pool* of random
//! numbers is encoded once per format and deviation, and a tensor is filled with *units* drawn from it, runs of up to 256
//! elements. Which unit comes where depends on the seed, the tensor's name and the position only.

use crate::config::Config;
use crate::names::{Expected, Origin};
use crate::random;
use crate::source::{Generated, Source};
use dgemma::quant::Format;
use dgemma::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Elements of a unit, at most; rows must be whole units.
const UNIT: usize = 256;
/// Elements of a pool: 4096 units or more.
const POOL: usize = 1 << 20;

/// Makes the weights of one file.
pub struct Weights<'a> {
    config: &'a Config,
    seed: u64,
    /// The deviation of the logarithm of what an expert's router row is multiplied with. Rows with large numbers win more
    /// often, as in trained models, where few experts get most of the work.
    router_skew: f32,
    pools: HashMap<(u32, u32, usize), Arc<Pool>>,
}

impl<'a> Weights<'a> {
    /// Weights for a model of this shape.
    pub fn new(config: &'a Config, seed: u64, router_skew: f32) -> Weights<'a> {
        Weights { config, seed, router_skew, pools: HashMap::new() }
    }

    /// The elements of `tensor`, stored as `format`.
    pub fn source(&mut self, tensor: &Expected, format: &'static Format) -> Result<Box<dyn Source>> {
        let key = random::key(self.seed, &tensor.name);
        if let Origin::Generated(values) = &tensor.origin {
            return Ok(Box::new(Generated { name: tensor.name.clone(), values: values.clone() }));
        }
        if let [.., columns] = tensor.shape[..]
            && self.router_skew > 0.0
            && tensor.name.ends_with("ffn_gate_inp.weight")
        {
            return Ok(Box::new(Generated { name: tensor.name.clone(), values: self.skewed(tensor, key, columns) }));
        }
        if let [.., columns] = tensor.shape[..]
            && tensor.shape.len() >= 2
        {
            let pool = self.pool(format, deviation(&tensor.name, columns), columns)?;
            return Ok(Box::new(Drawn { name: tensor.name.clone(), key, pool }));
        }
        let count = tensor.shape.iter().product::<usize>() as u64;
        let values = (0..count).map(|n| self.element(&tensor.name, key, n)).collect();
        Ok(Box::new(Generated { name: tensor.name.clone(), values }))
    }

    /// Element `n` of the vector `name`.
    fn element(&self, name: &str, key: u64, n: u64) -> f32 {
        let around = |x: f32| random::uniform(key, n, 0.9 * x, 1.1 * x);
        match name.rsplit_once('.').map_or(name, |(stem, _)| stem).split('.').next_back().unwrap_or(name) {
            // Signs at random: the head is the embedding, and with a positive weight each row would find its own input
            // token again and the canvas be done after two steps.
            "output_norm" => around(1.0) * if random::bits(!key, n) & 1 == 0 { 1.0 } else { -1.0 },
            // Scores are q k with no other scale: for normed heads of width D, their deviation is w^2 sqrt(D). Make it 2.
            "attn_q_norm" | "attn_k_norm" => {
                let layer = name.split('.').nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
                around((2.0 / (self.config.head_dim_of(layer) as f32).sqrt()).sqrt())
            }
            // Times hidden^-0.5 at run time, so that logits have a deviation of 1.5: some experts weigh more than others.
            "ffn_gate_inp" => around(1.5 * (self.config.hidden as f32).sqrt()),
            "layer_output_scale" | "enc_layer_output_scale" => random::uniform(key, n, 0.9, 1.0),
            _ => around(1.0),
        }
    }

    /// A router whose rows have different sizes.
    fn skewed(&self, tensor: &Expected, key: u64, columns: usize) -> Vec<f32> {
        let deviation = deviation(&tensor.name, columns);
        let size = |expert: u64| deviation * (self.router_skew * random::normal(!key, expert)).exp();
        let count = tensor.shape.iter().product::<usize>() as u64;
        (0..count).map(|n| size(n / columns as u64) * random::normal(key, n)).collect()
    }

    fn pool(&mut self, format: &'static Format, deviation: f32, columns: usize) -> Result<Arc<Pool>> {
        let unit = UNIT.min(1 << columns.trailing_zeros());
        let id = (format.id, deviation.to_bits(), unit);
        if let Some(pool) = self.pools.get(&id) {
            return Ok(pool.clone());
        }
        let pool = Arc::new(Pool::new(format, deviation, unit, random::key(self.seed, format.name))?);
        self.pools.insert(id, pool.clone());
        Ok(pool)
    }
}

/// The deviation of a matrix with rows of `columns` elements. Inputs that are normed, to a mean square of 1, then give
/// outputs of the same size.
fn deviation(name: &str, columns: usize) -> f32 {
    // Embeddings are scaled by the root of their length; as a head they give logits with a deviation of 2, well below the
    // soft cap of 30.
    let factor = if name == "token_embd.weight" { 2.0 } else { 1.0 };
    factor / (columns as f32).sqrt()
}

/// Encoded random numbers.
struct Pool {
    format: &'static Format,
    /// Elements of a unit.
    unit: usize,
    bytes: Vec<u8>,
}

impl Pool {
    fn new(format: &'static Format, deviation: f32, unit: usize, key: u64) -> Result<Pool> {
        let bytes = format.row_bytes(unit).map(|bytes| bytes * (POOL / unit));
        let bytes = bytes.ok_or_else(|| Error::Internal(format!("units of {unit} do not fit {}", format.name)))?;
        let values: Vec<f32> = (0..POOL as u64).map(|n| deviation * random::normal(key, n)).collect();
        let mut pool = Pool { format, unit, bytes: vec![0; bytes] };
        (format.encode)(&values, None, &mut pool.bytes);
        Ok(pool)
    }
}

/// A tensor of units drawn from a pool.
struct Drawn {
    name: String,
    key: u64,
    pool: Arc<Pool>,
}

impl Source for Drawn {
    fn error(&self, what: &str) -> Error {
        Error::Internal(format!("generated tensor {}: {what}", self.name))
    }

    fn format(&self) -> Option<&'static Format> {
        Some(self.pool.format)
    }

    fn read_stored(&self, start: usize, out: &mut [u8]) -> Result<()> {
        let Pool { format, unit, bytes } = &*self.pool;
        let unit_bytes = unit / format.block * format.block_bytes;
        let first = (start / unit) as u64;
        for (n, out) in (first..).zip(out.chunks_exact_mut(unit_bytes)) {
            let at = random::below(self.key, n, (bytes.len() / unit_bytes) as u64) as usize;
            out.copy_from_slice(&bytes[at * unit_bytes..][..unit_bytes]);
        }
        Ok(())
    }
}

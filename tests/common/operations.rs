//! What the tests of single operations share: numbers, tensors, buffers, and the head's answer as a list.

use dgemma::backend::{Backend, HeadParams, HeadStats, HeadWeights};
use dgemma::gguf::{Bytes, Tensor};
use dgemma::quant::Format;
use std::sync::Arc;

/// Repeatable numbers in -1..1.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    /// A random tensor.
    pub fn tensor(&mut self, format: &'static Format, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let mut data = vec![0u8; n / format.block * format.block_bytes];
        (format.encode)(&self.vec(n), None, &mut data);
        let len = data.len();
        Tensor { name: "test".into(), shape: shape.to_vec(), format, data: Bytes::new(Arc::new(data), 0, len) }
    }
}

/// A buffer holding `values`.
pub fn upload<B: Backend>(b: &B, values: &[f32]) -> B::Buffer {
    let mut buffer = b.buffer(values.len(), "test").unwrap();
    b.write(values, &mut buffer, 0).unwrap();
    buffer
}

pub fn download<B: Backend>(b: &B, buffer: &B::Buffer, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    b.read(buffer, 0, &mut out).unwrap();
    out
}

/// What the head says about `rows` rows, as one list: argmax, draws, entropies, log-probabilities, the soft embedding.
pub fn head<B: Backend>(
    b: &B,
    table: &Tensor,
    other: Option<&Tensor>,
    x: &[f32],
    rows: usize,
    params: &HeadParams,
) -> Vec<f32> {
    let hidden = table.shape[0];
    let (table, other) = (b.weight(table.clone()).unwrap(), other.map(|t| b.weight(t.clone()).unwrap()));
    let mut soft = b.buffer(rows * hidden, "test").unwrap();
    let mut stats = HeadStats::default();
    let weights = HeadWeights { table: &table, embedding: other.as_ref().unwrap_or(&table) };
    b.head(weights, &upload(b, x), rows, params, &mut soft, &mut stats).unwrap();
    let ids = stats.argmax.iter().chain(&stats.sampled).map(|&id| id as f32);
    ids.chain(stats.entropy.iter().chain(&stats.log_prob).copied()).chain(download(b, &soft, rows * hidden)).collect()
}

//! What the benches multiply: weights of random blocks, and numbers.

use dgemma::backend::Backend;
use dgemma::backend::cpu::Cpu;
use dgemma::gguf::{Bytes, Tensor};
use dgemma::pages;
use dgemma::quant::Format;
use std::sync::Arc;

/// A weight of random blocks with scales that are ordinary numbers.
pub fn weight(cpu: &Cpu, format: &'static Format, shape: &[usize]) -> <Cpu as Backend>::Weight {
    let n: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..n.min(1 << 20)).map(|i| (i.wrapping_mul(2654435761) >> 8 & 0xffff) as f32 / 65536.0 - 0.5).collect();
    let mut pool = vec![0; values.len() / format.block * format.block_bytes];
    (format.encode)(&values, None, &mut pool);
    let bytes = n / format.block * format.block_bytes;
    // In huge pages, as files are where the system can.
    let mut data: Vec<u8> = Vec::with_capacity(bytes);
    pages::ask_for_huge(data.spare_capacity_mut());
    data.extend(pool.iter().copied().cycle().take(bytes));
    let data = Bytes::new(Arc::new(data), 0, bytes);
    cpu.weight(Tensor { name: "w".into(), shape: shape.to_vec(), format, data }).unwrap()
}

/// Activations of about the size of real ones.
pub fn numbers(cpu: &Cpu, n: usize) -> Vec<f32> {
    let mut x = cpu.buffer(n, "x").unwrap();
    x.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 7919 % 1000) as f32 / 500.0 - 1.0);
    x
}

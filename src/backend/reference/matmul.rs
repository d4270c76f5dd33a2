//! `out = x * weight^T`, one weight row at a time.

use crate::backend::host_weight::HostWeight;

/// Uses rows `first..first + n` of the weight's stack; x `[rows, cols]`, out `[rows, n]`.
pub fn matmul(weight: &HostWeight, first: usize, n: usize, x: &[f32], out: &mut [f32]) {
    let mut w = vec![0.0; weight.cols];
    for j in 0..n {
        weight.decode(first + j, 0, &mut w);
        for (t, x) in x.chunks_exact(weight.cols).enumerate() {
            out[t * n + j] = dot(x, &w);
        }
    }
}

/// The sum of products, in f64.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32
}

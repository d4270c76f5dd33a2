//! `x * rsqrt(mean(x^2) + eps) * weight`, for every row of `dim`.

pub fn rms_norm(x: &mut [f32], weight: Option<&[f32]>, dim: usize, eps: f32) {
    for row in x.chunks_exact_mut(dim) {
        let mean_square = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / dim as f64;
        let factor = (1.0 / (mean_square + f64::from(eps)).sqrt()) as f32;
        for (i, x) in row.iter_mut().enumerate() {
            *x *= factor * weight.map_or(1.0, |w| w[i]);
        }
    }
}

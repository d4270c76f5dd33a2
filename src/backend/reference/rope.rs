//! Rotary positions, NeoX pairing: element i of a head turns with element i + dim/2.

/// x `[rows, heads, dim]`; row t is position `start + t`. A zero frequency leaves its pair as it is.
pub fn rope(x: &mut [f32], inv_freq: &[f32], heads: usize, dim: usize, start: usize) {
    let half = dim / 2;
    for (t, row) in x.chunks_exact_mut(heads * dim).enumerate() {
        for head in row.chunks_exact_mut(dim) {
            for i in 0..half {
                // The product is rounded to f32 before the sine, as the reference implementation does.
                let (sin, cos) = ((start + t) as f32 * inv_freq[i]).sin_cos();
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * cos - b * sin;
                head[i + half] = b * cos + a * sin;
            }
        }
    }
}

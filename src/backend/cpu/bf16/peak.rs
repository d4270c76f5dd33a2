//! What the kernels are measured against: BF16 dot products on registers, with nothing to load or convert.

use crate::cpu_level::Avx512Bf16;

/// Independent sums: more than the latency of a dot product times how many start per cycle.
const SUMS: usize = 12;

/// Multiplications and additions of [`peak`].
pub fn peak_ops(rounds: usize) -> f64 {
    (4 * 16 * SUMS * rounds) as f64
}

/// Runs `rounds` rounds of the dot product into twelve sums; their sum, so that nothing is left out.
pub fn peak(_: Avx512Bf16, rounds: usize) -> f32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the token.
    return unsafe { dots(rounds) };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("{rounds}")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dots(rounds: usize) -> f32 {
    use std::arch::x86_64::*;
    use std::hint::black_box;
    let x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(1e-3)), _mm512_set1_ps(black_box(2e-3)));
    let mut sums = [_mm512_setzero_ps(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, x, x);
        }
    }
    sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
}

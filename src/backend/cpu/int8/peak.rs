//! What the kernels are measured against: 8-bit dot products on registers, with nothing to load, convert or scale.

use crate::cpu_level::CpuLevel;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Independent sums: more than the latency of a dot product times how many start per cycle.
const SUMS: usize = 12;

/// Multiplications and additions of [`peak`], with two for each pair.
pub fn peak_ops(level: CpuLevel, rounds: usize) -> f64 {
    let bytes = match level {
        CpuLevel::Scalar => 1,
        CpuLevel::Avx2(_) | CpuLevel::Avx512(_) => 32,
        CpuLevel::Avx512Vnni(_) => 64,
    };
    2.0 * (rounds * SUMS * bytes) as f64
}

/// Runs `rounds` rounds of the level's dot product into twelve sums; their sum, so that nothing is left out.
pub fn peak(level: CpuLevel, rounds: usize) -> i32 {
    match level {
        // SAFETY: the token.
        #[cfg(target_arch = "x86_64")]
        CpuLevel::Avx512Vnni(_) => unsafe { vnni(rounds) },
        // SAFETY: the token; AVX-512 without VNNI computes with AVX2.
        #[cfg(target_arch = "x86_64")]
        CpuLevel::Avx2(_) | CpuLevel::Avx512(_) => unsafe { avx2(rounds) },
        _ => (0..rounds * SUMS).fold(1, |sum: i32, i| sum.wrapping_add(std::hint::black_box(i as i32).wrapping_mul(3))),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni(rounds: usize) -> i32 {
    let (x, y) = (std::hint::black_box(_mm512_set1_epi8(3)), std::hint::black_box(_mm512_set1_epi8(-5)));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, y);
        }
    }
    sums.into_iter().fold(0i32, |all, sum| all.wrapping_add(_mm512_reduce_add_epi32(sum)))
}

/// One sum of two products in 16 bits, widened: what a format with large codes has to do.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(rounds: usize) -> i32 {
    let y = std::hint::black_box(_mm256_set1_epi8(-5));
    let ones = std::hint::black_box(_mm256_set1_epi16(1));
    // The sums are factors as well, or the compiler would compute the products once.
    let mut sums = [std::hint::black_box(_mm256_set1_epi8(3)); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(*sum, y), ones));
        }
    }
    let mut lanes = [0i32; 8];
    let all = sums.into_iter().fold(_mm256_setzero_si256(), |a, b| _mm256_add_epi32(a, b));
    // SAFETY: eight lanes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), all) };
    lanes.into_iter().fold(0, i32::wrapping_add)
}

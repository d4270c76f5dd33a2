//! Elementwise functions written so that the compiler vectorises them: no branches, no calls, fixed-size inner loops.

use crate::cpu_level::leveled;

/// e^x to about 2 ulp for x <= 88; 0 below -87.3 (no subnormal results).
///
/// e^x = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2. ln 2 is split in two (Cody and Waite) so that r is exact
/// to f32; the polynomial is the Taylor series to r^7, whose remainder (0.3466^8 / 8! = 5e-9) is below half an ulp.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4; // 355/512, exact in 9 bits: n * LN2_HI is exact
    const LN2_LO: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to the nearest integer
    let clamped = x.clamp(-87.3, 88.7);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HI) - n * LN2_LO;
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // The low bits of `shifted` hold n; moving them into the exponent multiplies by 2^n.
    let scaled = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x < -87.3 { 0.0 } else { scaled }
}

/// tanh through [`exp`]; absolute error about 1e-7.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp((2.0 * x).clamp(-40.0, 40.0));
    // Near zero the quotient cancels; the series is better there.
    let small = x - x * x * x * (1.0 / 3.0);
    if x.abs() < 0.01 { small } else { (e - 1.0) / (e + 1.0) }
}

/// GELU in its tanh form.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
}

leveled! {
    /// `gate = gelu_tanh(gate) * up`.
    pub fn gelu_mul(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = gelu_tanh(*g) * u;
        }
    }
}

leveled! {
    /// `l = factor * cap * tanh(l / cap)`, as `factor * cap * (1 - 2 / (e^(2 l / cap) + 1))`: one division, and absolute
    /// errors of some 1e-7 of `factor * cap`, near zero as elsewhere.
    pub fn softcap(logits: &mut [f32], cap: f32, factor: f32) {
        let (twice, scale) = (2.0 / cap, factor * cap);
        for l in logits {
            *l = scale - 2.0 * scale / (exp(*l * twice) + 1.0);
        }
    }
}

/// Sums are kept in this many lanes, in a fixed order, so that vectorised and plain code agree.
const LANES: usize = 16;

#[inline(always)]
fn fold_lanes(lanes: [f32; LANES]) -> f32 {
    lanes.iter().sum()
}

leveled! {
    /// Largest element; negative infinity for none.
    pub fn max(x: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (chunks, tail) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for (m, &x) in lanes.iter_mut().zip(chunk) {
                *m = if x > *m { x } else { *m };
            }
        }
        lanes.iter().chain(tail).copied().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
}

leveled! {
    /// How many elements are larger than `least`.
    pub fn count_above(x: &[f32], least: f32) -> usize {
        x.iter().map(|&x| u32::from(x > least)).sum::<u32>() as usize
    }
}

leveled! {
    /// `x = exp(x - max)`; the sum of the results.
    pub fn exp_sum(x: &mut [f32], max: f32) -> f32 {
        let mut lanes = [0.0; LANES];
        let (chunks, tail) = x.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for (s, x) in lanes.iter_mut().zip(chunk) {
                *x = exp(*x - max);
                *s += *x;
            }
        }
        let mut sum = fold_lanes(lanes);
        for x in tail {
            *x = exp(*x - max);
            sum += *x;
        }
        sum
    }
}

leveled! {
    /// `x = exp(x - max)`; the sums of the results and of the results times (x - max).
    pub fn exp_sums(x: &mut [f32], max: f32) -> (f32, f32) {
        let (mut sums, mut weighted) = ([0.0; LANES], [0.0; LANES]);
        let (chunks, tail) = x.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                let d = chunk[i] - max;
                let e = exp(d);
                chunk[i] = e;
                sums[i] += e;
                weighted[i] += e * d;
            }
        }
        let (mut sum, mut weight) = (fold_lanes(sums), fold_lanes(weighted));
        for x in tail {
            let d = *x - max;
            *x = exp(d);
            sum += *x;
            weight += *x * d;
        }
        (sum, weight)
    }
}

leveled! {
    /// `out = x * rsqrt(mean(x^2) + eps) * weight` for one row.
    pub fn rms_norm_row(x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        let factor = rms_factor(x, eps);
        match weight {
            Some(w) => out.iter_mut().zip(x).zip(w).for_each(|((o, x), w)| *o = x * factor * w),
            None => out.iter_mut().zip(x).for_each(|(o, x)| *o = x * factor),
        }
    }
}

leveled! {
    /// [`rms_norm_row`] with `out = x`.
    pub fn rms_norm_row_in_place(x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
        let factor = rms_factor(x, eps);
        match weight {
            Some(w) => x.iter_mut().zip(w).for_each(|(x, w)| *x = *x * factor * w),
            None => x.iter_mut().for_each(|x| *x *= factor),
        }
    }
}

leveled! {
    /// `acc += rms_norm(x)` for one row.
    pub fn rms_norm_add_row(x: &[f32], weight: &[f32], eps: f32, acc: &mut [f32]) {
        let factor = rms_factor(x, eps);
        acc.iter_mut().zip(x).zip(weight).for_each(|((a, x), w)| *a += x * factor * w);
    }
}

#[inline(always)]
fn rms_factor(x: &[f32], eps: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (s, x) in lanes.iter_mut().zip(chunk) {
            *s += x * x;
        }
    }
    let sum = fold_lanes(lanes) + tail.iter().map(|x| x * x).sum::<f32>();
    1.0 / (sum / x.len() as f32 + eps).sqrt()
}

leveled! {
    /// `x *= factor`.
    pub fn scale(x: &mut [f32], factor: f32) {
        x.iter_mut().for_each(|x| *x *= factor);
    }
}

leveled! {
    /// `acc += x`.
    pub fn add(x: &[f32], acc: &mut [f32]) {
        acc.iter_mut().zip(x).for_each(|(a, x)| *a += x);
    }
}

leveled! {
    /// `acc += x * factor`.
    pub fn add_scaled(x: &[f32], factor: f32, acc: &mut [f32]) {
        acc.iter_mut().zip(x).for_each(|(a, x)| *a += x * factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative bound 4 ulp: two roundings in the reduction and the last steps of the polynomial.
    #[test]
    fn exp_is_accurate_over_its_range() {
        for i in -873_000..=880_000 {
            let x = i as f32 * 1e-4;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got - want).abs() <= 4.0 * f64::from(f32::EPSILON) * want, "exp({x}) = {got}, expected {want}");
        }
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    /// The soft cap multiplies the error by 30, so the bound keeps logits to 1e-5.
    #[test]
    fn tanh_is_accurate() {
        for i in -200_000..=200_000 {
            let x = i as f32 * 1e-4;
            let (got, want) = (f64::from(tanh(x)), f64::from(x).tanh());
            assert!((got - want).abs() <= 3e-7, "tanh({x}) = {got}, expected {want}");
        }
    }

    #[test]
    fn levels_agree_bit_for_bit() {
        let x: Vec<f32> = (0..1003).map(|i| ((i * 7919) % 1000) as f32 * 0.01 - 5.0).collect();
        let run = |level| {
            let mut y = x.clone();
            let sums = exp_sums(level, &mut y, 5.0);
            let mut z = x.clone();
            rms_norm_row_in_place(level, &mut z, None, 1e-6);
            (sums, y, z, max(level, &x))
        };
        let want = run(crate::cpu_level::CpuLevel::Scalar);
        for level in crate::cpu_level::CpuLevel::available() {
            assert!(run(level) == want, "{}", level.name());
        }
    }
}

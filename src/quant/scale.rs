//! The search of formats whose values are scale * grid point, weighted least squares in all steps:
//!
//! ```text
//! for each sub-block                                          `scales`
//!     for each of several places on the grid for its largest value
//!         round everything to the grid; fit the scale to that; keep the best
//!     round with the fitted scale; fit again
//! where the scales are codes s of one scale d                 `quantized`
//!     twice
//!         d = what makes the largest scale the largest code; from the second time on, fitted to all values
//!         for each sub-block: of s and its neighbours, keep the one that leaves the smallest error
//! ```

use super::lanes::{GROUP, Group, Lanes, Weighting, groups, half_scale, nearest, reciprocal, within};
use super::set_half;

/// The values that codes stand for, before they are scaled.
pub(super) trait Grid {
    /// The smallest one.
    const LOW: f32;

    /// The grid point next to `x`, for any `x`.
    fn nearest(x: f32) -> f32;
}

/// All integers from LOW to HIGH.
pub(super) struct Integers<const LOW: i32, const HIGH: i32>;

impl<const LOW: i32, const HIGH: i32> Grid for Integers<LOW, HIGH> {
    const LOW: f32 = LOW as f32;

    #[inline(always)]
    fn nearest(x: f32) -> f32 {
        nearest(within(x, LOW as f32, HIGH as f32))
    }
}

/// Encodes blocks of one scale each, an F16 number that they begin with. `write` stores the codes, given values, reciprocal of
/// the scale and block; it is for closures of small functions, or the compiler may not put it here.
#[inline(always)]
pub(super) fn encode<G: Grid, const BLOCK: usize, const BYTES: usize>(
    src: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
    ends: &[f32],
    write: impl Fn(&[f32; BLOCK], f32, &mut [u8; BYTES]),
) {
    for (src, importance, dst) in groups::<BLOCK, BYTES>(src, importance, dst) {
        let group = Group::<BLOCK>::load(src, importance, Weighting::Magnitude);
        let scales = scales::<G, BLOCK, GROUP>(&group.lanes, ends);
        for (l, (x, block)) in src.as_chunks::<BLOCK>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0).enumerate() {
            let d = group.scale(l, scales[l]);
            set_half::<0, BYTES>(block, d);
            write(x, reciprocal(d), block);
        }
    }
}

/// The best scale of each sub-block. `ends`: grid positions to try for its largest value, of both signs.
#[inline(always)]
pub(super) fn scales<G: Grid, const N: usize, const L: usize>(b: &Lanes<N, L>, ends: &[f32]) -> [f32; L] {
    let to_one = inverses(&b.largest());
    let (mut best, mut best_gain) = ([0f32; L], [0f32; L]);
    let mut attempt = |inverse: &[f32; L]| {
        let (xv, vv) = sums::<G, N, L>(b, inverse);
        for l in 0..L {
            // What the fitted scale xv / vv explains of the sum of w x^2.
            let scale = xv[l] / vv[l];
            let gain = xv[l] * scale;
            let better = gain > best_gain[l];
            best[l] = if better { scale } else { best[l] };
            best_gain[l] = if better { gain } else { best_gain[l] };
        }
        best
    };
    let mut fitted = [0f32; L];
    for &end in ends {
        let mut inverse = to_one;
        for inverse in &mut inverse {
            *inverse *= end;
        }
        fitted = attempt(&inverse);
    }
    for _ in 0..2 {
        fitted = attempt(&inverses(&fitted));
    }
    fitted
}

/// Sums of w x v and w v^2 over each sub-block, v being x times `inverse` on the grid.
#[inline(always)]
fn sums<G: Grid, const N: usize, const L: usize>(b: &Lanes<N, L>, inverse: &[f32; L]) -> ([f32; L], [f32; L]) {
    let (mut xv, mut vv) = ([0f32; L], [0f32; L]);
    for (x, w) in b.x.iter().zip(&b.w) {
        for l in 0..L {
            let v = G::nearest(x[l] * inverse[l]);
            let wv = w[l] * v;
            xv[l] += wv * x[l];
            vv[l] += wv * v;
        }
    }
    (xv, vv)
}

#[inline(always)]
fn inverses<const L: usize>(x: &[f32; L]) -> [f32; L] {
    let mut out = [0f32; L];
    for l in 0..L {
        out[l] = reciprocal(x[l]);
    }
    out
}

/// The scale `d`, an F16 number, and the integer scales `s` of the sub-blocks.
#[derive(Clone, Copy)]
pub(super) struct Quantized<const L: usize> {
    pub d: f32,
    pub s: [f32; L],
}

/// Writes the scales found for the sub-blocks as integers times one F16 number. `largest` is what the values were divided
/// by; `low ..= high` bounds the integers, and the scale of largest magnitude starts at `low`.
#[inline(always)]
pub(super) fn quantized<G: Grid, const N: usize, const L: usize>(
    b: &Lanes<N, L>,
    largest: f32,
    scales: &[f32; L],
    low: f32,
    high: f32,
) -> Quantized<L> {
    let top = scales.iter().fold(0f32, |m, &s| if s.abs() > m.abs() { s } else { m });
    let mut best = Quantized { d: half_scale(top / low * largest), s: [0.0; L] };
    if top == 0.0 {
        return best;
    }
    let mut best_error = f32::INFINITY;
    let (mut d, mut start) = (best.d, *scales);
    for _ in 0..3 {
        let (s, error, fitted) = integers::<G, N, L>(b, d / largest, &start, low, high);
        if error < best_error {
            (best, best_error) = (Quantized { d, s }, error);
        }
        for l in 0..L {
            start[l] = s[l] * (d / largest);
        }
        let next = half_scale(fitted * largest);
        if next == d || !next.is_finite() {
            break;
        }
        d = next;
    }
    best
}

/// The best integer scale of each sub-block near `scales[l] / d`, the error they leave, and the `d` that fits them best.
#[inline(always)]
fn integers<G: Grid, const N: usize, const L: usize>(
    b: &Lanes<N, L>,
    d: f32,
    scales: &[f32; L],
    low: f32,
    high: f32,
) -> ([f32; L], f32, f32) {
    let (mut best, mut best_error) = ([0f32; L], [f32::INFINITY; L]);
    let (mut best_xv, mut best_vv) = ([0f32; L], [0f32; L]);
    for step in [0.0, -1.0, 1.0] {
        let (mut s, mut inverse) = ([0f32; L], [0f32; L]);
        for l in 0..L {
            s[l] = within(nearest(within(scales[l] / d, low, high)) + step, low, high);
            inverse[l] = reciprocal(d * s[l]);
        }
        let (mut error, mut xv, mut vv) = ([0f32; L], [0f32; L], [0f32; L]);
        for (x, w) in b.x.iter().zip(&b.w) {
            for l in 0..L {
                let v = G::nearest(x[l] * inverse[l]) * s[l];
                let off = x[l] - d * v;
                error[l] += w[l] * off * off;
                xv[l] += w[l] * x[l] * v;
                vv[l] += w[l] * v * v;
            }
        }
        for l in 0..L {
            let better = error[l] < best_error[l];
            best[l] = if better { s[l] } else { best[l] };
            best_error[l] = if better { error[l] } else { best_error[l] };
            best_xv[l] = if better { xv[l] } else { best_xv[l] };
            best_vv[l] = if better { vv[l] } else { best_vv[l] };
        }
    }
    let sum = |of: &[f32; L]| of.iter().sum::<f32>();
    (best, sum(&best_error), sum(&best_xv) / sum(&best_vv))
}

//! The search of formats whose values are scale * code - minimum, codes 0 ..= TOP. As in `scale.rs`, with two numbers to
//! fit instead of one.

use super::lanes::{GROUP, Group, Lanes, Weighting, groups, half_scale, nearest, reciprocal, within};
use super::set_half;

/// Scales and minimums of sub-blocks: value = scale * code - min.
#[derive(Clone, Copy)]
pub(super) struct Lines<const L: usize> {
    pub scale: [f32; L],
    pub min: [f32; L],
}

/// What the codes of a sub-block say about the best line through them: sums of w c, w c^2, w x c.
struct Sums<const L: usize> {
    c: [f32; L],
    cc: [f32; L],
    xc: [f32; L],
}

/// Encodes blocks of one scale and one value for code 0 each, two F16 numbers that they begin with. `write` stores the codes.
#[inline(always)]
pub(super) fn encode<const TOP: i32, const BLOCK: usize, const BYTES: usize>(
    src: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
    tops: &[f32],
    write: impl Fn(&[u8; BLOCK], &mut [u8; BYTES]),
) {
    for (src, importance, dst) in groups::<BLOCK, BYTES>(src, importance, dst) {
        let group = Group::<BLOCK>::load(src, importance, Weighting::Magnitude);
        let lines = lines::<TOP, false, BLOCK, GROUP>(&group.lanes, tops);
        for (l, (x, block)) in src.as_chunks::<BLOCK>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0).enumerate() {
            let (d, m) = (group.scale(l, lines.scale[l]), group.scale(l, -lines.min[l]));
            let inverse = reciprocal(d);
            set_half::<0, BYTES>(block, d);
            set_half::<2, BYTES>(block, m);
            write(&x.map(|x| code::<TOP>(x, inverse, -m) as u8), block);
        }
    }
}

/// The best line of each sub-block. `tops`: codes, not necessarily whole, to try for its largest value. With `ONE_SIDED`
/// the minimum is not negative, so that 0 is always within reach.
#[inline(always)]
pub(super) fn lines<const TOP: i32, const ONE_SIDED: bool, const N: usize, const L: usize>(
    b: &Lanes<N, L>,
    tops: &[f32],
) -> Lines<L> {
    let (mut low, high) = b.range();
    let (mut w, mut x) = ([0f32; L], [0f32; L]);
    for (xs, ws) in b.x.iter().zip(&b.w) {
        for l in 0..L {
            w[l] += ws[l];
            x[l] += ws[l] * xs[l];
        }
    }
    for low in &mut low {
        *low = if ONE_SIDED && *low > 0.0 { 0.0 } else { *low };
    }
    let mut best = Lines { scale: [0.0; L], min: [0.0; L] };
    let mut best_gain = [0f32; L];
    // Without codes: the mean, where a minimum can be that.
    for l in 0..L {
        let flat = if ONE_SIDED { x[l] < 0.0 } else { w[l] > 0.0 };
        best.min[l] = if flat { -x[l] / w[l] } else { 0.0 };
        best_gain[l] = if flat { x[l] * x[l] / w[l] } else { 0.0 };
    }
    let mut attempt = |inverse: &[f32; L], min: &[f32; L]| {
        let sums = sums::<TOP, N, L>(b, inverse, min);
        for l in 0..L {
            let (c, cc, xc) = (sums.c[l], sums.cc[l], sums.xc[l]);
            // Codes that are all the same, but for rounding, leave one number to fit.
            let determinant = w[l] * cc - c * c;
            let line = determinant > 1e-6 * w[l] * cc;
            let (mut scale, mut min) = ((w[l] * xc - x[l] * c) / determinant, (c * xc - cc * x[l]) / determinant);
            if ONE_SIDED {
                let clipped = !line || min < 0.0;
                scale = if clipped { xc / cc } else { scale };
                min = if clipped { 0.0 } else { min };
            }
            // What the line explains of the sum of w x^2.
            let gain = scale * xc - min * x[l];
            let better = gain > best_gain[l] && scale > 0.0 && (ONE_SIDED || line);
            best_gain[l] = if better { gain } else { best_gain[l] };
            best.scale[l] = if better { scale } else { best.scale[l] };
            best.min[l] = if better { min } else { best.min[l] };
        }
        best
    };
    let mut fitted = Lines { scale: [0.0; L], min: [0.0; L] };
    for &top in tops {
        let (mut inverse, mut min) = ([0f32; L], [0f32; L]);
        for l in 0..L {
            inverse[l] = top * reciprocal(high[l] - low[l]);
            min[l] = -low[l];
        }
        fitted = attempt(&inverse, &min);
    }
    for _ in 0..2 {
        fitted = attempt(&fitted.scale.map(reciprocal), &fitted.min);
    }
    fitted
}

/// The code of `x`.
#[inline(always)]
pub(super) fn code<const TOP: i32>(x: f32, inverse: f32, min: f32) -> f32 {
    nearest(within((x + min) * inverse, 0.0, TOP as f32))
}

#[inline(always)]
fn sums<const TOP: i32, const N: usize, const L: usize>(
    b: &Lanes<N, L>,
    inverse: &[f32; L],
    min: &[f32; L],
) -> Sums<L> {
    let mut sums = Sums { c: [0.0; L], cc: [0.0; L], xc: [0.0; L] };
    for (x, w) in b.x.iter().zip(&b.w) {
        for l in 0..L {
            let c = code::<TOP>(x[l], inverse[l], min[l]);
            let wc = w[l] * c;
            sums.c[l] += wc;
            sums.cc[l] += wc * c;
            sums.xc[l] += wc * x[l];
        }
    }
    sums
}

/// Two F16 numbers, and the integers of the sub-blocks: scale = d * s, minimum = dmin * n.
#[derive(Clone, Copy)]
pub(super) struct Quantized<const L: usize> {
    pub d: f32,
    pub dmin: f32,
    pub s: [f32; L],
    pub n: [f32; L],
}

/// Writes the lines found for the sub-blocks as integers 0 ..= `MOST` times F16 numbers. `largest` is what the values were
/// divided by.
#[inline(always)]
pub(super) fn quantized<const TOP: i32, const MOST: i32, const N: usize, const L: usize>(
    b: &Lanes<N, L>,
    largest: f32,
    lines: &Lines<L>,
) -> Quantized<L> {
    let most = |of: &[f32; L]| of.iter().fold(0f32, |m, &x| if x > m { x } else { m });
    let mut d = half_scale(most(&lines.scale) / MOST as f32 * largest);
    let mut dmin = half_scale(most(&lines.min) / MOST as f32 * largest);
    let mut best = Quantized { d, dmin, s: [0.0; L], n: [0.0; L] };
    let mut best_error = f32::INFINITY;
    let mut start = *lines;
    for _ in 0..3 {
        let (s, n, error, fitted) = integers::<TOP, MOST, N, L>(b, (d / largest, dmin / largest), &start);
        if error < best_error {
            (best, best_error) = (Quantized { d, dmin, s, n }, error);
        }
        for l in 0..L {
            start.scale[l] = s[l] * (d / largest);
            start.min[l] = n[l] * (dmin / largest);
        }
        let next = (half_scale(fitted.0 * largest), half_scale(fitted.1 * largest));
        let usable = next.0 > 0.0 && next.1 >= 0.0 && next.0.is_finite() && next.1.is_finite();
        if next == (d, dmin) || !usable {
            break;
        }
        (d, dmin) = next;
    }
    best
}

/// The best pair of integers of each sub-block near `lines`, the error they leave, and the (d, dmin) that fit them best.
#[inline(always)]
fn integers<const TOP: i32, const MOST: i32, const N: usize, const L: usize>(
    b: &Lanes<N, L>,
    (d, dmin): (f32, f32),
    lines: &Lines<L>,
) -> ([f32; L], [f32; L], f32, (f32, f32)) {
    let (to_s, to_n) = (reciprocal(d), reciprocal(dmin));
    let (mut best_s, mut best_n, mut best_error) = ([0f32; L], [0f32; L], [f32::INFINITY; L]);
    let mut best = Sums { c: [0.0; L], cc: [0.0; L], xc: [0.0; L] };
    let integer = |x: f32, step: f32| within(nearest(within(x, 0.0, MOST as f32)) + step, 0.0, MOST as f32);
    for (step_s, step_n) in STEPS {
        let (mut s, mut n) = ([0f32; L], [0f32; L]);
        let (mut scale, mut inverse, mut min) = ([0f32; L], [0f32; L], [0f32; L]);
        for l in 0..L {
            s[l] = integer(lines.scale[l] * to_s, step_s);
            n[l] = integer(lines.min[l] * to_n, step_n);
            scale[l] = d * s[l];
            inverse[l] = reciprocal(scale[l]);
            min[l] = dmin * n[l];
        }
        let mut sums = Sums { c: [0.0; L], cc: [0.0; L], xc: [0.0; L] };
        let mut error = [0f32; L];
        for (x, w) in b.x.iter().zip(&b.w) {
            for l in 0..L {
                let c = code::<TOP>(x[l], inverse[l], min[l]);
                let off = x[l] - (scale[l] * c - min[l]);
                let wc = w[l] * c;
                error[l] += w[l] * off * off;
                sums.c[l] += wc;
                sums.cc[l] += wc * c;
                sums.xc[l] += wc * x[l];
            }
        }
        for l in 0..L {
            let better = error[l] < best_error[l];
            best_s[l] = if better { s[l] } else { best_s[l] };
            best_n[l] = if better { n[l] } else { best_n[l] };
            best_error[l] = if better { error[l] } else { best_error[l] };
            best.c[l] = if better { sums.c[l] } else { best.c[l] };
            best.cc[l] = if better { sums.cc[l] } else { best.cc[l] };
            best.xc[l] = if better { sums.xc[l] } else { best.xc[l] };
        }
    }
    (best_s, best_n, best_error.iter().sum(), fit(b, &best_s, &best_n, &best))
}

/// Steps from the nearest integers of a scale and a minimum.
const STEPS: [(f32, f32); 9] =
    [(0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)];

/// The (d, dmin) that leave the smallest sum of w (x - d s c + dmin n)^2 over all sub-blocks.
#[inline(always)]
fn fit<const N: usize, const L: usize>(b: &Lanes<N, L>, s: &[f32; L], n: &[f32; L], of: &Sums<L>) -> (f32, f32) {
    let (mut w, mut x) = ([0f32; L], [0f32; L]);
    for (xs, ws) in b.x.iter().zip(&b.w) {
        for l in 0..L {
            w[l] += ws[l];
            x[l] += ws[l] * xs[l];
        }
    }
    let (mut ss, mut sn, mut nn, mut xs, mut xn) = (0f32, 0f32, 0f32, 0f32, 0f32);
    for l in 0..L {
        ss += s[l] * s[l] * of.cc[l];
        sn += s[l] * n[l] * of.c[l];
        nn += n[l] * n[l] * w[l];
        xs += s[l] * of.xc[l];
        xn += n[l] * x[l];
    }
    if nn == 0.0 {
        return (xs / ss, 0.0);
    }
    let determinant = ss * nn - sn * sn;
    ((xs * nn - xn * sn) / determinant, (xs * sn - xn * ss) / determinant)
}

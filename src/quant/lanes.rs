//! What an encoder that searches looks at: a few sub-blocks side by side, one in each lane of a vector, so that every sum
//! over a sub-block is a sum of whole vectors. Nothing is added across lanes, hence all processors compute the same bits.

use super::{encoding, f16, set_half};

/// Below this a block is zero in every format: the smallest F16 number is 6e-8. Its reciprocal is still finite.
const VANISHING: f32 = 1e-30;

/// How much an error in `x` matters where nothing is known about the inputs of the tensor.
#[derive(Clone, Copy)]
pub(super) enum Weighting {
    /// x^2: large weights matter most.
    Square,
    /// rms / 4 + |x|, with the root mean square of the sub-block. With the quarter, neither the plain error nor the one
    /// weighted by x^2 is more than 0.5 % above ggml's in any format (`tests/quant_quality.rs`); with a whole rms, Q2_K has 11 %
    /// more of the second.
    Magnitude,
}

/// Values, of magnitude 1 at most, and the weights of their errors: `x[i][l]` is element i of sub-block l.
pub(super) struct Lanes<const N: usize, const L: usize> {
    pub x: [[f32; L]; N],
    pub w: [[f32; L]; N],
}

impl<const N: usize, const L: usize> Lanes<N, L> {
    /// From `N * L` elements, each sub-block multiplied by its `inverse`. With `importance` that is the weight, scaled so that
    /// all of them are 1 at most: importance is the mean square of a column's input, so the weighted error is that of the
    /// product, in the mean. (llama.cpp multiplies with sqrt(2 mean x^2 + x^2) in most formats, which favours large weights; on
    /// the built-in model that leaves a larger KL divergence, see quantize/README.md.) A sub-block without any importance is
    /// weighted as if there were none given.
    #[inline(always)]
    pub fn load(src: &[f32], importance: Option<&[f32]>, inverse: &[f32; L], weighting: Weighting) -> Self {
        let x = transposed::<N, L>(src);
        let mut lanes = Lanes { x, w: [[0.0; L]; N] };
        let mut squares = [0f32; L];
        for x in &mut lanes.x {
            for l in 0..L {
                x[l] *= inverse[l];
                squares[l] += x[l] * x[l];
            }
        }
        let mean = squares.map(|sum| sum / N as f32);
        match importance {
            None => lanes.weigh(&mean, weighting),
            Some(importance) => lanes.weigh_by(importance, &mean, weighting),
        }
        lanes
    }

    #[inline(always)]
    fn weigh(&mut self, mean: &[f32; L], weighting: Weighting) {
        for (x, w) in self.x.iter().zip(&mut self.w) {
            for l in 0..L {
                w[l] = match weighting {
                    Weighting::Square => x[l] * x[l],
                    Weighting::Magnitude => 0.25 * mean[l].sqrt() + x[l].abs(),
                };
            }
        }
    }

    #[inline(always)]
    fn weigh_by(&mut self, importance: &[f32], mean: &[f32; L], weighting: Weighting) {
        self.weigh(mean, weighting);
        let importance = transposed::<N, L>(importance);
        let mut largest = [0f32; L];
        for row in &importance {
            for l in 0..L {
                largest[l] = if row[l] > largest[l] { row[l] } else { largest[l] };
            }
        }
        let all = largest.iter().fold(0f32, |m, &x| if x > m { x } else { m });
        for (w, importance) in self.w.iter_mut().zip(&importance) {
            for l in 0..L {
                w[l] = if largest[l] > 0.0 && all.is_finite() { importance[l] / all } else { w[l] };
            }
        }
    }

    /// The value of largest magnitude of each sub-block, with its sign.
    #[inline(always)]
    pub fn largest(&self) -> [f32; L] {
        let mut m = [0f32; L];
        for x in &self.x {
            for l in 0..L {
                m[l] = if x[l].abs() > m[l].abs() { x[l] } else { m[l] };
            }
        }
        m
    }

    /// Smallest and largest value of each sub-block.
    #[inline(always)]
    pub fn range(&self) -> ([f32; L], [f32; L]) {
        let (mut min, mut max) = (self.x[0], self.x[0]);
        for x in &self.x {
            for l in 0..L {
                min[l] = if x[l] < min[l] { x[l] } else { min[l] };
                max[l] = if x[l] > max[l] { x[l] } else { max[l] };
            }
        }
        (min, max)
    }
}

/// Sub-blocks become columns.
#[inline(always)]
fn transposed<const N: usize, const L: usize>(src: &[f32]) -> [[f32; L]; N] {
    let mut out = [[0f32; L]; N];
    let (src, _) = src.as_chunks::<N>();
    for (l, src) in src.iter().enumerate().take(L) {
        for i in 0..N {
            out[i][l] = src[i];
        }
    }
    out
}

/// Blocks that are searched together when each has a scale of its own.
pub(super) const GROUP: usize = 16;

/// Up to [`GROUP`] blocks of `N` elements, one in each lane, each with its own magnitude.
pub(super) struct Group<const N: usize> {
    pub lanes: Lanes<N, GROUP>,
    /// What each block was divided by. Where it is zero or not finite, the lane is zero, and this is the scale to store.
    pub largest: [f32; GROUP],
}

impl<const N: usize> Group<N> {
    /// From at most `GROUP` blocks; lanes beyond them are zero.
    #[inline(always)]
    pub fn load(src: &[f32], importance: Option<&[f32]>, weighting: Weighting) -> Self {
        let (mut largest, mut inverse) = ([0f32; GROUP], [0f32; GROUP]);
        let mut finite = [[0f32; N]; GROUP];
        for (l, x) in src.as_chunks::<N>().0.iter().enumerate() {
            match Magnitude::of(x) {
                Magnitude::Zero => {}
                Magnitude::Not(x) => largest[l] = x,
                Magnitude::Normal { largest: size, inverse: to_one } => {
                    (largest[l], inverse[l]) = (size, to_one);
                    finite[l] = *x;
                }
            }
        }
        // Lanes beyond the last block need weights too; whichever. Each block counts for itself: its largest weight is 1.
        let mut weights = [[0f32; N]; GROUP];
        let importance = importance.map(|given| {
            for (to, from) in weights.iter_mut().zip(given.as_chunks::<N>().0) {
                let mut most = 0f32;
                for &w in from {
                    most = if w > most { w } else { most };
                }
                for i in 0..N {
                    to[i] = if most > 0.0 && most.is_finite() { from[i] / most } else { 0.0 };
                }
            }
            weights.as_flattened()
        });
        Self { lanes: Lanes::load(finite.as_flattened(), importance, &inverse, weighting), largest }
    }

    /// The F16 number to store for `scale`, found in lane `l`: no larger than the values, so that it overflows only if
    /// they do.
    #[inline(always)]
    pub fn scale(&self, l: usize, scale: f32) -> f32 {
        if self.largest[l].is_finite() {
            half_scale(within(scale, -1.0, 1.0) * self.largest[l])
        } else {
            self.largest[l]
        }
    }
}

/// Pairs up to [`GROUP`] blocks of elements, and their importance, with the same blocks of bytes. Panics when the lengths
/// do not match.
#[inline(always)]
pub(super) fn groups<'a, const BLOCK: usize, const BYTES: usize>(
    src: &'a [f32],
    importance: Option<&'a [f32]>,
    dst: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32], Option<&'a [f32]>, &'a mut [u8])> {
    check::<BLOCK, BYTES>(src, importance, dst);
    let dst = dst.chunks_mut(GROUP * BYTES);
    src.chunks(GROUP * BLOCK).zip(dst).enumerate().map(move |(i, (src, dst))| {
        let at = i * GROUP * BLOCK;
        (src, importance.map(|weights| &weights[at..at + src.len()]), dst)
    })
}

/// Pairs blocks of elements, and their importance, with blocks of bytes. Panics when the lengths do not match.
#[inline(always)]
pub(super) fn blocks<'a, const BLOCK: usize, const BYTES: usize>(
    src: &'a [f32],
    importance: Option<&'a [f32]>,
    dst: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; BLOCK], Option<&'a [f32]>, &'a mut [u8; BYTES])> {
    check::<BLOCK, BYTES>(src, importance, dst);
    encoding::<BLOCK, BYTES>(src, dst)
        .enumerate()
        .map(move |(i, (src, dst))| (src, importance.map(|weights| &weights[i * BLOCK..(i + 1) * BLOCK]), dst))
}

fn check<const BLOCK: usize, const BYTES: usize>(src: &[f32], importance: Option<&[f32]>, dst: &[u8]) {
    assert!(src.len().is_multiple_of(BLOCK) && dst.len().is_multiple_of(BYTES), "not a whole number of blocks");
    assert_eq!(src.len() / BLOCK, dst.len() / BYTES, "different numbers of blocks");
    assert!(importance.is_none_or(|weights| weights.len() == src.len()), "one weight for each element");
}

/// What a search needs to know of a block before it starts.
enum Magnitude {
    /// Everything is zero after encoding.
    Zero,
    /// Largest magnitude, and its reciprocal.
    Normal { largest: f32, inverse: f32 },
    /// Not finite: the scale that says so.
    Not(f32),
}

impl Magnitude {
    /// Of a block of values. NaN counts as larger than infinity.
    #[inline(always)]
    fn of(x: &[f32]) -> Self {
        let mut lanes = [0i32; 16];
        let (chunks, rest) = x.as_chunks::<16>();
        debug_assert!(rest.is_empty());
        for x in chunks {
            for l in 0..16 {
                lanes[l] = lanes[l].max((x[l].to_bits() & 0x7fff_ffff) as i32);
            }
        }
        let largest = f32::from_bits(lanes.iter().fold(0, |m, &x| m.max(x)) as u32);
        match largest {
            _ if largest < VANISHING => Magnitude::Zero,
            _ if largest.is_finite() => Magnitude::Normal { largest, inverse: 1.0 / largest },
            _ => Magnitude::Not(largest),
        }
    }
}

/// Clears `block` for an encoder: the largest magnitude and its reciprocal, or `None` where nothing is left to do, because the
/// block is zero or, by its scale at byte `AT`, not finite.
#[inline(always)]
pub(super) fn begin<const AT: usize, const BYTES: usize>(x: &[f32], block: &mut [u8; BYTES]) -> Option<(f32, f32)> {
    block.fill(0);
    match Magnitude::of(x) {
        Magnitude::Zero => None,
        Magnitude::Not(x) => {
            set_half::<AT, BYTES>(block, x);
            None
        }
        Magnitude::Normal { largest, inverse } => Some((largest, inverse)),
    }
}

/// The nearest F16 number, but zero only for zero: a scale that vanishes would take all codes with it.
#[inline(always)]
pub(super) fn half_scale(x: f32) -> f32 {
    const SMALLEST: f32 = 1.0 / (1 << 24) as f32;
    let rounded = f16::to_f32(f16::from_f32(x));
    if rounded == 0.0 && x != 0.0 { SMALLEST.copysign(x) } else { rounded }
}

/// Rounds to nearest, ties to even, within -2^22 .. 2^22, on any processor: beyond 2^23 an F32 has no fraction.
#[inline(always)]
pub(super) fn nearest(x: f32) -> f32 {
    const SHIFT: f32 = 12582912.0;
    (x + SHIFT) - SHIFT
}

/// `x` within `low ..= high`; `low` for NaN. `f32::clamp` would keep a NaN, and cost more.
#[inline(always)]
pub(super) fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// 1 / x, and 0 for 0.
#[inline(always)]
pub(super) fn reciprocal(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

//! How far two tensors are apart, in numbers, whatever they are stored in.

use dgemma::gguf::Tensor;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements compared at a time, a multiple of every block.
const CHUNK: usize = 1 << 18;

/// The difference between two lists of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The largest difference between two elements; NaN if one is.
    pub max_abs: f64,
    /// The root of the mean square of the differences.
    pub rmse: f64,
    /// The cosine of the angle between the two as vectors; 1 if both are zero.
    pub cosine: f64,
}

impl Difference {
    /// Decodes and compares two tensors with equal numbers of elements, on all processors. The result does not depend on
    /// how many there are.
    pub fn between(a: &Tensor, b: &Tensor) -> Difference {
        let elements: usize = a.shape.iter().product();
        let (next, sums) = (AtomicUsize::new(0), Mutex::new(vec![Sums::default(); elements.div_ceil(CHUNK)]));
        let work = || {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                let start = chunk * CHUNK;
                if start >= elements {
                    return;
                }
                decode(a, start, &mut left, CHUNK.min(elements - start));
                decode(b, start, &mut right, CHUNK.min(elements - start));
                let one = Sums::of(&left, &right);
                sums.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[chunk] = one;
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(elements.div_ceil(CHUNK));
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        let sums = sums.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        sums.iter().fold(Sums::default(), Sums::add).difference(elements)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max |a-b| {:.3e}, rmse {:.3e}, cosine {:.8}", self.max_abs, self.rmse, self.cosine)
    }
}

/// Elements `start..start + count`.
fn decode(tensor: &Tensor, start: usize, out: &mut Vec<f32>, count: usize) {
    let bytes = |elements: usize| elements / tensor.format.block * tensor.format.block_bytes;
    out.resize(count, 0.0);
    (tensor.format.decode)(&tensor.data[bytes(start)..bytes(start + count)], out);
}

#[derive(Clone, Copy, Default)]
struct Sums {
    max_abs: f64,
    squares: f64,
    aa: f64,
    bb: f64,
    ab: f64,
}

impl Sums {
    fn of(a: &[f32], b: &[f32]) -> Sums {
        let mut sums = Sums::default();
        for (&a, &b) in a.iter().zip(b) {
            let (a, b) = (f64::from(a), f64::from(b));
            // Equal infinities do not differ.
            let difference = if a == b { 0.0 } else { (a - b).abs() };
            let one = Sums { max_abs: difference, squares: difference * difference, aa: a * a, bb: b * b, ab: a * b };
            sums = sums.add(&one);
        }
        sums
    }

    fn add(self, other: &Sums) -> Sums {
        let has_nan = self.max_abs.is_nan() || other.max_abs.is_nan();
        Sums {
            max_abs: if has_nan { f64::NAN } else { self.max_abs.max(other.max_abs) },
            squares: self.squares + other.squares,
            aa: self.aa + other.aa,
            bb: self.bb + other.bb,
            ab: self.ab + other.ab,
        }
    }

    fn difference(&self, elements: usize) -> Difference {
        let norms = (self.aa * self.bb).sqrt();
        let cosine = match (self.aa, self.bb) {
            (0.0, 0.0) => 1.0,
            (0.0, _) | (_, 0.0) => 0.0,
            _ => self.ab / norms,
        };
        Difference { max_abs: self.max_abs, rmse: (self.squares / elements as f64).sqrt(), cosine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dgemma::gguf::Bytes;
    use std::sync::Arc;

    fn tensor(values: &[f32], format: &str) -> Tensor {
        let format = dgemma::quant::by_name(format).unwrap();
        let mut data = vec![0; values.len() / format.block * format.block_bytes];
        (format.encode)(values, None, &mut data);
        let len = data.len();
        Tensor { name: String::new(), shape: vec![values.len()], format, data: Bytes::new(Arc::new(data), 0, len) }
    }

    #[test]
    fn small_ones_by_hand() {
        let between = |a: &[f32], b: &[f32]| Difference::between(&tensor(a, "F32"), &tensor(b, "F32"));
        assert_eq!(between(&[3.0, 4.0], &[4.0, 3.0]), Difference { max_abs: 1.0, rmse: 1.0, cosine: 24.0 / 25.0 });
        assert_eq!(between(&[1.0, 0.0], &[0.0, 1.0]).cosine, 0.0);
        assert_eq!(between(&[0.0; 4], &[0.0; 4]), Difference { max_abs: 0.0, rmse: 0.0, cosine: 1.0 });
        assert_eq!(between(&[0.0; 4], &[2.0; 4]), Difference { max_abs: 2.0, rmse: 2.0, cosine: 0.0 });
        assert!(between(&[f32::NAN, 1.0], &[5.0, 1.0]).max_abs.is_nan());
        assert_eq!(between(&[f32::INFINITY, 1.0], &[f32::INFINITY, 3.0]).max_abs, 2.0);
    }

    /// Several chunks, the last one not full; different formats.
    #[test]
    fn large_ones_in_chunks() {
        let mut values: Vec<f32> = (0..2 * CHUNK + 64).map(|i| (i % 255) as f32 - 127.0).collect();
        let a = tensor(&values, "F32");
        assert_eq!(Difference::between(&a, &a).max_abs, 0.0);
        values[2 * CHUNK + 63] += 3.0;
        let b = tensor(&values, "BF16");
        let difference = Difference::between(&a, &b);
        assert_eq!((difference.max_abs, difference.rmse), (3.0, (9.0 / values.len() as f64).sqrt()));
        assert!(difference.cosine < 1.0 && difference.cosine > 0.999_999);
    }
}

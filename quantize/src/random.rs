//! Random numbers that depend on a key and a position only, so that threads can draw them in any order, and that are the
//! same on every machine: nothing but integers and exactly rounded operations.

/// The `n`th number of the stream `key`: the finalizer of SplitMix64, a bijection that passes the usual test batteries.
pub fn bits(key: u64, n: u64) -> u64 {
    let mut x = key.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A key for a stream of its own, from another key and a name.
pub fn key(parent: u64, name: &str) -> u64 {
    name.bytes().fold(bits(parent, 0), |key, byte| bits(key, byte.into()))
}

/// The `n`th number below `limit`, which must not be 0. The bias is limit / 2^64.
pub fn below(key: u64, n: u64, limit: u64) -> u64 {
    ((u128::from(bits(key, n)) * u128::from(limit)) >> 64) as u64
}

/// The `n`th number in `low..high`.
pub fn uniform(key: u64, n: u64, low: f32, high: f32) -> f32 {
    low + (high - low) * ((bits(key, n) >> 40) as f32 / (1 << 24) as f32)
}

/// The `n`th number of a normal distribution with mean 0 and deviation 1, as the sum of twelve uniform ones: exact on every
/// machine, where logarithms and cosines are not. No magnitude is above 6.
pub fn normal(key: u64, n: u64) -> f32 {
    let sum: u64 =
        (0..3).map(|i| bits(key, 3 * n + i)).map(|x| (0..4).map(|j| (x >> (16 * j)) & 0xffff).sum::<u64>()).sum();
    // Twelve numbers in 0..65536, each half a step too small.
    (sum as f32 + 6.0) / 65536.0 - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_the_right_moments() {
        let key = key(7, "moments");
        let n = 200_000;
        let moment = |power| (0..n).map(|i| f64::from(normal(key, i)).powi(power)).sum::<f64>() / n as f64;
        // Deviations of the means: 1, sqrt(2) and sqrt(96) over sqrt(n); the fourth moment of this sum is 2.9.
        assert!(moment(1).abs() < 0.01, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.015, "{}", moment(2));
        assert!((moment(4) - 2.9).abs() < 0.1, "{}", moment(4));
    }

    #[test]
    fn ranges() {
        assert!(
            (0..10_000)
                .map(|n| below(1, n, 10))
                .fold([0; 10], |mut counts, x| {
                    counts[x as usize] += 1;
                    counts
                })
                .iter()
                .all(|count| (850..1150).contains(count))
        );
        assert!((0..10_000).all(|n| (0.5..1.5).contains(&uniform(1, n, 0.5, 1.5))));
    }
}

//! Entropy-bound acceptance: the positions of lowest entropy, as long as what they may tell about each other is bounded.
//!
//! For positions sorted by entropy, sum(H_1..H_k) - max(H_1..H_k) bounds the mutual information of the first k. Position
//! k is accepted while that is at most the bound; the first always is, since its sum equals its maximum.

/// Which positions to accept, given their entropies in nats.
pub fn accept(entropy: &[f32], bound: f32, accepted: &mut [bool]) {
    let mut order: Vec<usize> = (0..entropy.len()).collect();
    // Stable: equal entropies are taken in the order of their positions.
    order.sort_by(|&a, &b| entropy[a].total_cmp(&entropy[b]));
    accepted.fill(false);
    let mut before = 0.0f64; // the sum without the k-th, which is the maximum of the first k
    for i in order {
        if before > f64::from(bound) {
            break;
        }
        accepted[i] = true;
        before += f64::from(entropy[i]);
    }
}

#[cfg(test)]
mod tests {
    fn accepted(entropy: &[f32], bound: f32) -> Vec<bool> {
        let mut out = vec![false; entropy.len()];
        super::accept(entropy, bound, &mut out);
        out
    }

    #[test]
    fn lowest_entropies_until_the_bound() {
        // Sorted: 0.01, 0.05, 0.06, 2.0. Sums before each: 0, 0.01, 0.06, 0.12 > 0.1.
        assert_eq!(accepted(&[2.0, 0.05, 0.01, 0.06], 0.1), [false, true, true, true]);
        assert_eq!(accepted(&[2.0, 0.05, 0.01, 0.06], 0.05), [false, true, true, false]);
    }

    #[test]
    fn one_position_is_always_accepted() {
        assert_eq!(accepted(&[9.0, 8.0, 8.0], 0.0), [false, true, false]);
        assert_eq!(accepted(&[9.0], 0.0), [true]);
        assert!(accepted(&[], 0.1).is_empty());
    }
}

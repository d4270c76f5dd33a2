//! Which part of a canvas is unlikely to change any more: a hint for showing text before it is final. On the built-in
//! model, low entropy alone (`steps` 0, `entropy` 0.05) gave 51 early texts in 50 answers, none revised later; with
//! `entropy` 0.5 one was.

/// When a position counts as stable: its draft has stayed the same for `steps` steps, and its entropy is at most
/// `entropy`. Pinned positions always are. Only a beginning without a gap is reported, since text is read in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StableRule {
    /// Steps in a row after which the draft was that of the step before; 0 asks only for low entropy.
    pub steps: u32,
    /// Largest entropy in nats, of the step's tempered distribution.
    pub entropy: f32,
}

impl Default for StableRule {
    fn default() -> Self {
        StableRule { steps: 1, entropy: 0.05 }
    }
}

impl StableRule {
    /// Leading stable positions; slices have one entry per position, `unchanged` counts steps.
    pub fn prefix(&self, unchanged: &[u32], entropy: &[f32], pinned: &[bool]) -> usize {
        let stable = |i: usize| pinned[i] || (unchanged[i] >= self.steps && entropy[i] <= self.entropy);
        (0..entropy.len()).take_while(|&i| stable(i)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::StableRule;

    #[test]
    fn ends_at_the_first_position_that_is_not_stable() {
        let rule = StableRule { steps: 2, entropy: 0.1 };
        let prefix = |unchanged: &[u32], entropy: &[f32], pinned: &[bool]| rule.prefix(unchanged, entropy, pinned);
        assert_eq!(prefix(&[2, 3, 2], &[0.0, 0.1, 0.05], &[false; 3]), 3);
        assert_eq!(prefix(&[2, 1, 2], &[0.0, 0.1, 0.05], &[false; 3]), 1);
        assert_eq!(prefix(&[2, 3, 2], &[0.0, 0.2, 0.05], &[false; 3]), 1);
        assert_eq!(prefix(&[0, 3, 0], &[9.0, 0.1, 0.0], &[true, false, false]), 2);
        assert_eq!(prefix(&[2, 2], &[f32::NAN, 0.0], &[false; 2]), 0);
    }
}

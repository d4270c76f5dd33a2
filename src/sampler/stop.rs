//! Stable and confident: the draft has not changed for a while, and its mean entropy is low.

use std::collections::VecDeque;

/// The last drafts of a block.
#[derive(Clone, Debug)]
pub struct Stability {
    threshold: usize,
    confidence: f32,
    drafts: VecDeque<Vec<u32>>,
}

impl Stability {
    /// A block's start: no drafts yet, so nothing is stable.
    pub fn new(threshold: u32, confidence: f32) -> Self {
        Stability { threshold: threshold as usize, confidence, drafts: VecDeque::new() }
    }

    /// Notes a step's draft; whether denoising can stop after it. `entropy`: of the positions that count, i.e. all that are
    /// not pinned.
    pub fn done(&mut self, draft: &[u32], entropy: &[f32]) -> bool {
        let stable = self.drafts.len() == self.threshold && self.drafts.iter().all(|d| d == draft);
        if self.threshold > 0 {
            if self.drafts.len() == self.threshold {
                self.drafts.pop_front();
            }
            self.drafts.push_back(draft.to_vec());
        }
        stable && mean(entropy) < self.confidence
    }
}

/// The mean, 0 for none.
pub fn mean(entropy: &[f32]) -> f32 {
    (entropy.iter().map(|&h| f64::from(h)).sum::<f64>() / entropy.len().max(1) as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::Stability;

    #[test]
    fn needs_both_conditions_and_enough_equal_drafts() {
        let mut s = Stability::new(2, 0.1);
        let steps = [(1, 0.0), (1, 0.0), (1, 0.5), (1, 0.05), (2, 0.05), (2, 0.05), (2, 0.05)];
        let done: Vec<bool> = steps.iter().map(|&(draft, h)| s.done(&[draft], &[h])).collect();
        assert_eq!(done, [false, false, false, true, false, false, true]);
    }

    #[test]
    fn threshold_zero_asks_for_confidence_only() {
        let mut s = Stability::new(0, 0.1);
        assert!(s.done(&[1], &[0.05]));
        assert!(!s.done(&[1], &[0.1]));
    }
}

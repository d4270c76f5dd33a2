//! Stable and confident: the draft has not changed for a while, and its mean entropy is low.

/// What a block remembers of its drafts.
#[derive(Clone, Debug)]
pub struct Stability {
    threshold: u32,
    confidence: f32,
    /// The last draft; none before the first step.
    draft: Option<Vec<u32>>,
    /// Drafts in a row before the last that equal it.
    same: u32,
}

impl Stability {
    /// A block's start: no drafts yet, so nothing is stable.
    pub fn new(threshold: u32, confidence: f32) -> Self {
        Stability { threshold, confidence, draft: None, same: 0 }
    }

    /// Notes a step's draft; whether denoising can stop after it. `entropy`: of the positions that count, i.e. all that are
    /// not pinned.
    pub fn done(&mut self, draft: &[u32], entropy: &[f32]) -> bool {
        self.same = if self.draft.as_deref() == Some(draft) { self.same + 1 } else { 0 };
        self.draft = Some(draft.to_vec());
        self.same >= self.threshold && mean(entropy) < self.confidence
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

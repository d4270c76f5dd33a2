//! One canvas and what its steps decide: the definition of the sampler. Backends that keep the canvas on their device do
//! the same there (`cuda/sampler.cu`) and are compared with this.

use super::{SamplerParams, Stability, accept};
use crate::backend::{Decision, HeadStats};

/// A canvas under way.
#[derive(Clone, Debug)]
pub struct Canvas {
    /// What the last step found and decided; before the first, only `canvas` has entries that mean something.
    pub last: Decision,
    /// Positions that keep their token.
    pub pinned: Vec<bool>,
    /// Steps so far.
    pub steps: u32,
    /// Whether the draft is stable and confident.
    pub finished: bool,
    bound: f32,
    stability: Stability,
}

impl Canvas {
    /// The canvas that the first step starts from.
    pub fn new(tokens: Vec<u32>, pinned: Vec<bool>, params: &SamplerParams) -> Self {
        let n = tokens.len();
        let (flags, unchanged) = (vec![false; n], vec![0; n]);
        let last = Decision {
            stats: HeadStats::default(),
            accepted: flags.clone(),
            changed: flags,
            unchanged,
            canvas: tokens,
        };
        let stability = Stability::new(params.stability, params.confidence);
        Canvas { last, pinned, steps: 0, finished: false, bound: params.entropy_bound, stability }
    }

    /// The canvas that the next step starts from.
    pub fn tokens(&self) -> &[u32] {
        &self.last.canvas
    }

    /// Decides what a step's statistics mean; `fresh`: a token per position, for those not accepted.
    pub fn take(&mut self, mut stats: HeadStats, fresh: &[u32]) {
        let Decision { stats: before, accepted, changed, unchanged, canvas } = &mut self.last;
        for i in (0..canvas.len()).filter(|&i| self.pinned[i]) {
            (stats.argmax[i], stats.sampled[i]) = (canvas[i], canvas[i]);
        }
        let before = if self.steps == 0 { &*canvas } else { &before.argmax };
        for (i, &token) in stats.argmax.iter().enumerate() {
            changed[i] = token != before[i];
            unchanged[i] = if changed[i] || self.steps == 0 { 0 } else { unchanged[i] + 1 };
        }
        // A pinned position is certain: entropy 0 comes first in the order of acceptance and adds nothing to the sum.
        let certain = |(&h, &pinned): (&f32, &bool)| if pinned { 0.0 } else { h };
        let entropy: Vec<f32> = stats.entropy.iter().zip(&self.pinned).map(certain).collect();
        accept(&entropy, self.bound, accepted);
        for (i, token) in canvas.iter_mut().enumerate() {
            *token = if accepted[i] { stats.sampled[i] } else { fresh[i] };
        }
        let open: Vec<f32> =
            stats.entropy.iter().zip(&self.pinned).filter(|(_, pinned)| !**pinned).map(|(&h, _)| h).collect();
        self.finished = self.stability.done(&stats.argmax, &open);
        self.last.stats = stats;
        self.steps += 1;
    }

    /// Notes a step that a device decided; what it decided, unless nobody wants to know: then `last` stays behind.
    pub fn taken(&mut self, decision: Option<Decision>, finished: bool) {
        if let Some(decision) = decision {
            self.last = decision;
        }
        self.finished = finished;
        self.steps += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two open positions and a pinned one, over three steps.
    #[test]
    fn a_pinned_position_is_certain_and_the_rest_is_decided() {
        let params = SamplerParams { stability: 1, confidence: 0.05, ..Default::default() };
        let mut canvas = Canvas::new(vec![7, 8, 9], vec![false, true, false], &params);
        let stats = |entropy: [f32; 3]| HeadStats {
            argmax: vec![1, 2, 3],
            sampled: vec![4, 5, 6],
            entropy: entropy.to_vec(),
            log_prob: vec![0.0; 3],
            ..Default::default()
        };
        canvas.take(stats([0.2, 9.0, 0.5]), &[10, 11, 12]);
        assert_eq!(canvas.last.accepted, [true, true, false]);
        assert_eq!(canvas.tokens(), [4, 8, 12]);
        assert_eq!((canvas.last.stats.argmax.as_slice(), canvas.finished), ([1, 8, 3].as_slice(), false));
        assert_eq!(canvas.last.changed, [true, false, true]);
        canvas.take(stats([0.0, 9.0, 0.2]), &[10, 11, 12]);
        assert_eq!((canvas.last.unchanged.as_slice(), canvas.finished), ([1, 1, 1].as_slice(), false)); // mean 0.1
        canvas.take(stats([0.0, 9.0, 0.02]), &[10, 11, 12]);
        assert!(canvas.finished && canvas.last.accepted == [true; 3]);
    }
}

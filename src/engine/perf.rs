//! What things cost.

use crate::model::Phases;
use std::time::Duration;

/// What a generation cost.
#[derive(Clone, Debug, Default)]
pub struct Perf {
    /// Prompt positions encoded, committed canvases included.
    pub prefill_tokens: usize,
    /// Time spent encoding them. Of a pass shared with a denoising step, the share of its rows.
    pub prefill: Duration,
    /// Denoising steps of each block.
    pub steps: Vec<u32>,
    /// Time spent in denoising steps, callbacks included.
    pub denoise: Duration,
    /// From the call to the first committed canvas.
    pub first_canvas: Option<Duration>,
    /// From the call to the return.
    pub total: Duration,
}

impl Perf {
    /// Denoising steps in all.
    pub fn total_steps(&self) -> u32 {
        self.steps.iter().sum()
    }
}

/// Totals of a context since it was made or [reset](super::Context::reset).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextPerf {
    /// Positions encoded.
    pub prefill_tokens: u64,
    /// Time spent encoding them.
    pub prefill: Duration,
    /// Denoising steps.
    pub steps: u64,
    /// Time spent in them.
    pub denoise: Duration,
    /// Calls of [`Context::score`](super::Context::score).
    pub scorings: u64,
    /// Time spent in them, encoding excluded.
    pub scoring: Duration,
    /// Where the time of encoding, steps and scorings went.
    pub phases: Phases,
    /// Tokens committed by generations and [`Context::commit`](super::Context::commit).
    pub committed: usize,
}

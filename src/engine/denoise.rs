//! One block: a canvas of noise becomes text. Next: `stepping.rs`, a context's calls around it.
//!
//! ```text
//! canvas = uniform tokens, or the caller's; no self-conditioning
//! for step in 0..steps:
//!     T = temperature(step)
//!     per position: draft = argmax, H = entropy, drawn = one draw of softmax((logits + bias) / T)
//!     pinned positions: draft = drawn = their token, accepted, outside of every sum of entropies
//!     accepted = lowest entropies within the bound
//!     canvas = accepted ? drawn : fresh uniform token      (acceptance is decided anew at every step)
//!     soft embedding of softmax((logits + bias) / T) conditions the next step
//!     stop when the draft is stable and the mean entropy low
//! ```

use super::start::Start;
use crate::backend::{HeadParams, HeadStats};
use crate::error::Result;
use crate::model::{Config, Runner};
use crate::sampler::{Noise, SamplerParams, Stability, accept};
use std::sync::atomic::AtomicBool;

/// A block under way: made by [`Context::begin_block`](super::Context::begin_block), moved on by
/// [`Context::step`](super::Context::step), ended by [`Context::commit`](super::Context::commit).
#[derive(Clone, Debug)]
pub struct Block {
    index: u32,
    params: SamplerParams,
    /// The parameters' biases and bans as the head takes them.
    bias: Vec<(u32, f32)>,
    /// Position of the first canvas row: the length of the timeline at the start.
    pub(super) start: usize,
    /// Up to where the timeline was encoded at the start, if the rest of it shall share a pass with the first step.
    pub(super) pending_from: Option<usize>,
    /// Which pass of the context this block's last step was; 0 before the first.
    pub(super) stamp: u64,
    canvas: Vec<u32>,
    pinned: Vec<bool>,
    stats: HeadStats,
    accepted: Vec<bool>,
    changed: Vec<bool>,
    /// Steps in a row after which a position's draft was that of the step before.
    unchanged: Vec<u32>,
    steps_done: u32,
    finished: bool,
    stability: Stability,
    uniforms: Vec<f32>,
    fresh: Vec<u32>,
}

/// What one step found; slices have one entry per canvas position.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo<'a> {
    /// The block's index within this generation, from 0.
    pub block: u32,
    /// The step's index within the block, from 0.
    pub step: u32,
    /// Most steps that a block takes.
    pub max_steps: u32,
    /// The step's temperature.
    pub temperature: f32,
    /// The most probable tokens: what would be committed now.
    pub draft: &'a [u32],
    /// The drawn tokens.
    pub drawn: &'a [u32],
    /// Entropy in nats of the tempered distribution.
    pub entropy: &'a [f32],
    /// Natural logarithm of the most probable token's probability in the tempered distribution: the confidence in the
    /// draft.
    pub log_prob: &'a [f32],
    /// Positions that keep their drawn token for the next step.
    pub accepted: &'a [bool],
    /// Positions whose draft is not that of the step before; at the first step, not the token that the canvas started
    /// from.
    pub changed: &'a [bool],
    /// Positions that the caller pinned.
    pub pinned: &'a [bool],
    /// Leading positions that are stable by [`SamplerParams::stable`]: a hint that their draft will be committed as it is.
    /// A later step can still change them, and the number can shrink.
    pub stable: usize,
    /// The canvas that the next step starts from.
    pub canvas: &'a [u32],
    /// Whether the draft is stable and confident: this was the block's last step.
    pub converged: bool,
}

impl Block {
    pub(super) fn new(
        config: &Config,
        at: (u32, usize),
        start: &Start,
        params: &SamplerParams,
        noise: &mut dyn Noise,
    ) -> Result<Self> {
        params.check()?;
        start.check_ids(config.vocab)?;
        let length = start.length(config.canvas)?;
        let bias = params.merged_bias(config.vocab)?;
        let (canvas, pinned) = start.canvas(at.0, length, noise)?;
        Ok(Block {
            index: at.0,
            params: params.clone(),
            bias,
            start: at.1,
            pending_from: None,
            stamp: 0,
            canvas,
            pinned,
            stats: HeadStats::default(),
            accepted: vec![false; length],
            changed: vec![false; length],
            unchanged: vec![0; length],
            steps_done: 0,
            finished: false,
            stability: Stability::new(params.stability, params.confidence),
            uniforms: vec![0.0; length],
            fresh: vec![0; length],
        })
    }

    /// One step, with `pending` tokens before the canvas to be encoded along with it; on failure the block stays as it was
    /// and can be stepped again.
    pub(super) fn step(
        &mut self,
        runner: &mut dyn Runner,
        pending: &[u32],
        noise: &mut dyn Noise,
        cancel: &AtomicBool,
    ) -> Result<()> {
        let step = self.steps_done;
        noise.draws(self.index, step, &mut self.uniforms)?;
        noise.renoise(self.index, step, &mut self.fresh)?;
        let config = runner.config();
        let head = HeadParams {
            temperature: self.params.temperature(step),
            softcap: config.softcap,
            bias: &self.bias,
            uniforms: &self.uniforms,
            soft_scale: (config.hidden as f32).sqrt(),
            cancel,
        };
        let mut stats = HeadStats::default();
        runner.denoise(pending, &self.canvas, self.start, step > 0, &head, &mut stats)?;
        self.take(stats);
        self.steps_done += 1;
        Ok(())
    }

    /// Decides what a step's statistics mean.
    fn take(&mut self, mut stats: HeadStats) {
        for i in (0..self.canvas.len()).filter(|&i| self.pinned[i]) {
            (stats.argmax[i], stats.sampled[i]) = (self.canvas[i], self.canvas[i]);
        }
        let before = if self.steps_done == 0 { &self.canvas } else { &self.stats.argmax };
        for (i, &token) in stats.argmax.iter().enumerate() {
            self.changed[i] = token != before[i];
            self.unchanged[i] = if self.changed[i] || self.steps_done == 0 { 0 } else { self.unchanged[i] + 1 };
        }
        // A pinned position is certain: entropy 0 comes first in the order of acceptance and adds nothing to the sum.
        let certain = |(&h, &pinned): (&f32, &bool)| if pinned { 0.0 } else { h };
        let entropy: Vec<f32> = stats.entropy.iter().zip(&self.pinned).map(certain).collect();
        accept(&entropy, self.params.entropy_bound, &mut self.accepted);
        for (i, token) in self.canvas.iter_mut().enumerate() {
            *token = if self.accepted[i] { stats.sampled[i] } else { self.fresh[i] };
        }
        let open: Vec<f32> =
            stats.entropy.iter().zip(&self.pinned).filter(|(_, pinned)| !**pinned).map(|(&h, _)| h).collect();
        self.finished = self.stability.done(&stats.argmax, &open);
        self.stats = stats;
    }

    /// Whether there is nothing left to do: converged, or out of steps.
    pub fn is_done(&self) -> bool {
        self.finished || self.steps_done == self.params.steps
    }

    /// Steps so far.
    pub fn steps_done(&self) -> u32 {
        self.steps_done
    }

    /// The block's index: its place in the noise.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The canvas that the next step starts from; its length is the block's.
    pub fn canvas(&self) -> &[u32] {
        &self.canvas
    }

    /// The most probable tokens of the last step; empty before the first.
    pub fn draft(&self) -> &[u32] {
        &self.stats.argmax
    }

    /// The last step; `None` before the first.
    pub fn last_step(&self) -> Option<StepInfo<'_>> {
        let step = self.steps_done.checked_sub(1)?;
        Some(StepInfo {
            block: self.index,
            step,
            max_steps: self.params.steps,
            temperature: self.params.temperature(step),
            draft: &self.stats.argmax,
            drawn: &self.stats.sampled,
            entropy: &self.stats.entropy,
            log_prob: &self.stats.log_prob,
            accepted: &self.accepted,
            changed: &self.changed,
            pinned: &self.pinned,
            stable: self.params.stable.prefix(&self.unchanged, &self.stats.entropy, &self.pinned),
            canvas: &self.canvas,
            converged: self.finished,
        })
    }
}

//! One block: a canvas of noise becomes text. What a step decides is in `sampler/canvas.rs`, or, where the canvas lives on a
//! device, in its copy there. Next: `stepping.rs`, a context's calls around it.
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
use crate::backend::{CanvasStart, Decision, HeadParams, HeadStats, StepInput, StepNoise};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::model::{Config, Runner};
use crate::sampler::{Canvas, Noise, SamplerParams};
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
    canvas: Canvas,
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
            canvas: Canvas::new(canvas, pinned, params),
            uniforms: vec![0.0; length],
            fresh: vec![0; length],
        })
    }

    /// One step, with `pending` tokens before the canvas to be encoded along with it; on failure the block stays as it was
    /// and can be stepped again. `look`: somebody wants to know what the step decided; where nobody does, a device that
    /// samples by itself tells no more than whether the block is done, until it is. `file`: the weights'; what was computed of
    /// bytes that it no longer had decides nothing.
    pub(super) fn step(
        &mut self,
        runner: &mut dyn Runner,
        file: &Gguf,
        pending: &[u32],
        noise: &mut dyn Noise,
        cancel: &AtomicBool,
        look: bool,
    ) -> Result<()> {
        if runner.samples() {
            return self.step_on_device(runner, file, pending, noise, cancel, look);
        }
        let step = self.canvas.steps;
        noise.draws(self.index, step, &mut self.uniforms)?;
        noise.renoise(self.index, step, &mut self.fresh)?;
        let config = runner.config();
        let head = HeadParams {
            temperature: self.params.temperature(step),
            softcap: config.softcap,
            bias: &self.bias,
            uniforms: &self.uniforms,
            likely: &[],
            soft_scale: (config.hidden as f32).sqrt(),
            cancel,
        };
        let mut stats = HeadStats::default();
        runner.denoise(pending, self.canvas.tokens(), self.start, step > 0, &head, &mut stats)?;
        file.check_reads()?;
        self.canvas.take(stats, &self.fresh);
        Ok(())
    }

    /// The same where the runner samples.
    fn step_on_device(
        &mut self,
        runner: &mut dyn Runner,
        file: &Gguf,
        pending: &[u32],
        noise: &mut dyn Noise,
        cancel: &AtomicBool,
        look: bool,
    ) -> Result<()> {
        let step = self.canvas.steps;
        let source = match noise.philox() {
            Some(philox) => {
                let (seed, vocab) = philox.seed_and_vocab();
                StepNoise::Philox { seed, vocab }
            }
            None => {
                noise.draws(self.index, step, &mut self.uniforms)?;
                noise.renoise(self.index, step, &mut self.fresh)?;
                StepNoise::Given { uniforms: &self.uniforms, fresh: &self.fresh }
            }
        };
        if step == 0 {
            runner.begin(&CanvasStart {
                tokens: self.canvas.tokens(),
                pinned: &self.canvas.pinned,
                bias: &self.bias,
                entropy_bound: self.params.entropy_bound,
                stability: self.params.stability,
                confidence: self.params.confidence,
            })?;
        }
        let input = StepInput { block: self.index, step, temperature: self.params.temperature(step), noise: source };
        let more = step + 1 < self.params.steps;
        let mut decision = Decision::default();
        let wanted = look || !more;
        let finished = runner.step(pending, self.start, &input, more, cancel, wanted.then_some(&mut decision))?;
        if finished && !wanted {
            runner.decision(&mut decision)?;
        }
        file.check_reads()?;
        self.canvas.taken((wanted || finished).then_some(decision), finished);
        Ok(())
    }

    /// Whether there is nothing left to do: converged, or out of steps.
    pub fn is_done(&self) -> bool {
        self.canvas.finished || self.canvas.steps == self.params.steps
    }

    /// Steps so far.
    pub fn steps_done(&self) -> u32 {
        self.canvas.steps
    }

    /// The block's index: its place in the noise.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The canvas that the next step starts from; its length is the block's.
    pub fn canvas(&self) -> &[u32] {
        self.canvas.tokens()
    }

    /// The most probable tokens of the last step; empty before the first.
    pub fn draft(&self) -> &[u32] {
        &self.canvas.last.stats.argmax
    }

    /// The last step; `None` before the first.
    pub fn last_step(&self) -> Option<StepInfo<'_>> {
        let (Canvas { last, pinned, finished, .. }, stats) = (&self.canvas, &self.canvas.last.stats);
        let step = self.canvas.steps.checked_sub(1)?;
        Some(StepInfo {
            block: self.index,
            step,
            max_steps: self.params.steps,
            temperature: self.params.temperature(step),
            draft: &stats.argmax,
            drawn: &stats.sampled,
            entropy: &stats.entropy,
            log_prob: &stats.log_prob,
            accepted: &last.accepted,
            changed: &last.changed,
            pinned,
            stable: self.params.stable.prefix(&last.unchanged, &stats.entropy, pinned),
            canvas: &last.canvas,
            converged: *finished,
        })
    }
}

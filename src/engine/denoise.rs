//! One block: a canvas of noise becomes text.
//!
//!     canvas = uniform tokens; no self-conditioning
//!     for step in 0..steps:
//!         T = temperature(step)
//!         per position: draft = argmax, H = entropy, drawn = one draw of softmax(logits / T)
//!         accepted = lowest entropies within the bound
//!         canvas = accepted ? drawn : fresh uniform token      (acceptance is decided anew at every step)
//!         soft embedding of softmax(logits / T) conditions the next step
//!         stop when the draft is stable and the mean entropy low

use crate::backend::{HeadParams, HeadStats};
use crate::error::{Error, Result};
use crate::model::Runner;
use crate::sampler::{Noise, SamplerParams, Stability, accept};
use std::sync::atomic::AtomicBool;

/// A block under way.
#[derive(Clone, Debug)]
pub struct Block {
    index: u32,
    params: SamplerParams,
    canvas: Vec<u32>,
    stats: HeadStats,
    accepted: Vec<bool>,
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
    /// Entropy in nats.
    pub entropy: &'a [f32],
    /// Positions that keep their drawn token for the next step.
    pub accepted: &'a [bool],
    /// The canvas that the next step starts from.
    pub canvas: &'a [u32],
    /// Whether the draft is stable and confident: this was the block's last step.
    pub converged: bool,
}

impl Block {
    pub(super) fn new(length: usize, index: u32, params: &SamplerParams, noise: &mut dyn Noise) -> Result<Self> {
        params.check()?;
        let mut canvas = vec![0; length];
        noise.canvas(index, &mut canvas)?;
        Ok(Block {
            index,
            params: params.clone(),
            canvas,
            stats: HeadStats::default(),
            accepted: vec![false; length],
            steps_done: 0,
            finished: false,
            stability: Stability::new(params.stability, params.confidence),
            uniforms: vec![0.0; length],
            fresh: vec![0; length],
        })
    }

    pub(super) fn step(
        &mut self,
        runner: &mut dyn Runner,
        start: usize,
        noise: &mut dyn Noise,
        cancel: &AtomicBool,
    ) -> Result<()> {
        if self.is_done() {
            return Err(Error::argument("block", "is done, expected one with steps left"));
        }
        let step = self.steps_done;
        noise.draws(self.index, step, &mut self.uniforms)?;
        noise.renoise(self.index, step, &mut self.fresh)?;
        let config = runner.config();
        let head = HeadParams {
            temperature: self.params.temperature(step),
            softcap: config.softcap,
            uniforms: &self.uniforms,
            soft_scale: (config.hidden as f32).sqrt(),
            cancel,
        };
        runner.denoise(&self.canvas, start, step > 0, &head, &mut self.stats)?;
        accept(&self.stats.entropy, self.params.entropy_bound, &mut self.accepted);
        for (i, token) in self.canvas.iter_mut().enumerate() {
            *token = if self.accepted[i] { self.stats.sampled[i] } else { self.fresh[i] };
        }
        self.finished = self.stability.done(&self.stats.argmax, &self.stats.entropy);
        self.steps_done += 1;
        Ok(())
    }

    /// Whether there is nothing left to do: converged, or out of steps.
    pub fn is_done(&self) -> bool {
        self.finished || self.steps_done == self.params.steps
    }

    /// Steps so far.
    pub fn steps_done(&self) -> u32 {
        self.steps_done
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
            accepted: &self.accepted,
            canvas: &self.canvas,
            converged: self.finished,
        })
    }
}

//! Sampling on the device: what a backend offers that keeps the canvas where it computes, so that the next step's tokens
//! never pass through the host, and that can record a step once and replay it. What a step decides is defined by
//! `sampler/canvas.rs`; the backends without a sampler ([`HostSampling`]) leave it to that.
//!
//! ```text
//! begin                                           the block's canvas goes to the device
//! for each step:
//!     prepare                                     the step's numbers, through page-locked memory
//!     replay, or: noise, the pass with embed, decide
//!     record                                      the next step, while the device computes this one
//!     finished                                    the only wait; the decision comes back if somebody wants it
//! ```

use super::{Backend, HeadStats, HeadWeights};
use crate::error::{Error, Result};

/// A block's start, and the numbers that hold for all its steps.
#[derive(Clone, Copy, Debug)]
pub struct CanvasStart<'a> {
    /// What the first step's input shows; at most as many positions as the sampler was made for.
    pub tokens: &'a [u32],
    /// Positions that keep their token.
    pub pinned: &'a [bool],
    /// As in [`HeadParams::bias`](super::HeadParams::bias).
    pub bias: &'a [(u32, f32)],
    /// Bound in nats on the summed entropy of accepted positions.
    pub entropy_bound: f32,
    /// Drafts in a row that must equal the last one before the block may end.
    pub stability: u32,
    /// Mean entropy in nats below which the block may end.
    pub confidence: f32,
}

/// Where a step's random numbers come from.
#[derive(Clone, Copy, Debug)]
pub enum StepNoise<'a> {
    /// The device makes them as [`PhiloxNoise`](crate::sampler::PhiloxNoise) does.
    Philox {
        /// The key.
        seed: u64,
        /// Fresh tokens are below.
        vocab: u32,
    },
    /// The host gives them, one per position.
    Given {
        /// For the draws, in (0, 1).
        uniforms: &'a [f32],
        /// Tokens for positions that are not accepted.
        fresh: &'a [u32],
    },
}

/// What changes from step to step.
#[derive(Clone, Copy, Debug)]
pub struct StepInput<'a> {
    /// The block's index within the generation: part of the noise's address.
    pub block: u32,
    /// The step's index within the block, from 0.
    pub step: u32,
    /// Logits are divided by this (> 0).
    pub temperature: f32,
    /// The step's randomness.
    pub noise: StepNoise<'a>,
}

/// What a step found and decided, one entry per position.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// What the head said; the most probable and the drawn token of a pinned position are its own.
    pub stats: HeadStats,
    /// Positions that keep their drawn token.
    pub accepted: Vec<bool>,
    /// Positions whose draft is not that of the step before; at the first step, not the token that the canvas started from.
    pub changed: Vec<bool>,
    /// Steps in a row after which a position's draft was that of the step before.
    pub unchanged: Vec<u32>,
    /// The canvas that the next step starts from.
    pub canvas: Vec<u32>,
}

/// What must be the same for a recorded step to be replayed: everything else that changes lies in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepKey {
    /// Position of the first canvas row.
    pub start: usize,
    /// Canvas rows.
    pub rows: usize,
}

/// What a recorded step takes when the device need not wait for the host; seconds by its clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replays {
    /// Kernels, copies and fills of a step.
    pub nodes: usize,
    /// A step, from its start to the next one's.
    pub seconds: f64,
    /// Kernels that do nothing, put between those of a step for a second measurement.
    pub padding: usize,
    /// A step with these.
    pub padded_seconds: f64,
}

/// The sampler of one sequence on a device. Errors are the device's.
pub trait DeviceSampler<B: Backend>: Send + Sized {
    /// For canvases of up to `canvas` positions over `vocab` tokens; `None`: the host samples.
    fn new(backend: &B, canvas: usize, vocab: usize) -> Result<Option<Self>>;
    /// Puts a block's canvas in place of the one before.
    fn begin(&mut self, backend: &B, start: &CanvasStart) -> Result<()>;
    /// Hands over a step's numbers. The step before is over ([`DeviceSampler::finished`]).
    fn prepare(&mut self, backend: &B, input: &StepInput) -> Result<()>;
    /// First operation of a step: takes over what was prepared, makes the noise.
    fn noise(&self, backend: &B) -> Result<()>;
    /// `out[t] = table[canvas[t]] * scale`, as [`Backend::embed`].
    fn embed(&self, backend: &B, table: &B::Weight, scale: f32, out: &mut B::Buffer) -> Result<()>;
    /// Last operation of a step: the head as [`Backend::head`] over the canvas's rows of x, then acceptance, the next canvas,
    /// and whether to stop.
    fn decide(
        &self,
        backend: &B,
        weights: HeadWeights<B::Weight>,
        x: &B::Buffer,
        softcap: Option<f32>,
        soft_scale: f32,
        soft: &mut B::Buffer,
    ) -> Result<()>;
    /// Records what `step` asks the backend for, instead of doing it, unless a record of `key` is there already. Does nothing
    /// where steps cannot be recorded, or not yet: what `step` needs for the first time only (memory, code) it gets by being
    /// run.
    fn record(&mut self, backend: &B, key: StepKey, step: impl FnOnce(&Self) -> Result<()>) -> Result<()>;
    /// Does what was recorded for `key`; false if there is nothing.
    fn replay(&self, backend: &B, key: StepKey) -> Result<bool>;
    /// Waits for the step; whether the block may end. With `decision`, also what it decided.
    fn finished(&mut self, backend: &B, decision: Option<&mut Decision>) -> Result<bool>;
    /// Begins a lap of the device's clock and says 0, or ends the one that was begun and says its seconds. For measurements,
    /// as the next one.
    fn lap(&mut self, backend: &B) -> Result<f64>;
    /// Does what was prepared, and `step` asks for, `n` times over in several turns, and says how long that took. What the
    /// canvas holds afterwards means nothing. `None` where steps are not recorded.
    fn replays(
        &mut self,
        backend: &B,
        key: StepKey,
        n: usize,
        step: impl FnMut(&Self) -> Result<()>,
    ) -> Result<Option<Replays>>;
}

/// The sampler of backends that have none.
#[derive(Debug)]
pub enum HostSampling {}

impl<B: Backend> DeviceSampler<B> for HostSampling {
    fn new(_: &B, _: usize, _: usize) -> Result<Option<Self>> {
        Ok(None)
    }

    fn begin(&mut self, _: &B, _: &CanvasStart) -> Result<()> {
        match *self {}
    }

    fn prepare(&mut self, _: &B, _: &StepInput) -> Result<()> {
        match *self {}
    }

    fn noise(&self, _: &B) -> Result<()> {
        match *self {}
    }

    fn embed(&self, _: &B, _: &B::Weight, _: f32, _: &mut B::Buffer) -> Result<()> {
        match *self {}
    }

    fn decide(
        &self,
        _: &B,
        _: HeadWeights<B::Weight>,
        _: &B::Buffer,
        _: Option<f32>,
        _: f32,
        _: &mut B::Buffer,
    ) -> Result<()> {
        match *self {}
    }

    fn record(&mut self, _: &B, _: StepKey, _: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        match *self {}
    }

    fn replay(&self, _: &B, _: StepKey) -> Result<bool> {
        match *self {}
    }

    fn finished(&mut self, _: &B, _: Option<&mut Decision>) -> Result<bool> {
        match *self {}
    }

    fn lap(&mut self, _: &B) -> Result<f64> {
        match *self {}
    }

    fn replays(&mut self, _: &B, _: StepKey, _: usize, _: impl FnMut(&Self) -> Result<()>) -> Result<Option<Replays>> {
        match *self {}
    }
}

/// What a runner answers that is asked to sample where its backend does not.
pub fn no_sampler() -> Error {
    Error::Internal("this backend leaves sampling to the host".into())
}

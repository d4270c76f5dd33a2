//! A context's calls for those who run the denoising loop themselves: begin a block, step it, look into it, commit.
//!
//! ```no_run
//! # use dgemma::engine::*;
//! # fn run(context: &mut Context, before: &[u32], after: &[u32], gap: usize) -> dgemma::Result<()> {
//! // Fill a gap of `gap` tokens between two texts on one canvas.
//! let pinned = |ids: &[u32]| ids.iter().map(|&t| Slot::Pinned(t)).collect::<Vec<_>>();
//! let slots = [pinned(before), vec![Slot::Noise; gap], pinned(after)].concat();
//! let sampler = context.model().sampler_defaults().clone();
//! let mut noise = context.noise(sampler.seed);
//! let mut block = context.begin_block(0, Start::Canvas(&slots), &sampler, &mut noise)?;
//! while !block.is_done() {
//!     context.step(&mut block, &mut noise)?;
//! }
//! context.commit(&block, block.draft().len())?;
//! # Ok(())
//! # }
//! ```

use super::Context;
use super::denoise::Block;
use super::start::Start;
use crate::error::{Error, Result};
use crate::sampler::{Noise, PhiloxNoise, SamplerParams};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Numbers for passes, unique in the process, so that a block knows whether what a context still holds is its own.
static PASSES: AtomicU64 = AtomicU64::new(1);

impl Context {
    /// The noise that [`Context::generate`] uses for `seed`.
    pub fn noise(&self, seed: u64) -> PhiloxNoise {
        PhiloxNoise::new(seed, self.model.config().vocab)
    }

    /// Encodes what is pending and starts block `index` (its place in the noise) behind the timeline.
    ///
    /// [`Error::Argument`]: numbers of `sampler` or tokens out of range, a canvas of no or too many positions;
    /// [`Error::ContextFull`]; [`Error::Cancelled`].
    pub fn begin_block(
        &mut self,
        index: u32,
        start: Start,
        sampler: &SamplerParams,
        noise: &mut dyn Noise,
    ) -> Result<Block> {
        let block = Block::new(self.model.config(), (index, self.tokens.len()), &start, sampler, noise)?;
        self.room_for(block.canvas().len())?;
        self.prefill(|_, _| ControlFlow::Continue(()))?;
        Ok(block)
    }

    /// [`Context::begin_block`], but for the last chunk of what is pending, which the first step encodes in its own pass. The
    /// timeline must stay as it is until then.
    pub(super) fn begin_block_early(
        &mut self,
        index: u32,
        start: Start,
        sampler: &SamplerParams,
        noise: &mut dyn Noise,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Block> {
        let mut block = Block::new(self.model.config(), (index, self.tokens.len()), &start, sampler, noise)?;
        self.room_for(block.canvas().len())?;
        self.prefill_up_to(self.tokens.len().saturating_sub(self.chunk), progress)?;
        block.pending_from = Some(self.encoded);
        Ok(block)
    }

    /// One denoising step of `block`. Its first step may come at any time; after that the context's self-conditioning
    /// signal must still be the block's own, so steps of two blocks cannot take turns on one context. On failure, also
    /// after [`Error::Cancelled`], the block stays as it was and can be stepped again. On a GPU, a first step takes the
    /// signal over from other blocks even if it fails, and a cancel is heeded between steps, which take milliseconds.
    ///
    /// [`Error::Argument`]: the block is done, another block was stepped since, or the timeline changed.
    pub fn step(&mut self, block: &mut Block, noise: &mut dyn Noise) -> Result<()> {
        self.step_looking(block, noise, true)
    }

    /// [`Context::step`]. Without `look`, what there is to see of the step stays on the device, unless the block is done.
    pub(super) fn step_looking(&mut self, block: &mut Block, noise: &mut dyn Noise, look: bool) -> Result<()> {
        if block.is_done() {
            return Err(Error::argument("block", "is done, expected one with steps left"));
        }
        self.check_place(block)?;
        if block.steps_done() > 0 && block.stamp != self.soft_of {
            return Err(Error::argument("block", "another block was stepped since its last step"));
        }
        self.model.file().check_mapping()?;
        let clock = Instant::now();
        self.hidden_of = 0;
        let pending = &self.tokens[self.encoded..];
        if block.steps_done() == 0 && self.runner.samples() {
            self.soft_of = 0;
        }
        let result = block.step(&mut *self.runner, self.model.file(), pending, noise, self.cancel.flag(), look);
        self.passed(result)?;
        let shared = clock.elapsed().mul_f64(pending.len() as f64 / (pending.len() + block.canvas().len()) as f64);
        self.perf.prefill_tokens += pending.len() as u64;
        self.perf.prefill += shared;
        self.encoded = block.start;
        block.pending_from = None;
        block.stamp = PASSES.fetch_add(1, Ordering::Relaxed);
        (self.soft_of, self.hidden_of) = (block.stamp, block.stamp);
        self.perf.steps += 1;
        self.perf.denoise += clock.elapsed().saturating_sub(shared);
        Ok(())
    }

    /// Soft-capped logits `[rows, vocab]` of canvas positions `rows` as the block's last step computed them: the model's
    /// own, before bias and temperature. Costs one sweep over the output matrix; memory only for the result.
    ///
    /// [`Error::Argument`]: a row outside the canvas, or the context did other passes since (a step, an encoding, a
    /// scoring), whose hidden states replaced the block's.
    pub fn row_logits(&mut self, block: &Block, rows: &[usize]) -> Result<Vec<f32>> {
        self.check_hidden(block)?;
        self.model.file().check_mapping()?;
        let (vocab, length) = (self.model.config().vocab, block.canvas().len());
        if let Some(bad) = rows.iter().find(|&&r| r >= length) {
            return Err(Error::argument("rows", format!("has {bad}, expected positions below {length}")));
        }
        let mut out = crate::backend::host_weight::zeroed(rows.len().saturating_mul(vocab), "logits")?;
        // In groups that the canvas-sized scratch memory holds, since a row may be asked for twice.
        for (rows, out) in rows.chunks(length).zip(out.chunks_mut(length * vocab)) {
            let result = self.runner.row_logits(rows, out);
            self.passed(result)?;
        }
        Ok(out)
    }

    /// [`Context::row_logits`] as natural logarithms of probabilities (temperature 1, no bias).
    pub fn row_log_probs(&mut self, block: &Block, rows: &[usize]) -> Result<Vec<f32>> {
        let mut out = self.row_logits(block, rows)?;
        for row in out.chunks_exact_mut(self.model.config().vocab) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&l| f64::from(l - max).exp()).sum();
            row.iter_mut().for_each(|l| *l = (f64::from(*l - max) - sum.ln()) as f32);
        }
        Ok(out)
    }

    /// Appends the first `n` tokens of the block's draft to the timeline. The block is over then; the next one is begun
    /// behind the new end.
    ///
    /// [`Error::Argument`]: no step was done, the draft is shorter, or the timeline changed since the block began.
    pub fn commit(&mut self, block: &Block, n: usize) -> Result<()> {
        let draft = block.draft();
        if n > draft.len() {
            return Err(Error::argument("n", format!("is {n}, but the block's draft has {} tokens", draft.len())));
        }
        self.check_place(block)?;
        self.append(&draft[..n])?;
        self.perf.committed += n;
        Ok(())
    }

    /// The timeline must end where the block began, and be encoded as far as it was left.
    fn check_place(&self, block: &Block) -> Result<()> {
        if block.start == self.tokens.len() && self.encoded() == block.pending_from.unwrap_or(block.start) {
            return Ok(());
        }
        let what = format!("began at position {}, but the timeline changed since", block.start);
        Err(Error::argument("block", what))
    }

    pub(super) fn check_hidden(&self, block: &Block) -> Result<()> {
        if block.stamp != 0 && block.stamp == self.hidden_of {
            return Ok(());
        }
        let what = if block.stamp == 0 {
            "has done no step yet"
        } else {
            "its last step is not the context's last pass, so its hidden states are gone"
        };
        Err(Error::argument("block", what))
    }
}

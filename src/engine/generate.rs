//! The loop over blocks: encode what was committed, denoise a canvas, commit its draft, until the text ends. What is to be
//! encoded, a prompt's last chunk or the block before, shares a pass over the weights with the canvas's first step.

use super::{Block, Context, Model, Perf, Start, StepInfo};
use crate::error::{Error, Result};
use crate::sampler::{Noise, SamplerParams};
use std::ops::ControlFlow;
use std::time::Instant;

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateParams {
    /// Most tokens to commit; the last canvas is cut there.
    pub max_tokens: usize,
    /// The sampler's numbers.
    pub sampler: SamplerParams,
    /// Go on past end-of-generation tokens, which then are part of the text: for measurements of a fixed length.
    pub ignore_eog: bool,
    /// Where fewer tokens are wanted, or fit into the context, than a canvas has, make the last canvas that short instead
    /// of cutting its text. Cheaper, but not what the model was trained on: see [`Start::Random`].
    pub adaptive_last_canvas: bool,
    /// Report stable beginnings of a canvas before it is committed ([`Event::Early`]).
    pub early: bool,
    /// Report steps ([`Event::Step`]), the default. Without them, and without early text, a GPU keeps to itself what a step
    /// found; the text is the same.
    pub report_steps: bool,
}

impl GenerateParams {
    /// The model's own sampler numbers and one canvas of tokens.
    pub fn new(model: &Model) -> Self {
        GenerateParams {
            max_tokens: model.config().canvas,
            sampler: model.sampler_defaults().clone(),
            ignore_eog: false,
            adaptive_last_canvas: false,
            early: false,
            report_steps: true,
        }
    }
}

/// What a generation reports while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Prompt positions encoded so far.
    Prefill {
        /// Done.
        encoded: usize,
        /// To do in all.
        total: usize,
    },
    /// A denoising step is done; only if [`GenerateParams::report_steps`] asks for it.
    Step(StepInfo<'a>),
    /// The beginning of the block that is under way is unlikely to change any more; only if [`GenerateParams::early`] asks
    /// for it. It may change all the same: each such event of a block replaces the one before, and the block's
    /// [`Event::Commit`] replaces them all. Comes when the tokens differ from those of the event before; none of them ends
    /// the generation, and all lie within `max_tokens`.
    Early {
        /// The block's index.
        block: u32,
        /// The stable beginning by [`SamplerParams::stable`].
        tokens: &'a [u32],
    },
    /// A block's tokens are final; a token that ends the generation is not among them.
    Commit {
        /// The block's index.
        block: u32,
        /// Its tokens.
        tokens: &'a [u32],
    },
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended its text.
    EndOfGeneration,
    /// `max_tokens` are there.
    MaxTokens,
    /// No further canvas fits into the context.
    ContextFull,
    /// The callback or another thread asked to stop; complete blocks are kept. A callback that stops on the last block is
    /// told so as well, whatever else would have ended the text there.
    Cancelled,
}

/// A finished generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The committed tokens, without the one that ended the text.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
    /// What it cost.
    pub perf: Perf,
}

pub(super) fn generate(
    context: &mut Context,
    params: &GenerateParams,
    noise: &mut dyn Noise,
    mut on_event: impl FnMut(Event) -> ControlFlow<()>,
) -> Result<Generation> {
    params.sampler.check()?;
    params.sampler.merged_bias(context.model().config().vocab)?;
    context.room_for(canvas_length(context, params, params.max_tokens).max(1))?;
    let begin = Instant::now();
    let mut out = Generation { tokens: Vec::new(), stop: StopReason::MaxTokens, perf: Perf::default() };
    match blocks(context, params, noise, &mut on_event, &mut out, begin) {
        Ok(stop) => out.stop = stop,
        Err(Error::Cancelled) => {
            context.cancel.clear();
            out.stop = StopReason::Cancelled;
        }
        Err(e) => return Err(e),
    }
    out.perf.total = begin.elapsed();
    Ok(out)
}

fn blocks(
    context: &mut Context,
    params: &GenerateParams,
    noise: &mut dyn Noise,
    on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    out: &mut Generation,
    begin: Instant,
) -> Result<StopReason> {
    for index in 0.. {
        if out.tokens.len() >= params.max_tokens {
            return Ok(StopReason::MaxTokens);
        }
        let length = canvas_length(context, params, params.max_tokens - out.tokens.len());
        if length == 0 || context.room_for(length).is_err() {
            return Ok(StopReason::ContextFull);
        }
        let clock = Instant::now();
        out.perf.prefill_tokens += context.tokens().len() - context.encoded();
        let progress = |encoded, total| on_event(Event::Prefill { encoded, total });
        let block = context.begin_block_early(index, Start::Random(length), &params.sampler, noise, progress)?;
        let (encoding, before) = (clock.elapsed(), context.perf().prefill);
        let block = denoise(context, block, params, noise, on_event, out)?;
        let encoding = encoding + (context.perf().prefill - before);
        out.perf.prefill += encoding;
        out.perf.denoise += clock.elapsed().saturating_sub(encoding);
        if let Some(stop) = commit(context, &block, params, on_event, out, begin)? {
            return Ok(stop);
        }
    }
    unreachable!("the loop ends by its own conditions")
}

/// Positions of the next canvas when `wanted` more tokens are.
fn canvas_length(context: &Context, params: &GenerateParams, wanted: usize) -> usize {
    let canvas = context.model().config().canvas;
    if !params.adaptive_last_canvas {
        return canvas;
    }
    canvas.min(wanted).min(context.size() - context.tokens().len())
}

/// Runs one block to its end.
fn denoise(
    context: &mut Context,
    mut block: Block,
    params: &GenerateParams,
    noise: &mut dyn Noise,
    on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    out: &mut Generation,
) -> Result<Block> {
    out.perf.steps.push(0);
    let room = params.max_tokens - out.tokens.len();
    let mut early: Vec<u32> = Vec::new();
    while !block.is_done() {
        let pending = context.encoded() < context.tokens().len();
        context.step_looking(&mut block, noise, params.report_steps || params.early)?;
        let total = context.tokens().len();
        if pending && on_event(Event::Prefill { encoded: total, total }).is_break() {
            return Err(Error::Cancelled);
        }
        if let Some(steps) = out.perf.steps.last_mut() {
            *steps += 1;
        }
        let Some(info) = block.last_step() else { continue };
        if params.report_steps && on_event(Event::Step(info)).is_break() {
            return Err(Error::Cancelled);
        }
        if !params.early {
            continue;
        }
        let stable = &info.draft[..info.stable.min(room)];
        let stable = &stable[..text_end(context, params, stable).unwrap_or(stable.len())];
        if !block.is_done() && stable != early {
            early = stable.to_vec();
            if on_event(Event::Early { block: block.index(), tokens: &early }).is_break() {
                return Err(Error::Cancelled);
            }
        }
    }
    Ok(block)
}

/// Where the first token that ends the text is.
fn text_end(context: &Context, params: &GenerateParams, tokens: &[u32]) -> Option<usize> {
    let tokenizer = context.model().tokenizer();
    tokens.iter().position(|&t| !params.ignore_eog && tokenizer.is_eog(t))
}

/// Appends the draft up to its end (with the token that ends it: the next turn's template repeats it). `Some` at the end.
fn commit(
    context: &mut Context,
    block: &Block,
    params: &GenerateParams,
    on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    out: &mut Generation,
    begin: Instant,
) -> Result<Option<StopReason>> {
    let (draft, room) = (block.draft(), params.max_tokens - out.tokens.len());
    let (text, kept, stop) = match text_end(context, params, draft) {
        Some(end) if end < room => (end, end + 1, Some(StopReason::EndOfGeneration)),
        // The end lies exactly at the limit: the text is whole all the same.
        Some(end) if end == room => (end, end, Some(StopReason::EndOfGeneration)),
        _ if draft.len() >= room => (room, room, Some(StopReason::MaxTokens)),
        _ => (draft.len(), draft.len(), None),
    };
    context.commit(block, kept)?;
    out.tokens.extend_from_slice(&draft[..text]);
    out.perf.first_canvas.get_or_insert_with(|| begin.elapsed());
    let event = Event::Commit { block: block.index(), tokens: &draft[..text] };
    if on_event(event).is_break() {
        return Err(Error::Cancelled); // also on the last canvas: who asked for a stop is told of it
    }
    Ok(stop)
}

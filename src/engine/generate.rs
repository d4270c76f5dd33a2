//! The loop over blocks: encode what was committed, denoise a canvas, commit its draft, until the text ends.

use super::{Context, Model, StepInfo};
use crate::error::{Error, Result};
use crate::sampler::{Noise, SamplerParams};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateParams {
    /// Most tokens to commit; the last canvas is cut there.
    pub max_tokens: usize,
    /// The sampler's numbers.
    pub sampler: SamplerParams,
    /// Go on past end-of-generation tokens, which then are part of the text: for measurements of a fixed length.
    pub ignore_eog: bool,
}

impl GenerateParams {
    /// The model's own sampler numbers and one canvas of tokens.
    pub fn new(model: &Model) -> Self {
        GenerateParams {
            max_tokens: model.config().canvas,
            sampler: model.sampler_defaults().clone(),
            ignore_eog: false,
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
    /// A denoising step is done.
    Step(StepInfo<'a>),
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
    /// The callback or another thread asked to stop; complete blocks are kept.
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

/// What a generation cost.
#[derive(Clone, Debug, Default)]
pub struct Perf {
    /// Prompt positions encoded, and the time it took.
    pub prefill_tokens: usize,
    /// Time spent encoding, committed canvases included.
    pub prefill: Duration,
    /// Denoising steps of each block.
    pub steps: Vec<u32>,
    /// Time spent in denoising steps.
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

pub(super) fn generate(
    context: &mut Context,
    params: &GenerateParams,
    noise: &mut dyn Noise,
    mut on_event: impl FnMut(Event) -> ControlFlow<()>,
) -> Result<Generation> {
    params.sampler.check()?;
    context.room_for_canvas()?;
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
        if context.room_for_canvas().is_err() {
            return Ok(StopReason::ContextFull);
        }
        let clock = Instant::now();
        let pending = context.tokens().len() - context.encoded();
        context.prefill(|encoded, total| on_event(Event::Prefill { encoded, total }))?;
        out.perf.prefill_tokens += pending;
        out.perf.prefill += clock.elapsed();
        let clock = Instant::now();
        let draft = denoise(context, index, params, noise, on_event, &mut out.perf)?;
        out.perf.denoise += clock.elapsed();
        if let Some(stop) = commit(context, index, &draft, params, on_event, out, begin)? {
            return Ok(stop);
        }
    }
    unreachable!("the loop ends by its own conditions")
}

/// Runs one block to its end; its draft.
fn denoise(
    context: &mut Context,
    index: u32,
    params: &GenerateParams,
    noise: &mut dyn Noise,
    on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    perf: &mut Perf,
) -> Result<Vec<u32>> {
    let mut block = context.begin_block(index, params, noise)?;
    perf.steps.push(0);
    while !block.is_done() {
        context.step(&mut block, noise)?;
        if let Some(steps) = perf.steps.last_mut() {
            *steps += 1;
        }
        if let Some(info) = block.last_step()
            && on_event(Event::Step(info)).is_break()
        {
            return Err(Error::Cancelled);
        }
    }
    Ok(block.draft().to_vec())
}

/// Appends the draft up to its end (with the token that ends it: the next turn's template repeats it). `Some` at the end.
fn commit(
    context: &mut Context,
    block: u32,
    draft: &[u32],
    params: &GenerateParams,
    on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    out: &mut Generation,
    begin: Instant,
) -> Result<Option<StopReason>> {
    let room = params.max_tokens - out.tokens.len();
    let is_end = |t: &u32| !params.ignore_eog && context.model().tokenizer().is_eog(*t);
    let end = draft.iter().position(is_end);
    let (text, kept, stop) = match end {
        Some(end) if end < room => (end, end + 1, Some(StopReason::EndOfGeneration)),
        // The end lies exactly at the limit: the text is whole all the same.
        Some(end) if end == room => (end, end, Some(StopReason::EndOfGeneration)),
        _ if draft.len() >= room => (room, room, Some(StopReason::MaxTokens)),
        _ => (draft.len(), draft.len(), None),
    };
    context.append(&draft[..kept])?;
    out.tokens.extend_from_slice(&draft[..text]);
    out.perf.first_canvas.get_or_insert_with(|| begin.elapsed());
    if on_event(Event::Commit { block, tokens: &draft[..text] }).is_break() && stop.is_none() {
        return Err(Error::Cancelled);
    }
    Ok(stop)
}

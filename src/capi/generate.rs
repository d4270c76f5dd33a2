//! Text in one call: with a context of its own, or on the program's.

use super::buffer::utf8;
use super::context::{dgemma_context, flow, shared};
use super::guard::{Caller, guard_with};
use super::model::{dgemma_model, model_of};
use super::noise::HeardNoise;
use super::params::{
    DGEMMA_GENERATE_SHOW_SPECIAL, DGEMMA_PROMPT_CHAT, checked, dgemma_generate_params, dgemma_text_callback, read,
};
use super::status::{dgemma_status, dgemma_stop_reason};
use super::step::{Flags, step};
use crate::engine::{Context, ContextParams, Event, Generation, Model, StepInfo, StopReason};
use crate::error::Result;
use crate::tokenizer::StreamDecoder;
use std::ffi::c_char;
use std::ops::ControlFlow;

/// How a generation went. Durations are in seconds. Written as a whole, without struct_size, so that it stays as it is;
/// what else there may once be to say about a generation goes into dgemma_perf, which grows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_generation {
    /// Why it ended.
    pub stop_reason: dgemma_stop_reason,
    /// Canvases denoised.
    pub blocks: u32,
    /// Denoising steps in all.
    pub steps: u32,
    /// Tokens before the generated ones.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub tokens: usize,
    /// Time spent encoding the prompt and committed canvases.
    pub prefill_seconds: f64,
    /// Time spent in denoising steps.
    pub denoise_seconds: f64,
    /// From the call to the first committed canvas; 0 if there was none.
    pub first_canvas_seconds: f64,
    /// From the call to its end.
    pub total_seconds: f64,
}

/// Generates text behind a prompt, in a context of its own.
///
/// `model`: not NULL. `prompt`: UTF-8, not NULL; see prompt_kind for what it is. `params`: from
/// dgemma_generate_params_init(), or NULL for the defaults. `out`: receives how it went, or NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _TOKENIZER, _TEMPLATE, _CONTEXT_FULL (the prompt and one canvas do not fit) or
/// _OUT_OF_MEMORY. A generation stopped by a callback is a success with DGEMMA_STOP_REASON_CANCELLED. Text that a
/// callback received stays valid text whatever comes after it.
///
/// Threads: any number at once over one model. Callbacks may call the library, also to free the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_generate(
    model: *const dgemma_model,
    prompt: *const c_char,
    params: *const dgemma_generate_params,
    out: *mut dgemma_generation,
) -> dgemma_status {
    let mut caller = Caller::default();
    guard_with(&mut caller, |caller| {
        // SAFETY: the caller's promise.
        let p = unsafe { read(params)? };
        *caller = Caller { error_text: p.error_text, cap: p.error_text_cap };
        // SAFETY: the caller's promise.
        let (model, prompt) = unsafe { (model_of(model)?.clone(), utf8(prompt, "prompt")?) };
        let mut context = model.context(&ContextParams { size: p.context_size, ..Default::default() })?;
        // SAFETY: the caller's promise.
        unsafe { checked(&p, &model, 0)? };
        context.set_tokens(&encode(&model, prompt, p.prompt_kind)?)?;
        // SAFETY: the caller's promise.
        unsafe { generate(&mut context, &p, 0, out) }
    })
}

/// Generates behind the sequence of a context, which grows by the committed tokens; the token that ends an answer is among
/// them, so that the next turn of a conversation finds it (see dgemma_context_set_tokens()).
///
/// `context`: not NULL. `params`: from dgemma_generate_params_init(), or NULL for the defaults; prompt_kind and
/// context_size have no meaning here. `out`: receives how it went, or NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (no canvas fits behind the sequence) or _BUSY. A generation
/// stopped by a callback or a dgemma_canceller is a success with DGEMMA_STOP_REASON_CANCELLED; complete canvases stay in
/// the sequence.
///
/// Threads: one at a time. Callbacks may call the library; calls with this context are answered with DGEMMA_STATUS_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_generate(
    context: *mut dgemma_context,
    params: *const dgemma_generate_params,
    out: *mut dgemma_generation,
) -> dgemma_status {
    let mut caller = Caller::default();
    guard_with(&mut caller, |caller| {
        // SAFETY: the caller's promise.
        let p = unsafe { read(params)? };
        *caller = Caller { error_text: p.error_text, cap: p.error_text_cap };
        // SAFETY: the caller's promise.
        let shared = unsafe { shared(context)? };
        // SAFETY: the caller's promise.
        shared.run(|context| unsafe { generate(context, &p, shared.seed, out) })
    })
}

fn encode(model: &Model, prompt: &str, kind: u32) -> Result<Vec<u32>> {
    if kind != DGEMMA_PROMPT_CHAT {
        return model.tokenizer().encode(prompt, true, true);
    }
    let messages = serde_json::json!([{"role": "user", "content": prompt}]);
    model.encode_chat(&messages, None)
}

/// # Safety
/// What `p` points to is true, `out` is NULL or writable.
unsafe fn generate(
    context: &mut Context,
    p: &dgemma_generate_params,
    seed: u64,
    out: *mut dgemma_generation,
) -> Result<()> {
    let model = context.model().clone();
    // SAFETY: the caller's promise.
    let params = unsafe { checked(p, &model, seed)? };
    let before = context.tokens().len();
    let mut hearer = Hearer { p, decoder: StreamDecoder::new(p.flags & DGEMMA_GENERATE_SHOW_SPECIAL != 0) };
    let mut failure = None;
    let mut noise = HeardNoise::new(context.noise(params.sampler.seed), &model, p.on_noise, p.user_data);
    let mut generation =
        context.generate_with_noise(&params, &mut noise, |event| match hearer.hear(&model, event) {
            Ok(flow) => flow,
            Err(e) => {
                failure = Some(e);
                ControlFlow::Break(())
            }
        })?;
    if let Some(e) = failure {
        return Err(e);
    }
    let rest = hearer.decoder.finish();
    if hearer.deliver(p.on_text, rest).is_break() {
        generation.stop = StopReason::Cancelled; // nothing is left to stop, but it was asked for
    }
    if !out.is_null() {
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(report(&generation, before)) };
    }
    Ok(())
}

/// Turns events into calls of the program's callbacks.
struct Hearer<'a> {
    p: &'a dgemma_generate_params,
    decoder: StreamDecoder,
}

impl Hearer<'_> {
    fn hear(&mut self, model: &Model, event: Event) -> Result<ControlFlow<()>> {
        match event {
            Event::Prefill { encoded, total } => Ok(self.prefill(encoded, total)),
            Event::Step(info) => Ok(self.step(&info)),
            Event::Early { tokens, .. } => {
                // What follows on the committed text; the decoder itself waits for the final tokens.
                let mut decoder = self.decoder.clone();
                let text = decode(&mut decoder, model, tokens)?;
                Ok(self.deliver(self.p.on_early_text, text))
            }
            Event::Commit { block, tokens } => {
                if self.tokens(block, tokens).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                let text = decode(&mut self.decoder, model, tokens)?;
                Ok(self.deliver(self.p.on_text, text))
            }
        }
    }

    fn prefill(&self, encoded: usize, total: usize) -> ControlFlow<()> {
        let Some(callback) = self.p.on_prefill else { return ControlFlow::Continue(()) };
        // SAFETY: the function is the caller's.
        flow(unsafe { callback(encoded, total, self.p.user_data) })
    }

    fn step(&self, info: &StepInfo) -> ControlFlow<()> {
        let Some(callback) = self.p.on_step else { return ControlFlow::Continue(()) };
        let flags = Flags::of(info);
        let step = step(info, &flags);
        // SAFETY: the struct and its arrays live for the call; the function is the caller's.
        flow(unsafe { callback(&step, self.p.user_data) })
    }

    fn tokens(&self, block: u32, tokens: &[u32]) -> ControlFlow<()> {
        let Some(callback) = self.p.on_tokens.filter(|_| !tokens.is_empty()) else {
            return ControlFlow::Continue(());
        };
        // SAFETY: the tokens live for the call; the function is the caller's.
        flow(unsafe { callback(block, tokens.as_ptr(), tokens.len(), self.p.user_data) })
    }

    fn deliver(&self, callback: dgemma_text_callback, text: String) -> ControlFlow<()> {
        let Some(callback) = callback.filter(|_| !text.is_empty()) else {
            return ControlFlow::Continue(());
        };
        // A model can write a NUL; the terminator is for convenience, the length is what counts.
        let mut bytes = text.into_bytes();
        let len = bytes.len();
        bytes.push(0);
        // SAFETY: `len` bytes and a terminator live for the call; the function is the caller's.
        flow(unsafe { callback(bytes.as_ptr().cast(), len, self.p.user_data) })
    }
}

fn decode(decoder: &mut StreamDecoder, model: &Model, tokens: &[u32]) -> Result<String> {
    let mut text = String::new();
    for &token in tokens {
        text += &decoder.push(model.tokenizer(), token)?;
    }
    Ok(text)
}

fn report(g: &Generation, prompt_tokens: usize) -> dgemma_generation {
    dgemma_generation {
        stop_reason: g.stop.into(),
        blocks: g.perf.steps.len() as u32,
        steps: g.perf.total_steps(),
        prompt_tokens,
        tokens: g.tokens.len(),
        prefill_seconds: g.perf.prefill.as_secs_f64(),
        denoise_seconds: g.perf.denoise.as_secs_f64(),
        first_canvas_seconds: g.perf.first_canvas.map_or(0.0, |d| d.as_secs_f64()),
        total_seconds: g.perf.total.as_secs_f64(),
    }
}

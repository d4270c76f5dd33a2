//! Text in one call.

use super::guard::guard;
use super::model::{dgemma_model, utf8};
use super::params::{DGEMMA_PROMPT_CHAT, dgemma_generate_params, dgemma_step, generate_params};
use super::status::{dgemma_status, dgemma_stop_reason};
use crate::engine::{ContextParams, Event, Generation, Model, StepInfo};
use crate::error::{Error, Result};
use crate::tokenizer::StreamDecoder;
use std::ffi::c_char;
use std::ops::ControlFlow;

/// How a generation went. Durations are in seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_generation {
    /// Why it ended.
    pub stop_reason: dgemma_stop_reason,
    /// Canvases denoised.
    pub blocks: u32,
    /// Denoising steps in all.
    pub steps: u32,
    /// Prompt tokens.
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
/// Threads: any number at once over one model. Callbacks may call the library, but must not free the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_generate(
    model: *const dgemma_model,
    prompt: *const c_char,
    params: *const dgemma_generate_params,
    out: *mut dgemma_generation,
) -> dgemma_status {
    guard(|| {
        if model.is_null() {
            return Err(Error::argument("model", "is NULL"));
        }
        // SAFETY: a live model by the caller's promise.
        let model = unsafe { &(*model).0 };
        // SAFETY: the caller's promise.
        let (prompt, (c, params)) = unsafe { (utf8(prompt, "prompt")?, generate_params(params, model)?) };
        let ids = encode(model, prompt, c.prompt_kind)?;
        let mut context = model.context(&ContextParams { size: c.context_size, ..Default::default() })?;
        context.set_tokens(&ids)?;
        let mut text = Text { params: &c, decoder: StreamDecoder::new(false) };
        let mut failure = None;
        let generation = context.generate(&params, |event| match text.hear(model, event) {
            Ok(flow) => flow,
            Err(e) => {
                failure = Some(e);
                ControlFlow::Break(())
            }
        })?;
        if let Some(e) = failure {
            return Err(e);
        }
        let rest = text.decoder.finish();
        let _ = text.deliver(rest)?; // nothing is left to stop
        if !out.is_null() {
            // SAFETY: not NULL, and writable by the caller's promise.
            unsafe { out.write(report(&generation, ids.len())) };
        }
        Ok(())
    })
}

fn encode(model: &Model, prompt: &str, kind: u32) -> Result<Vec<u32>> {
    if kind != DGEMMA_PROMPT_CHAT {
        return model.tokenizer().encode(prompt, true, true);
    }
    let messages = serde_json::json!([{"role": "user", "content": prompt}]);
    model.encode_chat(&messages, None)
}

/// Decodes events into callbacks.
struct Text<'a> {
    params: &'a dgemma_generate_params,
    decoder: StreamDecoder,
}

impl Text<'_> {
    fn hear(&mut self, model: &Model, event: Event) -> Result<ControlFlow<()>> {
        match event {
            Event::Prefill { .. } | Event::Early { .. } => Ok(ControlFlow::Continue(())),
            Event::Step(info) => Ok(self.step(&info)),
            Event::Commit { tokens, .. } => {
                let mut text = String::new();
                for &token in tokens {
                    text += &self.decoder.push(model.tokenizer(), token)?;
                }
                self.deliver(text)
            }
        }
    }

    fn deliver(&self, text: String) -> Result<ControlFlow<()>> {
        let Some(callback) = self.params.on_text.filter(|_| !text.is_empty()) else {
            return Ok(ControlFlow::Continue(()));
        };
        // A model can write a NUL; the terminator is for convenience, the length is what counts.
        let mut bytes = text.into_bytes();
        let len = bytes.len();
        bytes.push(0);
        // SAFETY: `len` bytes and a terminator live for the call; the function is the caller's.
        let answer = unsafe { callback(bytes.as_ptr().cast(), len, self.params.user_data) };
        Ok(flow(answer))
    }

    fn step(&self, info: &StepInfo) -> ControlFlow<()> {
        let Some(callback) = self.params.on_step else { return ControlFlow::Continue(()) };
        let accepted: Vec<u8> = info.accepted.iter().map(|&a| u8::from(a)).collect();
        let step = dgemma_step {
            struct_size: size_of::<dgemma_step>(),
            block: info.block,
            step: info.step,
            max_steps: info.max_steps,
            converged: u32::from(info.converged),
            canvas_length: info.draft.len(),
            draft: info.draft.as_ptr(),
            entropy: info.entropy.as_ptr(),
            accepted: accepted.as_ptr(),
        };
        // SAFETY: the struct and its arrays live for the call; the function is the caller's.
        flow(unsafe { callback(&step, self.params.user_data) })
    }
}

fn flow(answer: i32) -> ControlFlow<()> {
    if answer == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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

//! What a generation is asked for.

use super::context::dgemma_prefill_callback;
use super::guard::guard;
use super::noise::dgemma_noise_callback;
use super::sampler::{check_steps, dgemma_sampler_params, sampler};
use super::sized::{self, Growable};
use super::status::dgemma_status;
use super::step::dgemma_step;
use crate::engine::{GenerateParams, Model};
use crate::error::{Error, Result};
use std::ffi::{c_char, c_int, c_void};
use std::ptr::{null, null_mut};

/// dgemma_model_params.backend: the fast one for processors.
pub const DGEMMA_BACKEND_CPU: u32 = 0;
/// dgemma_model_params.backend: the slow and plain one that the others are checked against.
pub const DGEMMA_BACKEND_REFERENCE: u32 = 1;
/// dgemma_model_params.backend: an NVIDIA GPU of compute capability 8.0 or newer, with driver 580 or newer.
pub const DGEMMA_BACKEND_CUDA: u32 = 2;
/// dgemma_generate_params.prompt_kind: the prompt is a user's message, put into the model's chat template.
pub const DGEMMA_PROMPT_CHAT: u32 = 0;
/// dgemma_generate_params.prompt_kind: the prompt is the text itself, with special tokens parsed and the begin token before it.
pub const DGEMMA_PROMPT_RAW: u32 = 1;
/// dgemma_generate_params.flags: go on past tokens that end an answer, which then are part of the text.
pub const DGEMMA_GENERATE_IGNORE_END: u64 = 1;
/// dgemma_generate_params.flags: where fewer tokens are wanted, or fit, than a canvas has, make the last canvas that short
/// instead of cutting its text. Cheaper, but not what the model was trained on.
pub const DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS: u64 = 2;
/// dgemma_generate_params.flags: show control tokens in texts.
pub const DGEMMA_GENERATE_SHOW_SPECIAL: u64 = 4;

/// Receives text: `text` is UTF-8 of `len` bytes (also NUL-terminated), lent for the time of the call. Complete characters
/// only. Returns 0 to continue; anything else stops the generation.
pub type dgemma_text_callback =
    Option<unsafe extern "C" fn(text: *const c_char, len: usize, user_data: *mut c_void) -> c_int>;

/// Receives the `n_tokens` committed tokens of canvas number `block`, lent for the time of the call. Returns 0 to continue;
/// anything else stops the generation.
pub type dgemma_tokens_callback =
    Option<unsafe extern "C" fn(block: u32, tokens: *const u32, n_tokens: usize, user_data: *mut c_void) -> c_int>;

/// Hears of each denoising step. Returns 0 to continue; anything else stops the generation.
pub type dgemma_step_callback = Option<unsafe extern "C" fn(step: *const dgemma_step, user_data: *mut c_void) -> c_int>;

/// What to generate. Fill it with dgemma_generate_params_init(), then change fields. Zero in a field means the default.
///
/// Callbacks run on the thread that called, one at a time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_generate_params {
    /// Size of this struct as the program knows it, in bytes; set by dgemma_generate_params_init().
    pub struct_size: usize,
    /// DGEMMA_PROMPT_CHAT (0) or DGEMMA_PROMPT_RAW. Only for dgemma_generate().
    pub prompt_kind: u32,
    /// Most denoising steps per canvas, 1 to 1000000; 0: the sampler's or the model's number.
    pub max_steps: u32,
    /// Most tokens to generate; 0: one canvas.
    pub max_tokens: usize,
    /// Positions of the context, prompt and canvas together; 0: 8192, or the model's limit if that is less. Only for
    /// dgemma_generate().
    pub context_size: usize,
    /// The same seed gives the same text on any number of threads. 0: the context's seed, if it has one.
    pub seed: u64,
    /// Receives the committed text, or NULL. Final: joined together it is the whole answer.
    pub on_text: dgemma_text_callback,
    /// Hears of each step, or NULL.
    pub on_step: dgemma_step_callback,
    /// Handed to all callbacks as it is.
    pub user_data: *mut c_void,
    /// DGEMMA_GENERATE_* values added up, or 0.
    pub flags: u64,
    /// The sampler's numbers, read during the call; NULL: the model's.
    pub sampler: *const dgemma_sampler_params,
    /// Receives the committed tokens of each canvas, just before on_text gets their text; or NULL.
    pub on_tokens: dgemma_tokens_callback,
    /// Receives text before it is final, or NULL: the stable beginning of the canvas under way. Each such text replaces the
    /// one before, and the next on_text replaces it for good. It rarely differs from what is committed then, but may.
    pub on_early_text: dgemma_text_callback,
    /// Hears how far the prompt is encoded, or NULL.
    pub on_prefill: dgemma_prefill_callback,
    /// Also receives the text of a failure (cut if need be, always with a NUL), or NULL; see "Errors" above.
    pub error_text: *mut c_char,
    /// Bytes that error_text has room for.
    pub error_text_cap: usize,
    /// Hears of all noise before it is used, and may replace it; or NULL.
    pub on_noise: dgemma_noise_callback,
}

// SAFETY: repr(C), numbers and pointers only, the size first.
unsafe impl Growable for dgemma_generate_params {
    const LEAST: usize = 64;
}

const DEFAULTS: dgemma_generate_params = dgemma_generate_params {
    struct_size: size_of::<dgemma_generate_params>(),
    prompt_kind: DGEMMA_PROMPT_CHAT,
    max_steps: 0,
    max_tokens: 0,
    context_size: 0,
    seed: 0,
    on_text: None,
    on_step: None,
    user_data: null_mut(),
    flags: 0,
    sampler: null(),
    on_tokens: None,
    on_early_text: None,
    on_prefill: None,
    error_text: null_mut(),
    error_text_cap: 0,
    on_noise: None,
};

/// Fills `params` with the defaults.
///
/// `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the library's first release.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_generate_params_init(
    params: *mut dgemma_generate_params,
    struct_size: usize,
) -> dgemma_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { sized::init(params, struct_size, &DEFAULTS) })
}

/// The program's wishes, completed.
///
/// # Safety
/// `params` is NULL or a struct whose size field is true.
pub(super) unsafe fn read(params: *const dgemma_generate_params) -> Result<dgemma_generate_params> {
    // SAFETY: the caller's promise.
    unsafe { sized::read(params, &DEFAULTS) }
}

/// The same for the engine.
///
/// # Safety
/// `p.sampler` is NULL or true in its size field and lists.
pub(super) unsafe fn checked(p: &dgemma_generate_params, model: &Model, seed: u64) -> Result<GenerateParams> {
    const ALL: u64 = DGEMMA_GENERATE_IGNORE_END | DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS | DGEMMA_GENERATE_SHOW_SPECIAL;
    if p.prompt_kind > DGEMMA_PROMPT_RAW {
        let what = format!("is {}, expected a DGEMMA_PROMPT_* value", p.prompt_kind);
        return Err(Error::argument("prompt_kind", what));
    }
    if p.flags & !ALL != 0 {
        return Err(Error::argument("flags", format!("is {:#x}, expected DGEMMA_GENERATE_* values", p.flags)));
    }
    let mut generate = GenerateParams::new(model);
    // SAFETY: the caller's promise.
    generate.sampler =
        unsafe { sampler(p.sampler, model.sampler_defaults(), if p.seed == 0 { seed } else { p.seed })? };
    if p.max_steps > 0 {
        check_steps(p.max_steps)?;
        generate.sampler.steps = p.max_steps;
    }
    if p.max_tokens > 0 {
        generate.max_tokens = p.max_tokens;
    }
    generate.ignore_eog = p.flags & DGEMMA_GENERATE_IGNORE_END != 0;
    generate.adaptive_last_canvas = p.flags & DGEMMA_GENERATE_ADAPTIVE_LAST_CANVAS != 0;
    generate.early = p.on_early_text.is_some();
    generate.report_steps = p.on_step.is_some();
    Ok(generate)
}

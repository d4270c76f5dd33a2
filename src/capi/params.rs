//! Option structs: filled by an init function that is told their size, so that old programs meet new libraries safely.
//! New fields are appended, and zero in them means "as before".

use super::guard::guard;
use super::status::dgemma_status;
use crate::engine::{BackendKind, GenerateParams, Model, ModelParams};
use crate::error::{Error, Result};
use std::ffi::{c_char, c_int, c_void};

/// dgemma_model_params.backend: the fast one for processors.
pub const DGEMMA_BACKEND_CPU: u32 = 0;
/// dgemma_model_params.backend: the slow and plain one that the others are checked against.
pub const DGEMMA_BACKEND_REFERENCE: u32 = 1;
/// dgemma_generate_params.prompt_kind: the prompt is a user's message, put into the model's chat template.
pub const DGEMMA_PROMPT_CHAT: u32 = 0;
/// dgemma_generate_params.prompt_kind: the prompt is the text itself, with special tokens parsed and the begin token before it.
pub const DGEMMA_PROMPT_RAW: u32 = 1;

/// How to load a model. Fill it with dgemma_model_params_init(), then change fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_model_params {
    /// Size of this struct as the caller knows it, in bytes; set by dgemma_model_params_init().
    pub struct_size: usize,
    /// DGEMMA_BACKEND_CPU (0) or DGEMMA_BACKEND_REFERENCE.
    pub backend: u32,
    /// Threads of the model's own pool, 0 to 1024; 0: one per available core. Not what the text depends on.
    pub threads: u32,
}

/// One denoising step, lent to dgemma_step_callback for the time of the call. Arrays have canvas_length entries.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_step {
    /// Size of this struct as the library knows it, in bytes.
    pub struct_size: usize,
    /// The canvas's index within the generation, from 0.
    pub block: u32,
    /// The step's index within the canvas, from 0.
    pub step: u32,
    /// Most steps that a canvas takes.
    pub max_steps: u32,
    /// 1 if the draft is stable and confident, so that this was the canvas's last step; else 0.
    pub converged: u32,
    /// Positions of the canvas.
    pub canvas_length: usize,
    /// The most probable token of each position: what would be committed now. Ids may be control tokens.
    pub draft: *const u32,
    /// Entropy of each position in nats, 0 (certain) to ln(vocabulary size).
    pub entropy: *const f32,
    /// 1 where a position keeps its token for the next step, 0 where it gets fresh noise.
    pub accepted: *const u8,
}

/// Receives committed text: `text` is UTF-8 of `len` bytes (also NUL-terminated), lent for the time of the call. Complete
/// characters only. Returns 0 to continue; anything else stops the generation.
pub type dgemma_text_callback =
    Option<unsafe extern "C" fn(text: *const c_char, len: usize, user_data: *mut c_void) -> c_int>;

/// Hears of each denoising step. Returns 0 to continue; anything else stops the generation.
pub type dgemma_step_callback = Option<unsafe extern "C" fn(step: *const dgemma_step, user_data: *mut c_void) -> c_int>;

/// What to generate. Fill it with dgemma_generate_params_init(), then change fields. Zero in a field means the default.
///
/// Callbacks run on the thread that called dgemma_generate(), one at a time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_generate_params {
    /// Size of this struct as the caller knows it, in bytes; set by dgemma_generate_params_init().
    pub struct_size: usize,
    /// DGEMMA_PROMPT_CHAT (0) or DGEMMA_PROMPT_RAW.
    pub prompt_kind: u32,
    /// Most denoising steps per canvas, 1 to 1000000; 0: the model's number.
    pub max_steps: u32,
    /// Most tokens to generate; 0: one canvas.
    pub max_tokens: usize,
    /// Positions of the context, prompt and canvas together; 0: 8192, or the model's limit if that is less.
    pub context_size: usize,
    /// The same seed gives the same text on any number of threads.
    pub seed: u64,
    /// Receives the text, or NULL.
    pub on_text: dgemma_text_callback,
    /// Hears of each step, or NULL.
    pub on_step: dgemma_step_callback,
    /// Handed to both callbacks as it is.
    pub user_data: *mut c_void,
}

/// Fills `params` with the defaults.
///
/// `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the library's first release or
/// larger than this library's (the program is newer than the library). Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_params_init(
    params: *mut dgemma_model_params,
    struct_size: usize,
) -> dgemma_status {
    let defaults = dgemma_model_params { struct_size, backend: DGEMMA_BACKEND_CPU, threads: 0 };
    // SAFETY: the caller's promise.
    guard(|| unsafe { init(params, &defaults, struct_size) })
}

/// Fills `params` with the defaults.
///
/// `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the library's first release or
/// larger than this library's (the program is newer than the library). Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_generate_params_init(
    params: *mut dgemma_generate_params,
    struct_size: usize,
) -> dgemma_status {
    let defaults = dgemma_generate_params {
        struct_size,
        prompt_kind: DGEMMA_PROMPT_CHAT,
        max_steps: 0,
        max_tokens: 0,
        context_size: 0,
        seed: 0,
        on_text: None,
        on_step: None,
        user_data: std::ptr::null_mut(),
    };
    // SAFETY: the caller's promise.
    guard(|| unsafe { init(params, &defaults, struct_size) })
}

/// Both structs have the size of their first release so far; a longer one will have to keep that as the least.
fn check_size<T>(struct_size: usize) -> Result<()> {
    if struct_size == size_of::<T>() {
        return Ok(());
    }
    let what = format!("is {struct_size}, expected {}; set by the params' init function", size_of::<T>());
    Err(Error::argument("struct_size", what))
}

/// # Safety
/// `params` points to `struct_size` writable bytes, or is NULL.
unsafe fn init<T: Copy>(params: *mut T, defaults: &T, struct_size: usize) -> Result<()> {
    if params.is_null() {
        return Err(Error::argument("params", "is NULL"));
    }
    check_size::<T>(struct_size)?;
    // SAFETY: not NULL, and as long as T by the check and the caller's promise.
    unsafe { params.write(*defaults) };
    Ok(())
}

/// # Safety
/// `params` is NULL or points to a struct whose `struct_size` field (its first) states its readable bytes.
pub(super) unsafe fn model_params(params: *const dgemma_model_params) -> Result<ModelParams> {
    if params.is_null() {
        return Ok(ModelParams::default());
    }
    // SAFETY: the first field is readable by the caller's promise; the whole struct once its size is right.
    let p = unsafe {
        check_size::<dgemma_model_params>((*params).struct_size)?;
        *params
    };
    let backend = match p.backend {
        DGEMMA_BACKEND_CPU => BackendKind::Cpu,
        DGEMMA_BACKEND_REFERENCE => BackendKind::Reference,
        other => return Err(Error::argument("backend", format!("is {other}, expected a DGEMMA_BACKEND_* value"))),
    };
    if p.threads > 1024 {
        return Err(Error::argument("threads", format!("is {}, expected 0 to 1024", p.threads)));
    }
    Ok(ModelParams { backend, threads: p.threads as usize, ..Default::default() })
}

/// # Safety
/// As [`model_params`].
pub(super) unsafe fn generate_params(
    params: *const dgemma_generate_params,
    model: &Model,
) -> Result<(dgemma_generate_params, GenerateParams)> {
    let mut p = std::mem::MaybeUninit::uninit();
    // SAFETY: the first field is readable by the caller's promise; the whole struct once its size is right. Without
    // params, init writes all of `p`.
    let p = unsafe {
        if params.is_null() {
            dgemma_generate_params_init(p.as_mut_ptr(), size_of::<dgemma_generate_params>());
            p.assume_init()
        } else {
            check_size::<dgemma_generate_params>((*params).struct_size)?;
            *params
        }
    };
    if p.prompt_kind > DGEMMA_PROMPT_RAW {
        let what = format!("is {}, expected a DGEMMA_PROMPT_* value", p.prompt_kind);
        return Err(Error::argument("prompt_kind", what));
    }
    let mut generate = GenerateParams::new(model);
    generate.sampler.seed = p.seed;
    if p.max_steps > 0 {
        generate.sampler.steps = p.max_steps;
    }
    if p.max_tokens > 0 {
        generate.max_tokens = p.max_tokens;
    }
    Ok((p, generate))
}

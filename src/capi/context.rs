//! The context object: a sequence being read and written. `shared.rs` is what lies behind the pointer.

use super::buffer::{give, give_text, output, required, slice};
use super::guard::{Caller, guard, guard_with};
use super::model::{dgemma_model, model_of};
use super::shared::Shared;
use super::sized::{self, Growable};
use super::status::dgemma_status;
use crate::backend::KvType;
use crate::engine::{Context, ContextParams, Phase};
use crate::error::{Error, Result};
use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::ptr::null_mut;
use std::sync::Arc;

/// A sequence of tokens being read and written, with the memory that this takes. One call at a time: a second one, from
/// another thread or from a callback of the first, is answered with DGEMMA_STATUS_BUSY and changes nothing. It keeps the
/// model it was made from alive.
pub struct dgemma_context(pub(super) Arc<Shared>);

/// How to make a context. Fill it with dgemma_context_params_init(), then change fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_context_params {
    /// Size of this struct as the program knows it, in bytes; set by dgemma_context_params_init().
    pub struct_size: usize,
    /// Positions, prompt and canvas together; 0: 8192, or the model's limit if that is less.
    pub context_size: usize,
    /// Seed of the generations and blocks that name none (seed 0).
    pub seed: u64,
    /// Prompt tokens encoded per pass; 0: 256. The text does not depend on it.
    pub chunk: u32,
    /// How cached keys and values are stored: a DGEMMA_KV_* value.
    pub kv_type: u32,
    /// Also receives the text of a failure (cut if need be, always with a NUL), or NULL; see "Errors" above.
    pub error_text: *mut c_char,
    /// Bytes that error_text has room for.
    pub error_text_cap: usize,
}

// SAFETY: repr(C), integers and pointers only, the size first.
unsafe impl Growable for dgemma_context_params {
    const LEAST: usize = 48;
}

/// dgemma_context_params.kv_type: the library's choice, today DGEMMA_KV_F16, or DGEMMA_KV_F32 for a model loaded `exact`.
pub const DGEMMA_KV_DEFAULT: u32 = 0;
/// dgemma_context_params.kv_type: 4 bytes a number, exact.
pub const DGEMMA_KV_F32: u32 = 1;
/// dgemma_context_params.kv_type: 2 bytes a number, relative error up to 2^-11.
pub const DGEMMA_KV_F16: u32 = 2;
/// dgemma_context_params.kv_type: 2 bytes a number, relative error up to 2^-8.
pub const DGEMMA_KV_BF16: u32 = 3;

const DEFAULTS: dgemma_context_params = dgemma_context_params {
    struct_size: size_of::<dgemma_context_params>(),
    context_size: 0,
    seed: 0,
    chunk: 0,
    kv_type: DGEMMA_KV_DEFAULT,
    error_text: null_mut(),
    error_text_cap: 0,
};

/// Fills `params` with the defaults.
///
/// `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the struct's first release.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_params_init(
    params: *mut dgemma_context_params,
    struct_size: usize,
) -> dgemma_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { sized::init(params, struct_size, &DEFAULTS) })
}

/// Makes an empty context and allocates its memory.
///
/// `model`: not NULL; may be freed before the context. `params`: from dgemma_context_params_init(), or NULL for the
/// defaults. `out`: receives the context, to be freed with dgemma_context_free(); not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT (context_size below one canvas or above the model's limit, too) or
/// _OUT_OF_MEMORY. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_create(
    model: *const dgemma_model,
    params: *const dgemma_context_params,
    out: *mut *mut dgemma_context,
) -> dgemma_status {
    let mut caller = Caller::default();
    guard_with(&mut caller, |caller| {
        // SAFETY: the caller's promise.
        let p = unsafe { sized::read(params, &DEFAULTS)? };
        *caller = Caller { error_text: p.error_text, cap: p.error_text_cap };
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let context = unsafe { model_of(model)? }.context(&checked(&p)?)?;
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(boxed(context, p.seed)) };
        Ok(())
    })
}

pub(super) fn boxed(context: Context, seed: u64) -> *mut dgemma_context {
    Box::into_raw(Box::new(dgemma_context(Arc::new(Shared::new(context, seed)))))
}

/// The type that a DGEMMA_KV_* value in the argument `name` says; `None`: the library's choice.
pub(super) fn kv_type(value: u32, name: &'static str) -> Result<Option<KvType>> {
    Ok(match value {
        DGEMMA_KV_DEFAULT => None,
        DGEMMA_KV_F32 => Some(KvType::F32),
        DGEMMA_KV_F16 => Some(KvType::F16),
        DGEMMA_KV_BF16 => Some(KvType::Bf16),
        other => return Err(Error::argument(name, format!("is {other}, expected a DGEMMA_KV_* value"))),
    })
}

fn checked(p: &dgemma_context_params) -> Result<ContextParams> {
    let kv = kv_type(p.kv_type, "kv_type")?;
    Ok(ContextParams { size: p.context_size, chunk: p.chunk as usize, kv })
}

/// Frees a context; NULL is fine. Blocks made from it stay usable and hold its memory until they are freed. May be called
/// from a callback of a call on the context: that call goes on to its end. No other thread may be in a call with this
/// pointer. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_free(context: *mut dgemma_context) {
    guard(|| {
        if !context.is_null() {
            // SAFETY: made by Box::into_raw in `boxed`, and not freed yet by the caller's promise.
            drop(unsafe { Box::from_raw(context) });
        }
        Ok(())
    });
}

/// What lies behind a pointer; it stays alive for the call even if a callback frees the context.
///
/// # Safety
/// `context` is NULL or live during this function.
pub(super) unsafe fn shared(context: *const dgemma_context) -> Result<Arc<Shared>> {
    // SAFETY: the caller's promise.
    Ok(unsafe { required(context, "context")? }.0.clone())
}

/// Adds tokens at the end. They are encoded when they are needed, or by dgemma_context_prefill().
///
/// `context`: not NULL. `tokens`: `n_tokens` ids below vocab_size; NULL is fine when there are none.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (nothing was added) or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_append(
    context: *mut dgemma_context,
    tokens: *const u32,
    n_tokens: usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (shared, ids) = unsafe { (shared(context)?, slice(tokens, n_tokens, "tokens")?) };
        shared.run(|context| context.append(ids))
    })
}

/// Makes `tokens` the whole sequence and keeps what is encoded of the longest prefix that old and new have in common: the
/// cheap way to continue a conversation, or to regenerate from a changed place.
///
/// `context`: not NULL. `tokens`: `n_tokens` ids below vocab_size; NULL is fine when there are none. `reused`: receives how
/// many tokens need not be encoded again, or NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (nothing was changed) or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_set_tokens(
    context: *mut dgemma_context,
    tokens: *const u32,
    n_tokens: usize,
    reused: *mut usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (shared, ids) = unsafe { (shared(context)?, slice(tokens, n_tokens, "tokens")?) };
        let kept = shared.run(|context| context.set_tokens(ids))?;
        if !reused.is_null() {
            // SAFETY: not NULL, and writable by the caller's promise.
            unsafe { reused.write(kept) };
        }
        Ok(())
    })
}

/// Keeps the first `length` tokens.
///
/// `context`: not NULL. `length`: at most the length of the sequence. On models with sliding attention a deep cut can make
/// it necessary to encode what is left again; the library does so when it is needed.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_truncate(context: *mut dgemma_context, length: usize) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { shared(context)? }.run(|context| {
            let now = context.tokens().len();
            if length > now {
                return Err(Error::argument("length", format!("is {length}, expected at most {now}")));
            }
            context.truncate(length);
            Ok(())
        })
    })
}

/// Empties a context: no tokens, no pending cancel, counters at zero. Its memory is kept for the next sequence.
///
/// `context`: not NULL. Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_reset(context: *mut dgemma_context) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { shared(context)? }.run(|context| {
            context.reset();
            Ok(())
        })
    })
}

/// The sequence's tokens.
///
/// `context`: not NULL. `tokens`, `cap`, `len`: see "Buffers" above; with tokens NULL and cap 0 only its length.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _BUFFER_TOO_SMALL or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_tokens(
    context: *const dgemma_context,
    tokens: *mut u32,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { shared(context)?.run(|context| give(context.tokens(), (tokens, "tokens"), cap, len)) }
    })
}

/// Hears how far encoding is: `encoded` of `total` tokens. Returns 0 to continue; anything else stops the call.
pub type dgemma_prefill_callback =
    Option<unsafe extern "C" fn(encoded: usize, total: usize, user_data: *mut c_void) -> c_int>;

/// Encodes the tokens that are not encoded yet, so that the next generation starts at once.
///
/// `context`: not NULL. `on_prefill`: hears of each chunk on the calling thread, or NULL. `user_data`: handed to it.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CANCELLED (by the callback or a dgemma_canceller; what is encoded stays so) or
/// _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_prefill(
    context: *mut dgemma_context,
    on_prefill: dgemma_prefill_callback,
    user_data: *mut c_void,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { shared(context)? }.run(|context| {
            context.prefill(|encoded, total| match on_prefill {
                // SAFETY: the function is the caller's.
                Some(callback) => flow(unsafe { callback(encoded, total, user_data) }),
                None => ControlFlow::Continue(()),
            })
        })
    })
}

/// A callback's answer: 0 to continue.
pub(super) fn flow(answer: c_int) -> ControlFlow<()> {
    if answer == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// The state of a context. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_context_info {
    /// sizeof(dgemma_context_info) in the calling program.
    pub struct_size: usize,
    /// Tokens of the sequence.
    pub length: usize,
    /// Of which encoded.
    pub encoded: usize,
    /// Positions that the context holds at most, prompt and canvas together.
    pub context_size: usize,
    /// Seed of the generations and blocks that name none.
    pub seed: u64,
    /// Prompt tokens encoded per pass.
    pub chunk: u32,
    /// DGEMMA_KV_* of the cached keys and values; never DGEMMA_KV_DEFAULT.
    pub kv_type: u32,
}

// SAFETY: repr(C), integers only, the size first.
unsafe impl Growable for dgemma_context_info {
    const LEAST: usize = 32;
}

/// Reports the state of a context.
///
/// `context`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at
/// a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_describe(
    context: *const dgemma_context,
    out: *mut dgemma_context_info,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let shared = unsafe { shared(context)? };
        let info = shared.run(|context| {
            Ok(dgemma_context_info {
                struct_size: size_of::<dgemma_context_info>(),
                length: context.tokens().len(),
                encoded: context.encoded(),
                context_size: context.size(),
                seed: shared.seed,
                chunk: context.chunk() as u32,
                kv_type: match context.kv_type() {
                    KvType::F32 => DGEMMA_KV_F32,
                    KvType::F16 => DGEMMA_KV_F16,
                    KvType::Bf16 => DGEMMA_KV_BF16,
                },
            })
        })?;
        // SAFETY: the caller's promise.
        unsafe { sized::report(out, &info) }
    })
}

/// What a context did since it was made or reset. Durations are in seconds. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_perf {
    /// sizeof(dgemma_perf) in the calling program.
    pub struct_size: usize,
    /// Tokens encoded.
    pub prefill_tokens: u64,
    /// Denoising steps.
    pub steps: u64,
    /// Tokens committed.
    pub committed_tokens: u64,
    /// Scoring passes.
    pub scorings: u64,
    /// Time spent encoding.
    pub prefill_seconds: f64,
    /// Time spent in denoising steps.
    pub denoise_seconds: f64,
    /// Time spent scoring.
    pub scoring_seconds: f64,
    /// Of all three, time spent in attention, projections included.
    pub attention_seconds: f64,
    /// Of all three, time spent in dense layers, routers and experts.
    pub feed_forward_seconds: f64,
    /// Of all three, time spent in the output head: logits, statistics, draws and soft embedding.
    pub head_seconds: f64,
}

// SAFETY: repr(C), numbers only, the size first.
unsafe impl Growable for dgemma_perf {
    const LEAST: usize = 64;
}

/// Reports the performance counters of a context.
///
/// `context`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at
/// a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_perf(context: *const dgemma_context, out: *mut dgemma_perf) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let perf = unsafe { shared(context)? }.run(|context| Ok(context.perf()))?;
        let seconds = |phases: &[Phase]| phases.iter().map(|&phase| perf.phases[phase].wall.as_secs_f64()).sum();
        let perf = dgemma_perf {
            struct_size: size_of::<dgemma_perf>(),
            prefill_tokens: perf.prefill_tokens,
            steps: perf.steps,
            committed_tokens: perf.committed as u64,
            scorings: perf.scorings,
            prefill_seconds: perf.prefill.as_secs_f64(),
            denoise_seconds: perf.denoise.as_secs_f64(),
            scoring_seconds: perf.scoring.as_secs_f64(),
            attention_seconds: seconds(&[Phase::Projections, Phase::Attention]),
            feed_forward_seconds: seconds(&[Phase::Dense, Phase::Router, Phase::Experts]),
            head_seconds: seconds(&[Phase::Head, Phase::SoftEmbedding]),
        };
        // SAFETY: the caller's promise.
        unsafe { sized::report(out, &perf) }
    })
}

/// The text of the last call that failed on this context or on a block of it, whatever thread it ran on: what a binding
/// reads whose calls change threads. DGEMMA_STATUS_BUSY and NULL arguments leave no text here.
///
/// `context`: not NULL; may be in use. `buffer`, `cap`, `len`: see "Buffers" above.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUFFER_TOO_SMALL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_last_error(
    context: *const dgemma_context,
    buffer: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { give_text(&shared(context)?.failure(), buffer, cap, len) }
    })
}

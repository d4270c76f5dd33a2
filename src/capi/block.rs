//! The denoising loop in the program's hands: begin a block, step it, look into it, commit.

use super::buffer::{check_buffer, give, output, required, slice};
use super::context::{dgemma_context, shared};
use super::guard::guard;
use super::noise::{HeardNoise, dgemma_noise_callback};
use super::sampler::{dgemma_sampler_params, sampler};
use super::shared::Shared;
use super::sized::{self, Growable};
use super::status::dgemma_status;
use super::step::{Flags, before_first, dgemma_step, step};
use crate::engine::{Block, Context, Slot, Start};
use crate::error::{Error, Result};
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// A canvas being denoised behind the sequence of a context. It holds the context; calls on it use the context, so at most
/// one call on either runs at a time, and others are answered with DGEMMA_STATUS_BUSY. Several blocks can exist, but once
/// one has done its first step, a step of another one ends it.
pub struct dgemma_block(Arc<Held>);

/// What lies behind the pointer; a call keeps it alive even if a callback frees the block.
struct Held {
    context: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    block: Block,
    noise: HeardNoise,
    max_steps: u32,
    /// Of the last step, lent to the program.
    flags: Flags,
}

/// dgemma_block_params.slots: starts from a random token.
pub const DGEMMA_SLOT_NOISE: u8 = 0;
/// dgemma_block_params.slots: starts from the program's token and may change like any other position.
pub const DGEMMA_SLOT_FREE: u8 = 1;
/// dgemma_block_params.slots: the program's token stays: in the canvas at every step, and in the draft.
pub const DGEMMA_SLOT_PINNED: u8 = 2;

/// What a block starts from. Fill it with dgemma_block_params_init(), then change fields.
///
/// | to | slots |
/// |---|---|
/// | continue a text | none |
/// | fill a gap | PINNED around it, NOISE in it |
/// | edit | PINNED for what stays, FREE for what may be rewritten |
/// | start from an earlier draft | FREE |
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_block_params {
    /// Size of this struct as the program knows it, in bytes; set by dgemma_block_params_init().
    pub struct_size: usize,
    /// The block's place in the noise: blocks of one text count from 0, as dgemma_context_generate() counts them.
    pub index: u32,
    /// Positions, and entries of tokens and slots: 1 to the model's canvas_length; 0: that. The model was trained on whole
    /// canvases; a shorter one is cheaper, but its text is another one.
    pub canvas_length: u32,
    /// Seed of the noise; 0: the context's.
    pub seed: u64,
    /// The sampler's numbers, read during the call; NULL: the model's.
    pub sampler: *const dgemma_sampler_params,
    /// A token for each position, ignored where the slot is noise; NULL: all slots are noise.
    pub tokens: *const u32,
    /// DGEMMA_SLOT_* of each position; NULL: all free if there are tokens.
    pub slots: *const u8,
    /// Hears of the block's noise before it is used, in dgemma_block_begin() and dgemma_block_step(), and may replace it; or
    /// NULL.
    pub on_noise: dgemma_noise_callback,
    /// Handed to on_noise as it is; must stay valid for it as long as the block is stepped.
    pub user_data: *mut c_void,
}

// SAFETY: repr(C), integers and pointers only, the size first.
unsafe impl Growable for dgemma_block_params {
    const LEAST: usize = 48;
}

const DEFAULTS: dgemma_block_params = dgemma_block_params {
    struct_size: size_of::<dgemma_block_params>(),
    index: 0,
    canvas_length: 0,
    seed: 0,
    sampler: null(),
    tokens: null(),
    slots: null(),
    on_noise: None,
    user_data: null_mut(),
};

/// Fills `params` with the defaults.
///
/// `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the struct's first release.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_params_init(
    params: *mut dgemma_block_params,
    struct_size: usize,
) -> dgemma_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { sized::init(params, struct_size, &DEFAULTS) })
}

/// The program's slots; none means noise everywhere.
///
/// # Safety
/// `p.tokens` and `p.slots` are NULL or have `length` entries.
unsafe fn slots(p: &dgemma_block_params, length: usize, vocab: usize) -> Result<Vec<Slot>> {
    if p.slots.is_null() && p.tokens.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the caller's promise.
    let kinds = if p.slots.is_null() { None } else { Some(unsafe { slice(p.slots, length, "slots")? }) };
    // SAFETY: the caller's promise.
    let tokens = if p.tokens.is_null() { None } else { Some(unsafe { slice(p.tokens, length, "tokens")? }) };
    let slot = |i: usize| {
        let kind = kinds.map_or(DGEMMA_SLOT_FREE, |kinds| kinds[i]);
        match (kind, tokens) {
            (DGEMMA_SLOT_NOISE, _) => Ok(Slot::Noise),
            (DGEMMA_SLOT_FREE | DGEMMA_SLOT_PINNED, Some(tokens)) if tokens[i] as usize >= vocab => {
                Err(Error::argument("tokens", format!("has id {} at {i}, expected ids below {vocab}", tokens[i])))
            }
            (DGEMMA_SLOT_FREE, Some(tokens)) => Ok(Slot::Free(tokens[i])),
            (DGEMMA_SLOT_PINNED, Some(tokens)) => Ok(Slot::Pinned(tokens[i])),
            (DGEMMA_SLOT_FREE | DGEMMA_SLOT_PINNED, None) => {
                Err(Error::argument("tokens", "is NULL, but not all slots are noise"))
            }
            _ => Err(Error::argument("slots", format!("has {kind} at {i}, expected DGEMMA_SLOT_* values"))),
        }
    };
    (0..length).map(slot).collect()
}

/// Encodes what is not encoded yet and begins a block behind the context's sequence.
///
/// `context`: not NULL. `params`: from dgemma_block_params_init(), or NULL for the defaults. `out`: receives the block, to
/// be freed with dgemma_block_free(); not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (the canvas does not fit), _CANCELLED or _BUSY. Threads: one at a
/// time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_begin(
    context: *mut dgemma_context,
    params: *const dgemma_block_params,
    out: *mut *mut dgemma_block,
) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let (p, shared) = unsafe { (sized::read(params, &DEFAULTS)?, shared(context)?) };
        // SAFETY: the caller's promise.
        let state = shared.run(|context| unsafe { begin(context, &p, shared.seed) })?;
        let block = dgemma_block(Arc::new(Held { context: shared, state: Mutex::new(state) }));
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(Box::into_raw(Box::new(block))) };
        Ok(())
    })
}

/// # Safety
/// What `p` points to is true.
unsafe fn begin(context: &mut Context, p: &dgemma_block_params, seed: u64) -> Result<State> {
    let most = context.model().config().canvas;
    let length = if p.canvas_length == 0 { most } else { p.canvas_length as usize };
    if length > most {
        return Err(Error::argument("canvas_length", format!("is {length}, expected 0 to {most}")));
    }
    let seed = if p.seed == 0 { seed } else { p.seed };
    // SAFETY: the caller's promise.
    let sampler = unsafe { sampler(p.sampler, context.model().sampler_defaults(), seed)? };
    // SAFETY: the caller's promise.
    let slots = unsafe { slots(p, length, context.model().config().vocab)? };
    let start = if slots.is_empty() { Start::Random(length) } else { Start::Canvas(&slots) };
    let mut noise = HeardNoise::new(context.noise(seed), context.model(), p.on_noise, p.user_data);
    let block = context.begin_block(p.index, start, &sampler, &mut noise)?;
    Ok(State { block, noise, max_steps: sampler.steps, flags: Flags::default() })
}

/// # Safety
/// `block` is NULL or live during this function.
unsafe fn held(block: *const dgemma_block) -> Result<Arc<Held>> {
    // SAFETY: the caller's promise.
    Ok(unsafe { required(block, "block")? }.0.clone())
}

impl Held {
    fn lock(&self) -> Result<(&Shared, MutexGuard<'_, State>)> {
        match self.state.try_lock() {
            Ok(state) => Ok((&self.context, state)),
            Err(TryLockError::WouldBlock) => Err(Error::Busy("the block")),
            Err(TryLockError::Poisoned(_)) => Err(Error::Internal("the block failed before; free it".into())),
        }
    }
}

/// Does one denoising step. A step that fails, also by a cancel, leaves the block as it was; it can be stepped again.
///
/// `block`: not NULL, with steps left, and the context's sequence as it was when the block began. `done`: receives 1 if
/// this was the last step (converged, or out of steps), else 0; or NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT (no steps left, the sequence changed, another block was stepped since),
/// _CANCELLED or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_step(block: *mut dgemma_block, done: *mut c_int) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let held = unsafe { held(block)? };
        let (shared, mut state) = held.lock()?;
        let State { block, noise, flags, .. } = &mut *state;
        shared.run(|context| context.step(block, noise))?;
        if let Some(info) = block.last_step() {
            *flags = Flags::of(&info);
        }
        if !done.is_null() {
            // SAFETY: not NULL, and writable by the caller's promise.
            unsafe { done.write(block.is_done().into()) };
        }
        Ok(())
    })
}

/// Reports what the last step found. Before the first one only index, canvas_length, max_steps and canvas have a meaning,
/// and the other arrays are NULL.
///
/// `block`: not NULL. `out`: not NULL, struct_size set. Its arrays are lent until the next dgemma_block_step() or
/// dgemma_block_free() of this block.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_describe(block: *const dgemma_block, out: *mut dgemma_step) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let held = unsafe { held(block)? };
        let (_, state) = held.lock()?;
        let State { block, flags, max_steps, .. } = &*state;
        let found = block.last_step().map_or_else(|| before_first(block, *max_steps), |info| step(&info, flags));
        // SAFETY: the caller's promise.
        unsafe { sized::report(out, &found) }
    })
}

/// Log-probabilities over the whole vocabulary at chosen positions, as the block's last step computed them: the model's
/// own, at temperature 1 and without bias. Must come before the context does anything else.
///
/// `block`: not NULL. `rows`: `n_rows` positions of the canvas; NULL is fine when there are none. `log_probs`, `cap`,
/// `len`: see "Buffers" above; n_rows times vocab_size floats, row by row.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT (a position outside the canvas, no step yet, the context moved on),
/// _BUFFER_TOO_SMALL, _OUT_OF_MEMORY or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_log_probs(
    block: *mut dgemma_block,
    rows: *const u32,
    n_rows: usize,
    log_probs: *mut f32,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    // SAFETY: the caller's promise.
    unsafe { read_rows(block, (rows, n_rows), ((log_probs, "log_probs"), cap, len), Context::row_log_probs) }
}

/// The logits that dgemma_block_log_probs() makes its numbers from, soft-capped. Everything else is as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_logits(
    block: *mut dgemma_block,
    rows: *const u32,
    n_rows: usize,
    logits: *mut f32,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    // SAFETY: the caller's promise.
    unsafe { read_rows(block, (rows, n_rows), ((logits, "logits"), cap, len), Context::row_logits) }
}

/// # Safety
/// As the functions above say.
unsafe fn read_rows(
    block: *mut dgemma_block,
    (rows, n_rows): (*const u32, usize),
    (buffer, cap, len): ((*mut f32, &'static str), usize, *mut usize),
    compute: fn(&mut Context, &Block, &[usize]) -> Result<Vec<f32>>,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (held, rows) = unsafe { (held(block)?, slice(rows, n_rows, "rows")?) };
        let (shared, state) = held.lock()?;
        let length = state.block.canvas().len();
        if let Some(bad) = rows.iter().find(|&&row| row as usize >= length) {
            return Err(Error::argument("rows", format!("has {bad}, expected positions below {length}")));
        }
        check_buffer(buffer.0, buffer.1, cap)?;
        let rows: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
        shared.run(|context| {
            // Not computed to find out that there is no room for it.
            let needed = rows.len().saturating_mul(context.model().config().vocab);
            let values = if needed > cap { Vec::new() } else { compute(context, &state.block, &rows)? };
            if needed > cap && !len.is_null() {
                // SAFETY: not NULL, and writable by the caller's promise.
                unsafe { len.write(needed) };
            }
            if needed > cap {
                return Err(Error::BufferTooSmall { needed, cap });
            }
            // SAFETY: the caller's promise.
            unsafe { give(&values, buffer, cap, len) }
        })
    })
}

/// Appends the first `n` tokens of the block's draft to the context's sequence. The block is over then.
///
/// `block`: not NULL, with a step done, and the context's sequence as it was when the block began. `n`: at most its
/// canvas_length.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_commit(block: *mut dgemma_block, n: usize) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let held = unsafe { held(block)? };
        let (shared, state) = held.lock()?;
        shared.run(|context| context.commit(&state.block, n))
    })
}

/// Frees a block; NULL is fine. No other call may be using it. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_free(block: *mut dgemma_block) {
    guard(|| {
        if !block.is_null() {
            // SAFETY: made by Box::into_raw in dgemma_block_begin, and not freed yet by the caller's promise.
            drop(unsafe { Box::from_raw(block) });
        }
        Ok(())
    });
}

/// A token whose probability is asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_candidate {
    /// Position in the canvas, from 0.
    pub position: u32,
    /// The token, below vocab_size.
    pub token: u32,
}

fn pairs(candidates: &[dgemma_candidate]) -> Vec<(usize, u32)> {
    candidates.iter().map(|c| (c.position as usize, c.token)).collect()
}

/// Scores tokens by one pass over a canvas behind the context's sequence, which stays as it is: the natural logarithm of
/// each candidate's probability at its position, at temperature 1 and without bias.
///
/// `context`: not NULL. `canvas`: `canvas_length` ids, 1 to the model's canvas_length. `candidates`: `n_candidates`
/// entries; NULL is fine when there are none. `log_probs`: receives n_candidates numbers in their order; not NULL unless
/// there are none.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _CONTEXT_FULL (the canvas does not fit), _CANCELLED or _BUSY. Threads: one at a
/// time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_score(
    context: *mut dgemma_context,
    canvas: *const u32,
    canvas_length: usize,
    candidates: *const dgemma_candidate,
    n_candidates: usize,
    log_probs: *mut f32,
) -> dgemma_status {
    guard(|| {
        if n_candidates > 0 {
            output(log_probs, "log_probs")?;
        }
        // SAFETY: the caller's promise.
        let (shared, canvas, wanted) = unsafe {
            (shared(context)?, slice(canvas, canvas_length, "canvas")?, slice(candidates, n_candidates, "candidates")?)
        };
        let scores = shared.run(|context| context.score(canvas, &pairs(wanted)))?;
        // SAFETY: room for n_candidates by the caller's promise.
        unsafe { give(&scores, (log_probs, "log_probs"), n_candidates, std::ptr::null_mut()) }
    })
}

/// The same numbers from a block's last step: what the model thought there. Must come before the context does anything
/// else.
///
/// `block`: not NULL. `candidates`, `n_candidates`, `log_probs`: as for dgemma_context_score().
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT (a position or token out of range, no step yet, the context moved on),
/// _CANCELLED or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_block_score(
    block: *mut dgemma_block,
    candidates: *const dgemma_candidate,
    n_candidates: usize,
    log_probs: *mut f32,
) -> dgemma_status {
    guard(|| {
        if n_candidates > 0 {
            output(log_probs, "log_probs")?;
        }
        // SAFETY: the caller's promise.
        let (held, wanted) = unsafe { (held(block)?, slice(candidates, n_candidates, "candidates")?) };
        let (shared, state) = held.lock()?;
        let scores = shared.run(|context| context.candidate_log_probs(&state.block, &pairs(wanted)))?;
        // SAFETY: room for n_candidates by the caller's promise.
        unsafe { give(&scores, (log_probs, "log_probs"), n_candidates, std::ptr::null_mut()) }
    })
}

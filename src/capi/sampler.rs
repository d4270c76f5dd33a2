//! The sampler's numbers.

use super::buffer::slice;
use super::guard::guard;
use super::model::{dgemma_model, model_of};
use super::sized::{self, Growable};
use super::status::dgemma_status;
use crate::error::{Error, Result};
use crate::sampler::{MAX_STEPS, SamplerParams, StableRule};
use std::ptr::null;

/// Added to a token's logit at every position, before the temperature divides it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_logit_bias {
    /// The token, below vocab_size.
    pub token: u32,
    /// -1000 to 1000, or negative infinity, which bans the token.
    pub bias: f32,
}

/// The numbers of the entropy-bound sampler. Fill it with dgemma_sampler_params_init(), then change fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_sampler_params {
    /// Size of this struct as the program knows it, in bytes; set by dgemma_sampler_params_init().
    pub struct_size: usize,
    /// Most denoising steps per canvas, 1 to 1000000.
    pub max_steps: u32,
    /// Stop once the draft equals that many previous drafts, 0 to 1024; 0 asks only for confidence.
    pub stability: u32,
    /// Temperature that the schedule approaches, > 0.
    pub t_min: f32,
    /// Temperature of the first step, at least t_min.
    pub t_max: f32,
    /// Bound in nats on the summed entropy of the positions that are accepted in a step, >= 0.
    pub entropy_bound: f32,
    /// Stop only below this mean entropy in nats, >= 0.
    pub confidence: f32,
    /// For stable_length and early text: a position is stable when its draft stayed the same for so many steps ...
    pub stable_steps: u32,
    /// ... and its entropy in nats is at most this. Both have no influence on the text.
    pub stable_entropy: f32,
    /// n_logit_bias entries, read during the call that gets these params; NULL if there are none. Biases of a token listed
    /// twice add up.
    pub logit_bias: *const dgemma_logit_bias,
    /// Entries of logit_bias.
    pub n_logit_bias: usize,
    /// n_banned tokens that are never drawn or drafted, read during the call that gets these params; NULL if there are
    /// none. One token must be left.
    pub banned: *const u32,
    /// Entries of banned.
    pub n_banned: usize,
}

// SAFETY: repr(C), numbers and pointers only, the size first.
unsafe impl Growable for dgemma_sampler_params {
    const LEAST: usize = 72;
}

fn defaults(from: &SamplerParams) -> dgemma_sampler_params {
    dgemma_sampler_params {
        struct_size: size_of::<dgemma_sampler_params>(),
        max_steps: from.steps,
        stability: from.stability,
        t_min: from.t_min,
        t_max: from.t_max,
        entropy_bound: from.entropy_bound,
        confidence: from.confidence,
        stable_steps: from.stable.steps,
        stable_entropy: from.stable.entropy,
        logit_bias: null(),
        n_logit_bias: 0,
        banned: null(),
        n_banned: 0,
    }
}

/// Fills `params` with a model's own numbers.
///
/// `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program. `model`: whose numbers; NULL
/// for those of the reference implementation.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL params, and for a size smaller than that of the struct's first release.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_sampler_params_init(
    params: *mut dgemma_sampler_params,
    struct_size: usize,
    model: *const dgemma_model,
) -> dgemma_status {
    guard(|| {
        let numbers = if model.is_null() {
            SamplerParams::default()
        } else {
            // SAFETY: the caller's promise.
            unsafe { model_of(model)? }.sampler_defaults().clone()
        };
        // SAFETY: the caller's promise.
        unsafe { sized::init(params, struct_size, &defaults(&numbers)) }
    })
}

/// The program's numbers over the model's.
///
/// # Safety
/// `params` is NULL or a struct whose size field and lists are true.
pub(super) unsafe fn sampler(
    params: *const dgemma_sampler_params,
    model: &SamplerParams,
    seed: u64,
) -> Result<SamplerParams> {
    // SAFETY: the caller's promise.
    let p = unsafe { sized::read(params, &defaults(model))? };
    // SAFETY: the caller's promise.
    let (bias, banned) =
        unsafe { (slice(p.logit_bias, p.n_logit_bias, "logit_bias")?, slice(p.banned, p.n_banned, "banned")?) };
    check_steps(p.max_steps)?;
    Ok(SamplerParams {
        steps: p.max_steps,
        t_min: p.t_min,
        t_max: p.t_max,
        entropy_bound: p.entropy_bound,
        stability: p.stability,
        confidence: p.confidence,
        seed,
        logit_bias: bias.iter().map(|b| (b.token, b.bias)).collect(),
        banned: banned.to_vec(),
        stable: StableRule { steps: p.stable_steps, entropy: p.stable_entropy },
    })
}

/// Refuses numbers of steps by the name that they have in C.
pub(super) fn check_steps(max_steps: u32) -> Result<()> {
    if (1..=MAX_STEPS).contains(&max_steps) {
        return Ok(());
    }
    Err(Error::argument("max_steps", format!("is {max_steps}, expected 1 to {MAX_STEPS}")))
}

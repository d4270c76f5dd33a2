//! Noise in the program's hands: heard, so that a generation can be recorded, or replaced, so that it can be replayed.

use super::buffer::Address;
use super::context::flow;
use crate::engine::Model;
use crate::error::{Error, Result};
use crate::sampler::{Noise, PhiloxNoise};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// dgemma_noise.purpose: the tokens that a canvas starts from.
pub const DGEMMA_NOISE_CANVAS: u32 = 0;
/// dgemma_noise.purpose: where in its distribution each position's token is drawn.
pub const DGEMMA_NOISE_DRAWS: u32 = 1;
/// dgemma_noise.purpose: the tokens that positions get which are not accepted.
pub const DGEMMA_NOISE_RENOISE: u32 = 2;

/// Noise that is about to be used, one number for each position of a canvas. It comes filled from the seed. What the program
/// writes into the array is used instead, so that a recording of all of it gives the same text again: on another backend,
/// after a change of the library, from another implementation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_noise {
    /// Size of this struct as the library knows it, in bytes.
    pub struct_size: usize,
    /// DGEMMA_NOISE_* value.
    pub purpose: u32,
    /// The canvas's index within the generation, from 0.
    pub block: u32,
    /// The step's index within the canvas, from 0; 0 for DGEMMA_NOISE_CANVAS.
    pub step: u32,
    /// Positions of the canvas, and entries of the array.
    pub canvas_length: u32,
    /// Ids below vocab_size; NULL for DGEMMA_NOISE_DRAWS.
    pub tokens: *mut u32,
    /// Numbers above 0 and below 1; NULL unless DGEMMA_NOISE_DRAWS.
    pub draws: *mut f32,
}

/// Hears of noise before it is used; `noise` and its array are lent for the time of the call. Returns 0 to continue;
/// anything else stops the call as a dgemma_canceller does. A step that is repeated after a failure asks again.
pub type dgemma_noise_callback =
    Option<unsafe extern "C" fn(noise: *const dgemma_noise, user_data: *mut c_void) -> c_int>;

/// The seed's noise, shown to the program.
pub(super) struct HeardNoise {
    noise: PhiloxNoise,
    vocab: usize,
    callback: dgemma_noise_callback,
    user_data: Address,
}

impl HeardNoise {
    pub fn new(noise: PhiloxNoise, model: &Model, callback: dgemma_noise_callback, user_data: *mut c_void) -> Self {
        HeardNoise { noise, vocab: model.config().vocab, callback, user_data: Address(user_data) }
    }

    fn hear(&self, noise: dgemma_noise) -> Result<()> {
        let Some(callback) = self.callback else { return Ok(()) };
        // SAFETY: the struct and its array live for the call; the function is the caller's.
        let answer = unsafe { callback(&noise, self.user_data.get()) };
        if flow(answer).is_break() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn tokens(&self, (purpose, block, step): (u32, u32, u32), out: &mut [u32]) -> Result<()> {
        self.hear(dgemma_noise { tokens: out.as_mut_ptr(), ..empty(purpose, block, step, out.len()) })?;
        match out.iter().find(|&&t| t as usize >= self.vocab) {
            None => Ok(()),
            Some(bad) => Err(wrong(format!("wrote id {bad}, expected ids below {}", self.vocab))),
        }
    }
}

fn empty(purpose: u32, block: u32, step: u32, length: usize) -> dgemma_noise {
    dgemma_noise {
        struct_size: size_of::<dgemma_noise>(),
        purpose,
        block,
        step,
        canvas_length: length as u32,
        tokens: null_mut(),
        draws: null_mut(),
    }
}

fn wrong(what: String) -> Error {
    Error::argument("on_noise", what)
}

impl Noise for HeardNoise {
    fn canvas(&mut self, block: u32, out: &mut [u32]) -> Result<()> {
        self.noise.canvas(block, out)?;
        self.tokens((DGEMMA_NOISE_CANVAS, block, 0), out)
    }

    fn draws(&mut self, block: u32, step: u32, out: &mut [f32]) -> Result<()> {
        self.noise.draws(block, step, out)?;
        self.hear(dgemma_noise { draws: out.as_mut_ptr(), ..empty(DGEMMA_NOISE_DRAWS, block, step, out.len()) })?;
        match out.iter().find(|&&u| !(u > 0.0 && u < 1.0)) {
            None => Ok(()),
            Some(bad) => Err(wrong(format!("wrote {bad}, expected numbers above 0 and below 1"))),
        }
    }

    fn renoise(&mut self, block: u32, step: u32, out: &mut [u32]) -> Result<()> {
        self.noise.renoise(block, step, out)?;
        self.tokens((DGEMMA_NOISE_RENOISE, block, step), out)
    }

    fn philox(&self) -> Option<&PhiloxNoise> {
        if self.callback.is_none() { Some(&self.noise) } else { None }
    }
}

//! What one denoising step found, as C sees it.

use super::sized::Growable;
use crate::engine::{Block, StepInfo};
use std::ptr::null;

/// One denoising step. Handed to dgemma_step_callback for the time of the call, with struct_size as the library knows it;
/// or filled by dgemma_block_describe(), with struct_size set by the program. Arrays have canvas_length entries.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_step {
    /// Size of this struct, in bytes, as the side that made it knows it.
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
    /// The canvas that the next step starts from.
    pub canvas: *const u32,
    /// The token drawn at each position.
    pub drawn: *const u32,
    /// Natural logarithm of the probability of each position's draft: its confidence.
    pub log_prob: *const f32,
    /// 1 where the draft is not that of the step before; at the first step, not what the canvas started from.
    pub changed: *const u8,
    /// 1 where the program pinned the token.
    pub pinned: *const u8,
    /// Leading positions that are unlikely to change any more (dgemma_sampler_params.stable_steps). The number can shrink.
    pub stable_length: usize,
    /// The step's temperature.
    pub temperature: f32,
    /// 1 if the canvas takes no further step: converged, or out of steps.
    pub done: u32,
}

// SAFETY: repr(C), numbers and pointers only, the size first.
unsafe impl Growable for dgemma_step {
    const LEAST: usize = 56;
}

/// The flags of a step in the form that C gets.
#[derive(Default)]
pub(super) struct Flags {
    accepted: Vec<u8>,
    changed: Vec<u8>,
    pinned: Vec<u8>,
}

impl Flags {
    pub fn of(info: &StepInfo) -> Self {
        let bytes = |flags: &[bool]| flags.iter().map(|&f| u8::from(f)).collect();
        Flags { accepted: bytes(info.accepted), changed: bytes(info.changed), pinned: bytes(info.pinned) }
    }
}

/// Borrows from both: valid as long as neither changes.
pub(super) fn step(info: &StepInfo, flags: &Flags) -> dgemma_step {
    dgemma_step {
        struct_size: size_of::<dgemma_step>(),
        block: info.block,
        step: info.step,
        max_steps: info.max_steps,
        converged: u32::from(info.converged),
        canvas_length: info.draft.len(),
        draft: info.draft.as_ptr(),
        entropy: info.entropy.as_ptr(),
        accepted: flags.accepted.as_ptr(),
        canvas: info.canvas.as_ptr(),
        drawn: info.drawn.as_ptr(),
        log_prob: info.log_prob.as_ptr(),
        changed: flags.changed.as_ptr(),
        pinned: flags.pinned.as_ptr(),
        stable_length: info.stable,
        temperature: info.temperature,
        done: u32::from(info.converged || info.step + 1 == info.max_steps),
    }
}

/// A block before its first step: nothing but its canvas.
pub(super) fn before_first(block: &Block, max_steps: u32) -> dgemma_step {
    dgemma_step {
        struct_size: size_of::<dgemma_step>(),
        block: block.index(),
        step: 0,
        max_steps,
        converged: 0,
        canvas_length: block.canvas().len(),
        draft: null(),
        entropy: null(),
        accepted: null(),
        canvas: block.canvas().as_ptr(),
        drawn: null(),
        log_prob: null(),
        changed: null(),
        pinned: null(),
        stable_length: 0,
        temperature: 0.0,
        done: 0,
    }
}

//! What a block's canvas starts from: noise, or the caller's tokens.
//!
//! | to | slots |
//! |---|---|
//! | continue a text | all [`Slot::Noise`], or [`Start::Random`] |
//! | fill a gap | [`Slot::Pinned`] around it, [`Slot::Noise`] in it |
//! | edit | [`Slot::Pinned`] for what stays, [`Slot::Free`] for what may be rewritten |
//! | warm start | [`Slot::Free`] with an earlier draft |

use crate::error::{Error, Result};
use crate::sampler::Noise;

/// One position of a canvas given by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The token stays: it is in the canvas at every step, counts as accepted, and is what the draft has there. The
    /// position takes no part in the entropy bound, nor in the mean entropy that ends a block. Its entropy and
    /// log-probability are still reported; they are the model's own opinion.
    Pinned(u32),
    /// Starts from this token and may change like any other position.
    Free(u32),
    /// Starts from a uniform token.
    Noise,
}

/// What a block starts from.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// That many uniform tokens, 1 to the model's canvas; 0: the model's canvas. The model was trained on whole canvases:
    /// a shorter one is cheaper, and good for short answers, but its text is another one.
    Random(usize),
    /// One slot per position, 1 to the model's canvas.
    Canvas(&'a [Slot]),
}

impl Start<'_> {
    /// How many positions, for a model whose canvas has `canvas`.
    pub(super) fn length(&self, canvas: usize) -> Result<usize> {
        let length = match self {
            Start::Random(0) => canvas,
            Start::Random(n) => *n,
            Start::Canvas(slots) => slots.len(),
        };
        if length == 0 || length > canvas {
            return Err(Error::argument("canvas", format!("has {length} positions, expected 1 to {canvas}")));
        }
        Ok(length)
    }

    /// The first canvas of block `index`, and which positions are pinned.
    pub(super) fn canvas(&self, index: u32, length: usize, noise: &mut dyn Noise) -> Result<(Vec<u32>, Vec<bool>)> {
        let (mut canvas, mut pinned) = (vec![0; length], vec![false; length]);
        let Start::Canvas(slots) = self else {
            noise.canvas(index, &mut canvas)?;
            return Ok((canvas, pinned));
        };
        if slots.contains(&Slot::Noise) {
            noise.canvas(index, &mut canvas)?;
        }
        for (i, slot) in slots.iter().enumerate() {
            match *slot {
                Slot::Pinned(token) => (canvas[i], pinned[i]) = (token, true),
                Slot::Free(token) => canvas[i] = token,
                Slot::Noise => {}
            }
        }
        Ok((canvas, pinned))
    }

    /// Refuses ids that the vocabulary does not have.
    pub(super) fn check_ids(&self, vocab: usize) -> Result<()> {
        let Start::Canvas(slots) = self else { return Ok(()) };
        for slot in *slots {
            if let Slot::Pinned(token) | Slot::Free(token) = *slot
                && token as usize >= vocab
            {
                return Err(Error::argument("canvas", format!("has id {token}, expected ids below {vocab}")));
            }
        }
        Ok(())
    }
}

//! Where random tokens and draws come from: a counter-based generator, or a recording.

use super::philox::philox4x32;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// What a random number is for; part of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// A token of a block's first canvas.
    Canvas = 0,
    /// The uniform of a draw.
    Draw = 1,
    /// The token of a position that was not accepted.
    Renoise = 2,
}

/// The noise of one generation. Every number has an address (block, step, position), so order of use does not matter.
pub trait Noise: Send {
    /// The first canvas of a block.
    fn canvas(&mut self, block: u32, out: &mut [u32]) -> Result<()>;
    /// Numbers in (0, 1), one per position.
    fn draws(&mut self, block: u32, step: u32, out: &mut [f32]) -> Result<()>;
    /// Fresh tokens, one per position.
    fn renoise(&mut self, block: u32, step: u32, out: &mut [u32]) -> Result<()>;
    /// The generator, where all numbers are its own and nobody has to hear of them: a device can then make them by itself.
    fn philox(&self) -> Option<&PhiloxNoise> {
        None
    }
}

/// Noise from Philox 4x32-10: key = seed, counter = (block, step, position, purpose).
#[derive(Clone, Debug)]
pub struct PhiloxNoise {
    seed: u64,
    vocab: u32,
}

impl PhiloxNoise {
    /// Tokens are uniform over the whole vocabulary, control tokens included.
    pub fn new(seed: u64, vocab: usize) -> Self {
        PhiloxNoise { seed, vocab: vocab as u32 }
    }

    /// The key, and what tokens are below.
    pub fn seed_and_vocab(&self) -> (u64, u32) {
        (self.seed, self.vocab)
    }

    fn word(&self, block: u32, step: u32, position: usize, purpose: Purpose) -> u32 {
        philox4x32([block, step, position as u32, purpose as u32], [self.seed as u32, (self.seed >> 32) as u32])[0]
    }

    /// Multiply-shift onto 0..vocab: each token's probability is off by less than vocab / 2^32 of itself.
    fn token(&self, word: u32) -> u32 {
        ((u64::from(word) * u64::from(self.vocab)) >> 32) as u32
    }
}

impl Noise for PhiloxNoise {
    fn canvas(&mut self, block: u32, out: &mut [u32]) -> Result<()> {
        out.iter_mut().enumerate().for_each(|(i, t)| *t = self.token(self.word(block, 0, i, Purpose::Canvas)));
        Ok(())
    }

    /// The 23 high bits and a half: exact in f32 and never 0 or 1.
    fn draws(&mut self, block: u32, step: u32, out: &mut [f32]) -> Result<()> {
        let uniform = |word: u32| ((word >> 9) as f32 + 0.5) / (1u32 << 23) as f32;
        out.iter_mut().enumerate().for_each(|(i, u)| *u = uniform(self.word(block, step, i, Purpose::Draw)));
        Ok(())
    }

    fn renoise(&mut self, block: u32, step: u32, out: &mut [u32]) -> Result<()> {
        out.iter_mut().enumerate().for_each(|(i, t)| *t = self.token(self.word(block, step, i, Purpose::Renoise)));
        Ok(())
    }

    fn philox(&self) -> Option<&PhiloxNoise> {
        Some(self)
    }
}

/// The recorded noise of one step.
#[derive(Clone, Debug, Default)]
pub struct StepNoise {
    /// One number in (0, 1) per position.
    pub draws: Vec<f32>,
    /// One token per position.
    pub renoise: Vec<u32>,
}

/// A recording, e.g. of the reference implementation, to be followed step by step.
#[derive(Clone, Debug, Default)]
pub struct RecordedNoise {
    /// First canvas by block.
    pub canvases: BTreeMap<u32, Vec<u32>>,
    /// The rest by (block, step).
    pub steps: BTreeMap<(u32, u32), StepNoise>,
}

impl RecordedNoise {
    fn step(&self, block: u32, step: u32) -> Result<&StepNoise> {
        let missing = || Error::argument("noise", format!("the recording has no block {block}, step {step}"));
        self.steps.get(&(block, step)).ok_or_else(missing)
    }
}

fn replay<T: Copy>(from: &[T], out: &mut [T]) -> Result<()> {
    if from.len() != out.len() {
        let what = format!("the recording has {} positions, expected {}", from.len(), out.len());
        return Err(Error::argument("noise", what));
    }
    out.copy_from_slice(from);
    Ok(())
}

impl Noise for RecordedNoise {
    fn canvas(&mut self, block: u32, out: &mut [u32]) -> Result<()> {
        let missing = || Error::argument("noise", format!("the recording has no canvas for block {block}"));
        replay(self.canvases.get(&block).ok_or_else(missing)?, out)
    }

    fn draws(&mut self, block: u32, step: u32, out: &mut [f32]) -> Result<()> {
        replay(&self.step(block, step)?.draws, out)
    }

    fn renoise(&mut self, block: u32, step: u32, out: &mut [u32]) -> Result<()> {
        replay(&self.step(block, step)?.renoise, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_independent_and_numbers_in_range() {
        let mut n = PhiloxNoise::new(7, 1003);
        let (mut a, mut b, mut u) = ([0; 256], [0; 256], [0.0; 4096]);
        n.canvas(0, &mut a).unwrap();
        n.renoise(0, 0, &mut b).unwrap();
        assert_ne!(a, b);
        assert!(a.iter().chain(&b).all(|&t| t < 1003));
        n.draws(1, 2, &mut u).unwrap();
        assert!(u.iter().all(|&u| u > 0.0 && u < 1.0));
        let mean = u.iter().sum::<f32>() / 4096.0;
        assert!((mean - 0.5).abs() < 5.0 * (1.0f32 / 12.0 / 4096.0).sqrt(), "{mean}"); // five standard errors
        let mut again = [0; 256];
        n.canvas(0, &mut again).unwrap();
        assert_eq!(a, again);
    }

    #[test]
    fn a_recording_that_ends_says_where() {
        let mut n = RecordedNoise::default();
        let text = n.draws(1, 3, &mut [0.0]).unwrap_err().to_string();
        assert_eq!(text, "argument `noise`: the recording has no block 1, step 3");
    }
}

//! Noise written down while it is used, so that a generation can be replayed: on another backend, in another program.

use super::{Noise, RecordedNoise, StepNoise};
use crate::error::Result;

/// Passes another noise on and remembers it. [`Recorder::recording`] gives the same generation again, as long as model,
/// prompt and parameters are the same.
pub struct Recorder<'a> {
    noise: &'a mut dyn Noise,
    /// What was used so far.
    pub recording: RecordedNoise,
}

impl<'a> Recorder<'a> {
    /// Records `noise`.
    pub fn new(noise: &'a mut dyn Noise) -> Self {
        Recorder { noise, recording: RecordedNoise::default() }
    }

    fn step(&mut self, block: u32, step: u32) -> &mut StepNoise {
        self.recording.steps.entry((block, step)).or_default()
    }
}

impl Noise for Recorder<'_> {
    fn canvas(&mut self, block: u32, out: &mut [u32]) -> Result<()> {
        self.noise.canvas(block, out)?;
        self.recording.canvases.insert(block, out.to_vec());
        Ok(())
    }

    fn draws(&mut self, block: u32, step: u32, out: &mut [f32]) -> Result<()> {
        self.noise.draws(block, step, out)?;
        self.step(block, step).draws = out.to_vec();
        Ok(())
    }

    fn renoise(&mut self, block: u32, step: u32, out: &mut [u32]) -> Result<()> {
        self.noise.renoise(block, step, out)?;
        self.step(block, step).renoise = out.to_vec();
        Ok(())
    }
}

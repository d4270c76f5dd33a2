//! What starting things costs a denoising step on a GPU, for measurements.

use super::{Context, Start};
use crate::backend::Replays;
use crate::error::{Error, Result};

/// Steps before those that count: launched kernel by kernel, until code and work space are there and a record is made.
const WARM_UP: u32 = 3;

/// Where a step's time goes beside its kernels: between two steps, while the host hears of one and starts the next, and
/// inside of a step, each time that something ends and the next thing starts. Seconds by the device's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaunchGaps {
    /// A step, from its start to the next one's, as generations make them when nobody looks at steps.
    pub step: f64,
    /// The same without the host.
    pub replays: Replays,
}

impl LaunchGaps {
    /// Between two steps.
    pub fn between(&self) -> f64 {
        self.step - self.replays.seconds
    }

    /// One start inside of a step, at most: what each of the empty kernels added.
    pub fn each(&self) -> f64 {
        (self.replays.padded_seconds - self.replays.seconds) / self.replays.padding as f64
    }

    /// All of them, at most. As many as there are nodes: the first begins where the step before has ended.
    pub fn inside(&self) -> f64 {
        self.each() * self.replays.nodes as f64
    }
}

impl Context {
    /// Measures `n` steps of a block behind the timeline, which stays as it is. `None` where steps are not recorded: on
    /// processors, with layers or experts on the host, with `DGEMMA_CUDA_GRAPHS=0`.
    ///
    /// [`Error::Argument`]: `n` is 0; and the errors of [`Context::step`].
    pub fn launch_gaps(&mut self, n: u32) -> Result<Option<LaunchGaps>> {
        if n == 0 {
            return Err(Error::argument("n", "is 0, expected at least one step"));
        }
        let mut sampler = self.model.sampler_defaults().clone();
        // One more than are made, since a block's last step is looked at.
        (sampler.steps, sampler.confidence) = (n.saturating_add(WARM_UP + 1), 0.0);
        let mut noise = self.noise(sampler.seed);
        let mut block = self.begin_block(0, Start::Random(0), &sampler, &mut noise)?;
        if !self.runner.samples() {
            return Ok(None);
        }
        for _ in 0..WARM_UP {
            self.step_looking(&mut block, &mut noise, false)?;
        }
        self.runner.lap()?;
        for _ in 0..n {
            self.step_looking(&mut block, &mut noise, false)?;
        }
        let step = self.runner.lap()? / f64::from(n);
        (self.soft_of, self.hidden_of) = (0, 0);
        let replays = self.runner.replays(block.start, n as usize)?;
        Ok(replays.map(|replays| LaunchGaps { step, replays }))
    }
}

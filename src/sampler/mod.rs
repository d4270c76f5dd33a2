//! The sampler: what is done with a step's statistics. Pure functions over small slices; the numbers come from the file's
//! `diffusion.eb_*` keys, else from the defaults of the reference implementation.

mod accept;
mod bias;
mod canvas;
mod noise;
pub mod philox;
mod record;
mod stable;
mod stop;

pub use accept::accept;
pub use bias::MAX_BIAS;
pub use canvas::Canvas;
pub use noise::{Noise, PhiloxNoise, Purpose, RecordedNoise, StepNoise};
pub use record::Recorder;
pub use stable::StableRule;
pub use stop::Stability;

use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// Largest [`SamplerParams::steps`].
pub const MAX_STEPS: u32 = 1_000_000;

/// The numbers of the entropy-bound sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerParams {
    /// Most denoising steps per canvas, at least 1. Key `diffusion.eb_max_steps`, default 48.
    pub steps: u32,
    /// Temperature that the schedule approaches, > 0. Key `diffusion.eb_t_min`, default 0.4.
    pub t_min: f32,
    /// Temperature of the first step, >= `t_min`. Key `diffusion.eb_t_max`, default 0.8.
    pub t_max: f32,
    /// Bound in nats on the summed entropy of accepted positions, >= 0. Key `diffusion.eb_entropy_bound`, default 0.1.
    pub entropy_bound: f32,
    /// Stop once the draft equals that many previous drafts; 0 asks only for confidence. Key
    /// `diffusion.eb_stability_threshold`, default 1.
    pub stability: u32,
    /// Stop only below this mean entropy in nats, >= 0. Key `diffusion.eb_confidence_threshold`, default 0.005.
    pub confidence: f32,
    /// Seed of the noise: the same seed gives the same text on any number of threads.
    pub seed: u64,
    /// (token, bias): added to the token's soft-capped logit before the temperature divides it. Within ±1000, or
    /// negative infinity, which bans the token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that are never drawn, drafted or part of the self-conditioning signal. The noise of positions that are not
    /// accepted stays uniform over the whole vocabulary, as the model was trained with: the canvas input may show a
    /// banned token, the text may not. A pinned token may be a banned one.
    pub banned: Vec<u32>,
    /// Which beginning of the draft is reported as stable ([`StepInfo::stable`](crate::engine::StepInfo::stable)). Has
    /// no influence on the text.
    pub stable: StableRule,
}

impl Default for SamplerParams {
    /// The defaults of the reference implementation's generation configuration.
    fn default() -> Self {
        SamplerParams {
            steps: 48,
            t_min: 0.4,
            t_max: 0.8,
            entropy_bound: 0.1,
            stability: 1,
            confidence: 0.005,
            seed: 0,
            logit_bias: Vec::new(),
            banned: Vec::new(),
            stable: StableRule::default(),
        }
    }
}

impl SamplerParams {
    /// The file's numbers, each falling back to its default.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let (keys, d) = (file.metadata(), Self::default());
        let params = SamplerParams {
            steps: keys.opt_u32("diffusion.eb_max_steps")?.unwrap_or(d.steps),
            t_min: keys.opt_f32("diffusion.eb_t_min")?.unwrap_or(d.t_min),
            t_max: keys.opt_f32("diffusion.eb_t_max")?.unwrap_or(d.t_max),
            entropy_bound: keys.opt_f32("diffusion.eb_entropy_bound")?.unwrap_or(d.entropy_bound),
            stability: keys.opt_u32("diffusion.eb_stability_threshold")?.unwrap_or(d.stability),
            confidence: keys.opt_f32("diffusion.eb_confidence_threshold")?.unwrap_or(d.confidence),
            ..d
        };
        params.check().map_err(|e| Error::file(file.path(), format!("sampler keys `diffusion.eb_*`: {e}")))?;
        Ok(params)
    }

    /// Refuses numbers outside their ranges.
    pub fn check(&self) -> Result<()> {
        let refuse =
            |name, value: f32, expected: &str| Err(Error::argument(name, format!("is {value}, expected {expected}")));
        match self {
            p if p.steps == 0 || p.steps > MAX_STEPS => refuse("steps", p.steps as f32, "1 to 1000000"),
            p if !(p.t_min > 0.0 && p.t_min.is_finite()) => refuse("t_min", p.t_min, "a positive number"),
            p if !(p.t_max >= p.t_min && p.t_max.is_finite()) => refuse("t_max", p.t_max, "at least t_min"),
            p if p.entropy_bound.is_nan() || p.entropy_bound < 0.0 => {
                refuse("entropy_bound", p.entropy_bound, "0 or more")
            }
            p if p.confidence.is_nan() || p.confidence < 0.0 => refuse("confidence", p.confidence, "0 or more"),
            p if p.stability > 1024 => refuse("stability", p.stability as f32, "0 to 1024"),
            p if p.stable.entropy.is_nan() => refuse("stable_entropy", p.stable.entropy, "a number"),
            _ => Ok(()),
        }
    }

    /// Temperature of step `step` (from 0): linear in the steps that remain, the first at `t_max`.
    pub fn temperature(&self, step: u32) -> f32 {
        let remaining = f64::from(self.steps - step.min(self.steps)) / f64::from(self.steps);
        (f64::from(self.t_min) + (f64::from(self.t_max) - f64::from(self.t_min)) * remaining) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_follow_the_schedule() {
        let p = SamplerParams::default();
        assert_eq!(p.temperature(0), 0.8);
        assert!((p.temperature(47) - (0.4 + 0.4 / 48.0)).abs() < 1e-7);
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let bad = |p: SamplerParams| p.check().unwrap_err().to_string();
        let d = SamplerParams::default();
        assert_eq!(bad(SamplerParams { steps: 0, ..d.clone() }), "argument `steps`: is 0, expected 1 to 1000000");
        assert_eq!(
            bad(SamplerParams { t_min: f32::NAN, ..d.clone() }),
            "argument `t_min`: is NaN, expected a positive number"
        );
        assert_eq!(bad(SamplerParams { t_max: 0.1, ..d.clone() }), "argument `t_max`: is 0.1, expected at least t_min");
        assert_eq!(
            bad(SamplerParams { entropy_bound: -1.0, ..d.clone() }),
            "argument `entropy_bound`: is -1, expected 0 or more"
        );
        assert_eq!(
            bad(SamplerParams { confidence: f32::NAN, ..d }),
            "argument `confidence`: is NaN, expected 0 or more"
        );
    }
}

//! Models made up for tests and measurements: any known shape in any mix, with random weights ([`crate::synth_weights`])
//! and a random vocabulary ([`crate::synth_tokenizer`]). The file depends on shape, types, name and seed only.

use crate::config::Config;
use crate::convert::{self, Options, Prepared};
use crate::plan::{self, Step};
use crate::synth_weights::Weights;
use crate::{metadata, synth_tokenizer};
use dgemma::Result;
use dgemma::gguf::writer::Plan;
use std::path::Path;

/// Writes a model of shape `config` to `out`.
pub fn run(out: &Path, config: &Config, seed: u64, options: &Options) -> Result<()> {
    convert::write(out, prepare(config, seed, options)?, options)
}

/// The keys and tensors of such a model.
pub fn prepare(config: &Config, seed: u64, options: &Options) -> Result<Prepared> {
    let mut weights = Weights::new(config, seed, options.router_skew);
    let step = |planned: plan::Planned| {
        let source = weights.source(&planned.expected, planned.chosen.format)?;
        Ok(Step { plan: planned.plan(), wanted: planned.chosen.wanted, source, importance: None })
    };
    let steps = plan::tensors(config, &options.types)?.into_iter().map(step).collect::<Result<Vec<_>>>()?;
    let plans: Vec<Plan> = steps.iter().map(|step| step.plan.clone()).collect();
    let tokenizer = synth_tokenizer::tokenizer(config.vocab as usize, seed)?;
    let name = options.name.as_deref().unwrap_or("synthetic");
    let keys = metadata::keys(None, name, config, &tokenizer, &plans, options.types.mix.file_type)?;
    Ok(Prepared { keys, steps })
}

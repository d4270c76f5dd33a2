//! What goes where: every tensor that the file must have, paired with the one of the checkpoint that it is made from.

use crate::checkpoint::{Checkpoint, Plain};
use crate::config::Config;
use crate::names::{self, Expected, Origin, Other};
use crate::source::{Generated, Source};
use crate::types::{Chosen, Named, Types};
use dgemma::gguf::writer::Plan;
use dgemma::quant::Format;
use dgemma::{Error, Result};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// A tensor that the file will have.
pub struct Planned {
    /// What is known of it from the configuration.
    pub expected: Expected,
    /// Its type, and why.
    pub chosen: Chosen,
}

/// One tensor to be written.
pub struct Step {
    /// What the file will say about it.
    pub plan: Plan,
    /// The type it would have if its rows did fit; otherwise that of the plan.
    pub wanted: &'static Format,
    /// Where its elements come from.
    pub source: Box<dyn Source>,
    /// What an error in each column costs, `[columns]`, or `[matrices, columns]` for a stack; from an importance matrix.
    pub importance: Option<Arc<[f32]>>,
}

/// All tensors of a file in its order, with their types. No weights are needed for that.
pub fn tensors(config: &Config, types: &Types) -> Result<Vec<Planned>> {
    let expected = names::expected(config);
    let shapes: Vec<Vec<usize>> = expected.iter().map(ggml_shape).collect();
    let named: Vec<Named> =
        expected.iter().zip(&shapes).map(|(e, shape)| (e.name.as_str(), shape.as_slice())).collect();
    let chosen = types.choose(&named, &config.into())?;
    Ok(expected.into_iter().zip(chosen).map(|(expected, chosen)| Planned { expected, chosen }).collect())
}

impl Planned {
    /// What the file will say about it.
    pub fn plan(&self) -> Plan {
        Plan { name: self.expected.name.clone(), shape: ggml_shape(&self.expected), format: self.chosen.format }
    }
}

fn ggml_shape(tensor: &Expected) -> Vec<usize> {
    tensor.shape.iter().rev().copied().collect()
}

/// All steps in file order, or what does not fit. `directory` is for messages.
pub fn make(directory: &Path, config: &Config, checkpoint: &Checkpoint, types: &Types) -> Result<Vec<Step>> {
    let tensors = tensors(config, types)?;
    check_names(&tensors, checkpoint)?;
    tensors.into_iter().map(|tensor| step(directory, tensor, checkpoint)).collect()
}

/// Every tensor of the checkpoint must be one whose purpose is known: what is silently left out would be missed later.
fn check_names(tensors: &[Planned], checkpoint: &Checkpoint) -> Result<()> {
    let wanted: HashSet<&str> = tensors
        .iter()
        .filter_map(|tensor| match &tensor.expected.origin {
            Origin::Checkpoint(name) => Some(name.as_str()),
            Origin::Generated(_) => None,
        })
        .collect();
    for source in checkpoint.iter() {
        let known = wanted.contains(source.name.as_str())
            || match names::other(&source.name) {
                Other::Vision => true,
                Other::Shared(decoder) => wanted.contains(decoder.as_str()),
                Other::Unknown(_) => false,
            };
        if !known {
            return Err(source.error("is not part of a DiffusionGemma with this config.json"));
        }
    }
    Ok(())
}

fn step(directory: &Path, planned: Planned, checkpoint: &Checkpoint) -> Result<Step> {
    let plan = planned.plan();
    let Planned { expected: tensor, chosen } = planned;
    let source: Box<dyn Source> = match tensor.origin {
        Origin::Generated(values) => Box::new(Generated { name: tensor.name, values }),
        Origin::Checkpoint(name) => {
            let shared = || checkpoint.get(&names::shared_name(&name)?);
            let source = checkpoint.get(&name).or_else(shared);
            let source = source.ok_or_else(|| Error::tensor(directory, &name, "is missing"))?;
            if source.shape != tensor.shape {
                let what = format!("has shape {:?}, but config.json asks for {:?}", source.shape, tensor.shape);
                return Err(source.error(what));
            }
            Box::new(Plain::new(source.clone())?)
        }
    };
    Ok(Step { plan, wanted: chosen.wanted, source, importance: None })
}

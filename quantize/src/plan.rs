//! What goes where: every tensor that the file must have, paired with the one of the checkpoint that it is made from.

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::inputs::Inputs;
use crate::names::{self, Expected};
use crate::source::Source;
use crate::types::{Chosen, Named, Types};
use dgemma::Result;
use dgemma::gguf::writer::Plan;
use dgemma::quant::Format;
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
    let mut inputs = Inputs::new(directory, checkpoint)?;
    let tensors = tensors(config, types)?.into_iter();
    let steps = tensors.map(|tensor| step(tensor, &mut inputs)).collect::<Result<_>>()?;
    inputs.check_names()?;
    Ok(steps)
}

fn step(planned: Planned, inputs: &mut Inputs) -> Result<Step> {
    let plan = planned.plan();
    let source = inputs.source(&planned.expected)?;
    Ok(Step { plan, wanted: planned.chosen.wanted, source, importance: None })
}

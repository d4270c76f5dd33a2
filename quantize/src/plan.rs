//! What goes where: every tensor that the file must have, paired with the one of the checkpoint that it is made from.

use crate::checkpoint::{Checkpoint, Plain};
use crate::config::Config;
use crate::names::{self, Expected, Origin, Other};
use crate::source::{Generated, Source};
use dgemma::gguf::writer::Plan;
use dgemma::quant::{self, Format};
use dgemma::{Error, Result};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// One tensor to be written.
pub struct Step {
    /// What the file will say about it.
    pub plan: Plan,
    /// Where its elements come from.
    pub source: Box<dyn Source>,
    /// What an error in each column costs, `[columns]`, or `[matrices, columns]` for a stack; from an importance matrix.
    pub importance: Option<Arc<[f32]>>,
}

/// All steps in file order, or what does not fit. `directory` is for messages.
pub fn make(directory: &Path, config: &Config, checkpoint: &Checkpoint, target: &'static Format) -> Result<Vec<Step>> {
    let expected = names::expected(config);
    check_names(&expected, checkpoint)?;
    expected.into_iter().map(|tensor| step(directory, tensor, checkpoint, target)).collect()
}

/// Every tensor of the checkpoint must be one whose purpose is known: what is silently left out would be missed later.
fn check_names(expected: &[Expected], checkpoint: &Checkpoint) -> Result<()> {
    let wanted: HashSet<&str> = expected
        .iter()
        .filter_map(|tensor| match &tensor.origin {
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

fn step(directory: &Path, tensor: Expected, checkpoint: &Checkpoint, target: &'static Format) -> Result<Step> {
    let source: Box<dyn Source> = match tensor.origin {
        Origin::Generated(values) => Box::new(Generated { name: tensor.name.clone(), values }),
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
    let format = format(&tensor.name, &tensor.shape, target)?;
    let shape = tensor.shape.into_iter().rev().collect();
    Ok(Step { plan: Plan { name: tensor.name, shape, format }, source, importance: None })
}

/// How a tensor is stored: vectors, norms, scales and the router in F32, whatever the target; the others in the target
/// format, or in F16 where rows are no whole number of its blocks. `shape` is in PyTorch order.
pub fn format(name: &str, shape: &[usize], target: &'static Format) -> Result<&'static Format> {
    let is_matrix = shape.len() >= 2
        && name.ends_with("weight")
        && !name.contains("_norm.weight")
        && !name.contains("ffn_gate_inp.weight");
    let rows_fit = shape.last().is_some_and(|&row| target.row_bytes(row).is_some());
    let by_name = |name| quant::by_name(name).ok_or_else(|| Error::Internal(format!("no format {name}")));
    match (is_matrix, rows_fit) {
        (true, true) => Ok(target),
        (true, false) => by_name("F16"),
        (false, _) => by_name("F32"),
    }
}

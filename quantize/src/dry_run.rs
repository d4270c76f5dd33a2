//! What a conversion would write: every tensor with its type and size, and the totals. Needs no weights.

use crate::config::Config;
use crate::convert::{self, Options};
use crate::listing::{self, Row};
use crate::plan;
use crate::types::Types;
use dgemma::Result;
use dgemma::gguf::Value;
use dgemma::gguf::writer::{Header, Plan};
use dgemma::quant::Format;
use std::io::{self, Write};
use std::path::Path;

/// Prints what [`convert::run`] would write, having checked all that it checks before it writes.
pub fn of_checkpoint(directory: &Path, options: &Options, out: &mut impl Write) -> Result<()> {
    let prepared = convert::prepare(directory, options)?;
    let tensors: Vec<_> = prepared.steps.into_iter().map(|step| (step.plan, step.wanted)).collect();
    let header = header(directory, &prepared.keys, &tensors)?;
    let before = header.bytes.len();
    let last = format!("file: {} bytes, of which {before} before the data section", header.file_bytes);
    listing::shown(print(&tensors, &header, &last, out))
}

/// Prints the tensors that a model with this configuration has in `types`.
pub fn of_shape(config: &Config, types: &Types, out: &mut impl Write) -> Result<()> {
    let planned = plan::tensors(config, types)?;
    let tensors: Vec<_> = planned.iter().map(|tensor| (tensor.plan(), tensor.chosen.wanted)).collect();
    let header = header(Path::new("(plan)"), &[], &tensors)?;
    listing::shown(print(&tensors, &header, "keys and vocabulary come on top", out))
}

type Tensors = [(Plan, &'static Format)];

fn header(file: &Path, keys: &[(String, Value)], tensors: &Tensors) -> Result<Header> {
    let plans: Vec<Plan> = tensors.iter().map(|(plan, _)| plan.clone()).collect();
    Header::new(file, keys, &plans)
}

fn print(tensors: &Tensors, header: &Header, last: &str, out: &mut impl Write) -> io::Result<()> {
    let rows = tensors.iter().zip(&header.sizes).map(|((plan, wanted), &bytes)| Row {
        name: &plan.name,
        shape: &plan.shape,
        format: plan.format,
        bytes: bytes as u64,
        instead_of: Some(*wanted).filter(|&wanted| wanted != plan.format),
    });
    listing::print(&rows.collect::<Vec<_>>(), out)?;
    let data = header.file_bytes - header.bytes.len() as u64;
    writeln!(out, "\ndata section: {data} bytes, with each tensor padded to {}\n{last}", header.alignment)
}

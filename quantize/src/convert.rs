//! The conversion: check everything, then let the weights through.

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::imatrix::Imatrix;
use crate::pipeline;
use crate::plan::{self, Step};
use crate::tokenizer::Tokenizer;
use crate::types::Types;
use crate::{gguf_input, json, metadata, mix, progress};
use dgemma::gguf::Value;
use dgemma::gguf::writer::{Plan, Writer};
use dgemma::{Result, log};
use std::path::Path;
use std::sync::Arc;

/// How to convert.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The types of the tensors.
    pub types: Types,
    /// The model's name; by default found in the checkpoint.
    pub name: Option<String>,
    /// Split the file into parts with at most that many bytes of tensors each; 0: one file.
    pub split_max_bytes: u64,
    /// Threads; 0: one per core. The file does not depend on it.
    pub threads: usize,
    /// Whether tensors of a GGUF file that have lost something may become larger.
    pub allow_requantize: bool,
    /// Read the result back before it gets its name, and compare it with the input.
    pub verify: bool,
    /// Of made-up models only: how differently their experts are liked; 0: all about the same. See `synth_weights.rs`.
    pub router_skew: f32,
    /// Which columns matter; some mixes choose other types with it.
    pub imatrix: Option<Arc<Imatrix>>,
}

impl Options {
    /// Everything as usual, in the mix called `name`.
    pub fn of_type(name: &str) -> Result<Options> {
        Ok(Options { types: Types::of(mix::by_name(name)?), ..Options::default() })
    }
}

/// A checkpoint that was found to be complete, and what will become of it.
pub struct Prepared {
    /// The keys of the file.
    pub keys: Vec<(String, Value)>,
    /// Its tensors.
    pub steps: Vec<Step>,
}

/// Reads everything in `input`, a checkpoint's directory or a GGUF file, but the weights themselves, and checks it.
pub fn prepare(input: &Path, options: &Options) -> Result<Prepared> {
    let types = Types { weighted: options.imatrix.is_some(), ..options.types.clone() };
    let options = &Options { types, ..options.clone() };
    let mut prepared =
        if input.is_file() { gguf_input::prepare(input, options)? } else { prepare_checkpoint(input, options)? };
    if let Some(imatrix) = &options.imatrix {
        imatrix.apply(&mut prepared.steps)?;
        prepared.keys.extend(imatrix.keys());
    }
    Ok(prepared)
}

fn prepare_checkpoint(directory: &Path, options: &Options) -> Result<Prepared> {
    let config = Config::read(directory)?;
    let tokenizer = Tokenizer::read(directory, &config)?;
    let checkpoint = Checkpoint::open(directory)?;
    let steps = plan::make(directory, &config, &checkpoint, &options.types)?;
    let plans: Vec<Plan> = steps.iter().map(|step| step.plan.clone()).collect();
    let name = options.name.clone().unwrap_or_else(|| model_name(directory));
    let keys = metadata::keys(Some(directory), &name, &config, &tokenizer, &plans, options.types.mix.file_type)?;
    Ok(Prepared { keys, steps })
}

/// Converts `input`, a checkpoint's directory or a GGUF file, to the file `out`, which is not touched unless all goes well.
pub fn run(input: &Path, out: &Path, options: &Options) -> Result<()> {
    write(out, prepare(input, options)?, options)
}

/// Writes the file `out`, or leaves what is there.
pub fn write(out: &Path, Prepared { keys, steps }: Prepared, options: &Options) -> Result<()> {
    let plans: Vec<Plan> = steps.iter().map(|step| step.plan.clone()).collect();
    let writer = match options.split_max_bytes {
        0 => Writer::create(out, &keys, &plans)?,
        most => Writer::create_split(out, &keys, &plans, most)?,
    };
    drop(keys);
    let progress = progress::of_bytes(writer.file_bytes());
    let warnings = pipeline::convert(&steps, &writer, options.threads, &progress)?;
    if options.verify {
        progress.reset();
        pipeline::verify(&steps, &writer, options.threads, &progress)?;
    }
    progress.finish_and_clear();
    writer.finish()?;
    warnings.into_iter().for_each(|text| log::warn(|| text));
    Ok(())
}

/// A name for people: `_name_or_path` in config.json, or the directory. Downloads lie in directories named by a hash, below
/// one that has the model's name in it.
fn model_name(directory: &Path) -> String {
    let config = json::File::read(&directory.join("config.json"));
    let named = config.ok().and_then(|c| Some(c.root().get("_name_or_path")?.str().ok()?.to_owned()));
    let absolute = directory.canonicalize().unwrap_or(directory.to_owned());
    let hub = absolute.iter().rev().filter_map(|part| part.to_str()).find_map(|part| part.strip_prefix("models--"));
    let last = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = named.filter(|n| !n.is_empty()).or(hub.map(|n| n.replace("--", "/"))).or(last).unwrap_or_default();
    name.rsplit('/').next().unwrap_or(&name).to_owned()
}

//! The conversion: check everything, then copy tensor by tensor.

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::plan::{self, Step};
use crate::tokenizer::Tokenizer;
use crate::types::Types;
use crate::{json, metadata, mix};
use dgemma::gguf::Value;
use dgemma::gguf::writer::{Plan, Writer};
use dgemma::quant::Format;
use dgemma::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;

/// Elements converted at a time, a multiple of every block: 4 MiB as F32.
const CHUNK: usize = 1 << 20;

/// How to convert.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The types of the tensors.
    pub types: Types,
    /// The model's name; by default found in the checkpoint.
    pub name: Option<String>,
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

/// Reads everything in `directory` but the weights themselves, and checks it.
pub fn prepare(directory: &Path, options: &Options) -> Result<Prepared> {
    let config = Config::read(directory)?;
    let tokenizer = Tokenizer::read(directory, &config)?;
    let checkpoint = Checkpoint::open(directory)?;
    let steps = plan::make(directory, &config, &checkpoint, &options.types)?;
    let plans: Vec<Plan> = steps.iter().map(|step| step.plan.clone()).collect();
    let name = options.name.clone().unwrap_or_else(|| model_name(directory));
    let keys = metadata::keys(directory, &name, &config, &tokenizer, &plans, options.types.mix.file_type)?;
    Ok(Prepared { keys, steps })
}

/// Converts the checkpoint in `directory` to the file `out`, which is not touched unless all goes well.
pub fn run(directory: &Path, out: &Path, options: &Options) -> Result<()> {
    let Prepared { keys, steps } = prepare(directory, options)?;
    let plans: Vec<Plan> = steps.iter().map(|step| step.plan.clone()).collect();
    let mut writer = Writer::create(out, &keys, &plans)?;
    drop(keys);
    let mut converter = Converter::default();
    let progress = progress_bar(writer.file_bytes());
    for step in &steps {
        progress.set_message(step.plan.name.clone());
        converter.copy(step, &mut writer, &progress)?;
    }
    progress.finish_and_clear();
    writer.finish()
}

/// Shown on stderr if that is a terminal.
fn progress_bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}  {msg:36}");
    // The template is a constant; were it wrong, the default style would do.
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Converts chunks of elements, in buffers that stay.
#[derive(Default)]
struct Converter {
    raw: Vec<u8>,
    values: Vec<f32>,
    bytes: Vec<u8>,
    back: Vec<f32>,
}

impl Converter {
    fn copy(&mut self, step: &Step, writer: &mut Writer, progress: &ProgressBar) -> Result<()> {
        let Step { plan, source, .. } = step;
        let elements = plan.shape.iter().product();
        for start in (0..elements).step_by(CHUNK) {
            let count = CHUNK.min(elements - start);
            self.values.resize(count, 0.0);
            source.read(start, &mut self.values, &mut self.raw)?;
            if let Some((at, value)) = not_finite(&self.values) {
                return Err(source.error(&format!("element {} is {value}", start + at)));
            }
            self.encode(plan.format)?;
            // Formats with F16 in them end at 65504, or at a multiple of it.
            self.back.resize(count, 0.0);
            (plan.format.decode)(&self.bytes, &mut self.back);
            if let Some((at, _)) = not_finite(&self.back) {
                let what = format!("element {} is {}, too large for {}", start + at, self.values[at], plan.format.name);
                return Err(source.error(&what));
            }
            writer.write(&plan.name, &self.bytes)?;
            progress.inc(self.bytes.len() as u64);
        }
        Ok(())
    }

    /// `values` into `bytes`.
    fn encode(&mut self, format: &Format) -> Result<()> {
        let encode =
            format.encode.ok_or_else(|| Error::argument("type", format!("{} can only be read", format.name)))?;
        self.bytes.resize(self.values.len() / format.block * format.block_bytes, 0);
        encode(&self.values, None, &mut self.bytes);
        Ok(())
    }
}

fn not_finite(values: &[f32]) -> Option<(usize, f32)> {
    values.iter().copied().enumerate().find(|(_, x)| !x.is_finite())
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

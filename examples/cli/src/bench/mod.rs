//! `dgemma bench`: how fast a model runs here, against what this machine could do.
//!
//! The ceilings of the machine (`machine.rs`; `ceilings.rs` has the processor's) are measured in the same run, before and
//! after the model (`measure.rs`); how many operations and bytes each phase takes follows from the shapes (`work.rs`).
//! `report.rs` puts them together, for people and for programs.

mod ceilings;
mod machine;
mod measure;
mod memory;
mod report;
mod work;

use crate::args::{BenchArgs, Routing};
use crate::{Result, builtin, model};
use dgemma::engine::{KvType, MemoryPlan, Room};
use dgemma::model::Config;
use dgemma_quantize::convert::Options;
use dgemma_quantize::{shapes, synth};
use machine::Machine;
use measure::Plan;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Steps measured with the weights of a real shape, where nobody waits for a canvas to settle.
const STEPS_OF_SHAPES: u32 = 4;
/// With a model that has its own text to write.
const STEPS: u32 = 16;
const GENERATIONS: u32 = 20;
/// With this skew of the router a first step touches 61 % of the experts (measured on two layers); in the built-in model, 54 %.
const MODEL_SKEW: f32 = 1.0;
/// What the built-in model was trained on.
const BUILT_IN_PROMPT: &str = "Reverse: garden";

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let made = args.shape.as_deref().map(|shape| Made::new(shape, args)).transpose()?;
    let path = made.as_ref().map(|made| made.path.as_path()).or(args.model.as_deref());
    let mut machine = Machine::measure(args)?;
    let peak_is_known = memory::forget_peak();
    let plan = plan(args, path);
    let file = model::open(path)?;
    let params = machine.params(args, plan.context(&Config::from_gguf(&file)?));
    let memory = machine.device().map(|cuda| MemoryPlan::for_file(&file, &(&params).into(), &Room::of(cuda)?));
    let memory = memory.transpose()?;
    drop(file);
    let (model, load) = measure::load(|| model::open(path), &params)?;
    let mut measured = measure::run(&model, load, &plan, machine.device())?;
    if !peak_is_known {
        measured.memory = None; // it would count the ceilings' buffers
    }
    machine.measure_again()?;
    let run = report::Run { model: &model, machine: &machine, exact: args.exact, plan: memory, measured };
    let json = report::json(&run);
    let text = match (args.json, args.csv) {
        (true, _) => serde_json::to_string_pretty(&json)? + "\n",
        (_, true) => report::csv(&json),
        _ => report::table(&json),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &BenchArgs, path: Option<&Path>) -> Plan {
    let built_in = path.is_none() && builtin::file().is_some();
    let prompt = args.prompt.clone().or_else(|| built_in.then(|| BUILT_IN_PROMPT.to_owned()));
    let text = prompt.is_some();
    Plan {
        prefix: args.prefix,
        steps: args.steps.unwrap_or(if text { STEPS } else { STEPS_OF_SHAPES }),
        generations: args.generations.unwrap_or(if text { GENERATIONS } else { 1 }),
        canvases: args.canvases,
        prompt,
        chunk: args.chunk,
        kv: args.kv.map(KvType::from),
        context: args.context,
        next_block: args.next_block,
    }
}

/// A model made up for this run.
struct Made {
    path: PathBuf,
    keep: bool,
}

impl Made {
    /// The file `--file` if it is there already, or a new one; a temporary one is removed afterwards.
    fn new(shape: &str, args: &BenchArgs) -> Result<Made> {
        let name = format!("dgemma-bench-{shape}-{}-{}.gguf", args.types, std::process::id());
        let keep = args.file.is_some();
        let made = Made { path: args.file.clone().unwrap_or_else(|| std::env::temp_dir().join(name)), keep };
        if !(keep && made.path.exists()) {
            let router_skew = if args.routing == Routing::Model { MODEL_SKEW } else { 0.0 };
            let options = Options { router_skew, ..Options::of_type(&args.types)? };
            synth::run(&made.path, &shapes::named(shape)?, 0, &options)?;
        }
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_file(&self.path); // nothing more can be done about it
        }
    }
}

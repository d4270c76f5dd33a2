//! The measurements themselves: loading, encoding, steps, a generation.

use super::machine::taken;
use super::memory::{self, Memory};
use super::work::{Kind, Pass};
use crate::Result;
use dgemma::backend::cuda::Cuda;
use dgemma::engine::{
    Context, ContextParams, Event, GenerateParams, KvType, LaunchGaps, Model, ModelParams, Phases, Spent, Start,
    process_cpu_time,
};
use dgemma::gguf::Gguf;
use dgemma::model::Config;
use dgemma::tokenizer::Tokenizer;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Longer prefixes get random keys and values instead of being encoded.
pub const LONGEST_ENCODED: usize = 2048;
/// Repetitions of an encoding that takes one pass.
const PREFILL_RUNS: usize = 3;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    pub prefix: usize,
    pub steps: u32,
    pub generations: u32,
    pub canvases: usize,
    /// Of the generations; without it they go on behind the prefix.
    pub prompt: Option<String>,
    pub chunk: usize,
    /// The model's default if not given.
    pub kv: Option<KvType>,
    /// Positions to make room for; 0: what it takes.
    pub context: usize,
    /// Whether to measure how the next block begins.
    pub next_block: bool,
}

impl Plan {
    /// The context that it takes.
    pub fn context(&self, c: &Config) -> ContextParams {
        // The built-in prompts of generations have some tens of tokens.
        let needed = self.prefix + 1024.max((self.canvases + 2) * c.canvas);
        let size = if self.context == 0 { needed } else { self.context }.min(c.context_length);
        ContextParams { size, chunk: self.chunk, kv: self.kv }
    }
}

/// Seconds until a model could be used.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Everything.
    pub total: Duration,
    /// The vocabulary alone, measured apart.
    pub tokenizer: Duration,
}

/// A pass that was timed.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    pub pass: Pass,
    /// From the call to its return.
    pub all: Spent,
    /// What of it fell on the phases of the network. On a GPU these are of a second pass like it, in which the host waited
    /// for the device at the end of every phase.
    pub phases: Phases,
    /// What that second pass took.
    pub waited: Option<Spent>,
}

/// What a generation came to, summed over all that were made.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    pub generations: u32,
    pub tokens: usize,
    pub canvases: usize,
    pub steps: u32,
    pub total: Duration,
    /// Mean time to the first committed canvas.
    pub first_canvas: Duration,
}

/// How a block begins whose predecessor is not encoded yet.
#[derive(Clone, Copy, Debug)]
pub struct NextBlock {
    /// The block before, encoded by itself.
    pub encode: Timed,
    /// The first step, by itself.
    pub first_step: Spent,
    /// Both in one pass, as generations do it.
    pub shared: Spent,
}

/// All of it.
pub struct Measured {
    pub next_block: Option<NextBlock>,
    pub load: Load,
    /// The passes of one encoding of the prefix as one; `None` if it was filled instead.
    pub prefill: Option<Timed>,
    /// The first step of a block, and the others.
    pub steps: Vec<Timed>,
    /// What starting things costs them, where they are recorded.
    pub gaps: Option<LaunchGaps>,
    pub generated: Option<Generated>,
    /// Type of keys and values.
    pub kv: KvType,
    /// Keys and values held at the end, when there are most of them.
    pub kv_bytes: u64,
    pub activation_bytes: u64,
    pub memory: Option<Memory>,
    /// Bytes of the GPU's memory that were taken by everyone with the model loaded, and when there was most on it.
    pub device_loaded: Option<usize>,
    pub device_used: Option<usize>,
}

/// Loads the model, from the page cache if its file has been read before.
pub fn load(open: impl Fn() -> Result<Gguf>, params: &ModelParams) -> Result<(Model, Load)> {
    let file = open()?;
    let clock = Instant::now();
    drop(Tokenizer::from_gguf(file.metadata())?);
    let tokenizer = clock.elapsed();
    drop(file);
    let clock = Instant::now();
    let model = Model::from_gguf(open()?, params, |_| true)?;
    Ok((model, Load { total: clock.elapsed(), tokenizer }))
}

/// Runs the plan.
pub fn run(model: &Model, load: Load, plan: &Plan, device: Option<&Cuda>) -> Result<Measured> {
    let device_loaded = device.map(taken).transpose()?;
    let mut context = model.context(&plan.context(model.config()))?;
    context.measure_cpu_time();
    let prefix = tokens(plan.prefix, model.config().vocab);
    let waits = device.is_some();
    let prefill = if plan.prefix <= LONGEST_ENCODED {
        Some(with_phases(&mut context, waits, |context| prefill(context, &prefix).map(|one| vec![one]))?[0])
    } else {
        context.pretend_encoded(&prefix)?;
        None
    };
    let steps = with_phases(&mut context, waits, |context| steps(context, plan.steps))?;
    let gaps = if plan.steps == 0 { None } else { context.launch_gaps(plan.steps)? };
    let filled = prefill.is_none() && plan.prompt.is_none();
    let generated = if plan.generations == 0 || filled { None } else { Some(generate(&mut context, plan, &prefix)?) };
    let next_block = if plan.next_block { Some(next_block(&mut context, &prefix)?) } else { None };
    Ok(Measured {
        load,
        next_block,
        prefill,
        steps,
        gaps,
        generated,
        kv: context.kv_type(),
        kv_bytes: context.saved_bytes(),
        activation_bytes: context.memory().activations,
        memory: memory::read(),
        device_loaded,
        device_used: device.map(taken).transpose()?,
    })
}

fn tokens(n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 37 + 11) % vocab) as u32).collect()
}

/// What `measure` measures; on a GPU twice, the second time for the phases alone.
fn with_phases(
    context: &mut Context,
    waits: bool,
    measure: impl Fn(&mut Context) -> Result<Vec<Timed>>,
) -> Result<Vec<Timed>> {
    let timed = measure(context)?;
    if !waits {
        return Ok(timed);
    }
    context.wait_for_phases(true);
    let again = measure(context);
    context.wait_for_phases(false);
    let both = timed.into_iter().zip(again?);
    Ok(both.map(|(one, again)| Timed { phases: again.phases, waited: Some(again.all), ..one }).collect())
}

/// The median of some encodings of `prefix`.
fn prefill(context: &mut Context, prefix: &[u32]) -> Result<Timed> {
    let runs = if prefix.len() <= context.model().config().canvas { PREFILL_RUNS } else { 1 };
    let mut all = Vec::new();
    for _ in 0..runs {
        context.truncate(0);
        context.append(prefix)?;
        let timed = timed(context, |context| Ok(context.prefill(|_, _| ControlFlow::Continue(()))?))?;
        let pass = Pass { rows: prefix.len(), start: 0, kv_bytes: context.kv_type().bytes(), kind: Kind::Prompt };
        all.push(Timed { pass, ..timed });
    }
    Ok(median(&all))
}

/// `n` steps of one block, which is never confident enough to end before.
fn steps(context: &mut Context, n: u32) -> Result<Vec<Timed>> {
    let mut sampler = context.model().sampler_defaults().clone();
    (sampler.steps, sampler.confidence) = (n, 0.0);
    let mut noise = context.noise(1);
    let mut block = context.begin_block(0, Start::Random(0), &sampler, &mut noise)?;
    let (start, rows) = (context.tokens().len(), block.canvas().len());
    let mut all = Vec::new();
    for step in 0..n {
        let timed = timed(context, |context| Ok(context.step(&mut block, &mut noise)?))?;
        let kind = Kind::Canvas { conditioned: step > 0 };
        all.push(Timed { pass: Pass { rows, start, kv_bytes: context.kv_type().bytes(), kind }, ..timed });
    }
    Ok(all)
}

/// Complete generations as the model's own numbers say, but for the number of steps if it was given.
fn generate(context: &mut Context, plan: &Plan, prefix: &[u32]) -> Result<Generated> {
    let model = context.model().clone();
    let mut params = GenerateParams::new(&model);
    params.max_tokens = plan.canvases * model.config().canvas;
    if plan.prompt.is_none() {
        // Behind random tokens no text ends, and no canvas is ever sure of itself.
        (params.sampler.steps, params.ignore_eog) = (plan.steps, true);
    }
    let prompt = match &plan.prompt {
        Some(text) => model.encode_chat(&serde_json::json!([{"role": "user", "content": text}]), None)?,
        None => prefix.to_vec(),
    };
    params.report_steps = false;
    let mut sum = Generated { generations: plan.generations, ..Default::default() };
    for seed in 0..plan.generations {
        context.truncate(0);
        context.append(&prompt)?;
        params.sampler.seed = seed.into();
        let one = context.generate(&params, |_| ControlFlow::Continue(()))?;
        sum.tokens += one.tokens.len();
        sum.canvases += one.perf.steps.len();
        sum.steps += one.perf.total_steps();
        sum.total += one.perf.total;
        sum.first_canvas += one.perf.first_canvas.unwrap_or_default() / plan.generations;
    }
    Ok(sum)
}

/// Two blocks of one step each: by hand with passes of their own, and as generations do it.
fn next_block(context: &mut Context, prefix: &[u32]) -> Result<NextBlock> {
    let canvas = context.model().config().canvas;
    let mut params = GenerateParams::new(&context.model().clone());
    (params.max_tokens, params.ignore_eog, params.sampler.steps) = (2 * canvas, true, 1);
    context.truncate(prefix.len());
    let (mut begin, mut shared) = (None, Spent::default());
    context.generate(&params, |event| {
        let now = (Instant::now(), process_cpu_time());
        match (event, begin) {
            (Event::Commit { block: 0, .. }, _) => begin = Some(now),
            (Event::Step(step), Some((wall, cpu))) if step.block == 1 => {
                shared = Spent { wall: now.0 - wall, cpu: now.1 - cpu };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    context.truncate(prefix.len() + canvas); // the second block was committed, but never encoded
    let block = context.tokens()[prefix.len()..].to_vec();
    context.truncate(prefix.len());
    context.append(&block)?;
    let encode = timed(context, |context| Ok(context.prefill(|_, _| ControlFlow::Continue(()))?))?;
    let pass = Pass { rows: canvas, start: prefix.len(), kv_bytes: context.kv_type().bytes(), kind: Kind::Prompt };
    let first_step = steps(context, 1)?[0].all;
    Ok(NextBlock { encode: Timed { pass, ..encode }, first_step, shared })
}

fn timed(context: &mut Context, f: impl FnOnce(&mut Context) -> Result<()>) -> Result<Timed> {
    let (before, cpu, clock) = (context.perf().phases, process_cpu_time(), Instant::now());
    f(context)?;
    let all = Spent { wall: clock.elapsed(), cpu: process_cpu_time() - cpu };
    let pass = Pass { rows: 0, start: 0, kv_bytes: 0, kind: Kind::Prompt };
    Ok(Timed { pass, all, phases: context.perf().phases - before, waited: None })
}

/// The one with the median time.
pub fn median(all: &[Timed]) -> Timed {
    let mut sorted = all.to_vec();
    sorted.sort_by_key(|t| t.all.wall);
    sorted[(sorted.len() - 1) / 2]
}

//! Measuring an importance matrix: each sample's prompt, then its canvas at several noise levels, from all noise to almost
//! clean text, as in a generation.
//!
//! ```text
//! for each sample:
//!     encode the prompt
//!     for each noise level, falling:
//!         canvas = clean tokens, a share `level` of them replaced by random ones
//!         one pass, and the same again, conditioned on what the first one found
//! ```
//!
//! Rows count alike, whatever pass they are in: prompts are read once and canvases many times, which is also how the weights
//! are used in a generation.

use crate::imatrix::{Entry, Imatrix};
use crate::samples::{self, Reading, Sample};
use dgemma::backend::KvType;
use dgemma::backend::cpu::Cpu;
use dgemma::backend::recording::Recording;
use dgemma::backend::{HeadParams, HeadStats};
use dgemma::cpu_level::CpuLevel;
use dgemma::engine::{Model, ModelParams};
use dgemma::model::{Runner, Session, SessionSizes, Weights};
use dgemma::sampler::PhiloxNoise;
use dgemma::{Error, Result};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Noise levels when none are asked for.
pub const LEVELS: &str = "1,0.75,0.5,0.25,0.05";

/// Prompt rows of one pass.
const PREFILL: usize = 256;

/// What to measure on.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Texts: a .jsonl file of {"prompt", "answer"} lines, or plain text with blank lines between texts
    #[arg(long)]
    pub text: PathBuf,
    /// Shares of the canvas that are noise, one after the other
    #[arg(long, default_value = LEVELS, value_delimiter = ',')]
    pub levels: Vec<f32>,
    /// Tokens of a chunk of plain text, canvas included [default: two canvases]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub chunk: usize,
    /// Leave prompts of .jsonl files as they are, instead of rendering them with the chat template
    #[arg(long)]
    pub raw: bool,
    /// Run only the first N samples
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Where the noise starts
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads; 0: one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// Measures the model file `model` and writes the importance matrix `out`.
pub fn run(model: &Path, out: &Path, options: &Options) -> Result<()> {
    let model = Model::load(model, &ModelParams { threads: options.threads, ..Default::default() })?;
    collect(&model, out, options)?.write(out)
}

/// The importance matrix of a loaded model. `path` is where it is meant to go.
pub fn collect(model: &Model, path: &Path, options: &Options) -> Result<Imatrix> {
    check_levels(&options.levels)?;
    let mut samples = samples::read(&options.text, model, Reading { raw: options.raw, chunk: options.chunk })?;
    samples.truncate(options.samples.unwrap_or(usize::MAX));
    let longest = |length: fn(&Sample) -> usize| samples.iter().map(length).max().unwrap_or(0);
    let positions = longest(|s| s.prompt.len() + s.canvas.len());
    let backend = Arc::new(Recording::new(Cpu::new(options.threads, CpuLevel::best())?));
    let weights = Arc::new(Weights::load(&*backend, model.file(), |_| true)?);
    let sizes = SessionSizes { context: positions, chunk: PREFILL, kv: KvType::F32 };
    let mut run = Run {
        session: Session::new(backend.clone(), weights, sizes)?,
        noise: PhiloxNoise::new(options.seed, model.config().vocab),
        stats: HeadStats::default(),
        model,
        levels: &options.levels,
    };
    let progress = ProgressBar::new(samples.len() as u64);
    for (index, sample) in samples.iter().enumerate() {
        run.sample(index as u32, sample)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    let entry = |(name, sums)| Some((name, Entry::from_sums(&sums)?));
    let imatrix = Imatrix {
        path: path.to_owned(),
        datasets: vec![options.text.file_name().unwrap_or_default().to_string_lossy().into_owned()],
        chunk_count: samples.len() as u32,
        chunk_size: positions as u32,
        entries: backend.sums().into_iter().filter_map(entry).collect(),
    };
    let infinite = |e: &Entry| e.sums.iter().any(|x| !x.is_finite());
    match imatrix.entries.iter().find(|(_, e)| infinite(e)) {
        Some((name, _)) => Err(Error::tensor(model.file().path(), name, "its input is not finite")),
        None => Ok(imatrix),
    }
}

/// Noise levels are shares.
pub fn check_levels(levels: &[f32]) -> Result<()> {
    match levels.iter().find(|l| !(0.0..=1.0).contains(*l)) {
        Some(bad) => Err(Error::argument("levels", format!("contain {bad}, expected numbers from 0 to 1"))),
        None if levels.is_empty() => Err(Error::argument("levels", "are empty, expected numbers from 0 to 1")),
        None => Ok(()),
    }
}

struct Run<'a> {
    session: Session<Recording>,
    noise: PhiloxNoise,
    stats: HeadStats,
    model: &'a Model,
    levels: &'a [f32],
}

impl Run<'_> {
    fn sample(&mut self, index: u32, sample: &Sample) -> Result<()> {
        let never = AtomicBool::new(false);
        self.session.reset();
        for (i, ids) in sample.prompt.chunks(PREFILL).enumerate() {
            self.session.encode(ids, i * PREFILL, &never, None)?;
        }
        let sampler = self.model.sampler_defaults();
        let uniforms = vec![0.5; sample.canvas.len()]; // for the draw, which nobody looks at
        for (step, &level) in self.levels.iter().enumerate() {
            let canvas = sample.noisy(level, &mut self.noise, index, step as u32)?;
            let head = HeadParams {
                // Steps with much noise are early ones, and those are hot.
                temperature: sampler.t_min + (sampler.t_max - sampler.t_min) * level,
                softcap: self.model.config().softcap,
                bias: &[],
                uniforms: &uniforms,
                soft_scale: (self.model.config().hidden as f32).sqrt(),
                cancel: &never,
            };
            for self_condition in [false, true] {
                self.session.denoise(&canvas, sample.prompt.len(), self_condition, &head, &mut self.stats)?;
            }
        }
        Ok(())
    }
}

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
use crate::progress;
use crate::samples::{self, Sample, Texts};
use dgemma::backend::KvType;
use dgemma::backend::cpu::Cpu;
use dgemma::backend::recording::Recording;
use dgemma::backend::{HeadParams, HeadStats};
use dgemma::cpu_level::CpuLevel;
use dgemma::engine::{Model, ModelParams};
use dgemma::model::{Runner, Session, SessionSizes, Weights};
use dgemma::sampler::PhiloxNoise;
use dgemma::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Prompt rows of one pass.
const PREFILL: usize = 256;

/// Measures the model file `model` and writes the importance matrix `out`. `threads` 0: one per core.
pub fn run(model: &Path, out: &Path, texts: &Texts, threads: usize) -> Result<()> {
    let model = Model::load(model, &ModelParams { threads, ..Default::default() })?;
    collect(&model, out, texts, threads)?.write(out)
}

/// The importance matrix of a loaded model. `path` is where it is meant to go.
pub fn collect(model: &Model, path: &Path, texts: &Texts, threads: usize) -> Result<Imatrix> {
    let samples = samples::read(texts, model)?;
    let longest = |length: fn(&Sample) -> usize| samples.iter().map(length).max().unwrap_or(0);
    let positions = longest(|s| s.prompt.len() + s.canvas.len());
    let backend = Arc::new(Recording::new(Cpu::new(threads, CpuLevel::best())?.exact(true)));
    let weights = Arc::new(Weights::load(&*backend, model.file(), |_| true)?);
    let sizes = SessionSizes { context: positions, chunk: PREFILL, kv: KvType::F32 };
    let mut run = Run {
        session: Session::new(backend.clone(), weights, sizes)?,
        noise: PhiloxNoise::new(texts.seed, model.config().vocab),
        stats: HeadStats::default(),
        model,
        levels: &texts.levels,
    };
    let progress = progress::of_samples(samples.len());
    for (index, sample) in samples.iter().enumerate() {
        run.sample(index as u32, sample)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    let entry = |(name, sums)| Some((name, Entry::from_sums(&sums)?));
    let imatrix = Imatrix {
        path: path.to_owned(),
        datasets: vec![texts.file.file_name().unwrap_or_default().to_string_lossy().into_owned()],
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
                likely: &[],
                soft_scale: (self.model.config().hidden as f32).sqrt(),
                cancel: &never,
            };
            for self_condition in [false, true] {
                self.session.denoise(&[], &canvas, sample.prompt.len(), self_condition, &head, &mut self.stats)?;
            }
        }
        Ok(())
    }
}

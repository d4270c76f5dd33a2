//! What quantization costs: a model against itself in several mixes, on the same texts.
//!
//! For each sample and noise level both versions get the same canvas; the second pass of each is conditioned on what the
//! *original* found, so that it too compares one pass and not two. Measured per canvas position, and averaged over all of
//! them:
//!
//! - KL divergence, sum of p ln(p / q) over the vocabulary in nats, p the original's distribution at temperature 1;
//!   Its mean is often made by a few samples on which the original itself is undecided; how far it can be trusted, the
//!   standard error says, and the geometric mean over samples says what happens to a typical one.
//! - top-1 agreement, the share of positions whose most probable token stayed the same.
//!
//! Exercises with an answer can be solved as well: generated with the model's own sampler, seed i for number i, and compared
//! exactly.

use crate::convert::Options;
use crate::imatrix::Imatrix;
use crate::mix;
use crate::progress;
use crate::requantize::requantize;
use crate::samples::{self, Sample, Texts};
use crate::types::Types;
use dgemma::engine::{Context, ContextParams, GenerateParams, Model, ModelParams};
use dgemma::gguf::Gguf;
use dgemma::sampler::PhiloxNoise;
use dgemma::{Error, Result};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// What one mix costs.
#[derive(Clone, Debug)]
pub struct Row {
    /// The mix.
    pub mix: &'static str,
    /// Whether an importance matrix was used.
    pub weighted: bool,
    /// Bits per element of the matrices, the embedding included.
    pub bits: f64,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    /// Against the original; `None` for the original itself.
    pub distance: Option<Distance>,
    /// Of exercises.
    pub answers: Option<Answers>,
}

/// How far two versions of a model are apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    /// Mean KL divergence per canvas position, in nats.
    pub kl: f64,
    /// Standard error of that mean, from how much it differs between samples.
    pub kl_error: f64,
    /// The geometric mean of the samples' means: of a typical sample, not of the few that suffer most.
    pub kl_typical: f64,
    /// Share of positions with the same most probable token.
    pub top1: f64,
}

/// How well exercises were solved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// Share of exact answers.
    pub right: f64,
    /// Mean denoising steps per answer.
    pub steps: f64,
}

/// What to compare.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    /// The texts on which versions are compared.
    pub texts: &'a Texts,
    /// Exercises to be solved, if any.
    pub exercises: Option<&'a Texts>,
    /// Threads; 0: one per core.
    pub threads: usize,
    /// All products in f32: what the weights alone cost, without the engine's rounding of activations.
    pub exact: bool,
}

/// Compares the model file with what it becomes in each of `mixes`, without an importance matrix and, if there is one, with
/// it; a table in Markdown on `out`, a row at a time.
pub fn run(
    file: &Path,
    mixes: &[String],
    imatrix: Option<&Path>,
    comparison: &Comparison,
    out: &mut impl Write,
) -> Result<()> {
    let file = Gguf::open(file)?;
    let imatrix = imatrix.map(Imatrix::open).transpose()?;
    let mixes: Vec<&str> = if mixes.is_empty() {
        mix::MIXES.iter().map(|m| m.name).collect()
    } else {
        mixes.iter().map(|m| &**m).collect()
    };
    let mixes = mixes.into_iter().map(mix::by_name).collect::<Result<Vec<_>>>()?;
    let quality = Quality::new(file, comparison)?;
    let failed = |e| Error::io(Path::new("(standard output)"), e);
    writeln!(out, "{HEADER}\n{}", quality.original()?).map_err(failed)?;
    for types in mixes.into_iter().map(Types::of) {
        let plain = quality.version(&types, None)?;
        let weighted = imatrix.as_ref().map(|imatrix| quality.version(&types, Some(imatrix))).transpose()?;
        // Mixes whose formats leave nothing to choose need no second row.
        let weighted = weighted.filter(|weighted| !same_tensors(&plain, weighted));
        for (file, weighted) in [(Some(plain), false), (weighted, true)] {
            let Some(file) = file else { continue };
            writeln!(out, "{}", quality.row(&types, file, weighted)?).map_err(failed)?;
        }
    }
    Ok(())
}

fn same_tensors(a: &Gguf, b: &Gguf) -> bool {
    let same = |name: &str| match (a.tensor(name), b.tensor(name)) {
        (Some(a), Some(b)) => a.format == b.format && *a.data == *b.data,
        _ => false,
    };
    a.tensors().iter().all(|info| same(&info.name))
}

const HEADER: &str = "| mix | imatrix | bits per weight | file, bytes | KL, mean | KL, typical | top-1 | answers | steps |\n\
                      |---|---|---|---|---|---|---|---|---|";

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let or_none = |text: Option<String>| text.unwrap_or_default();
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        write!(
            f,
            "| {} | {} | {:.2} | {} | {} | {} | {} | {} | {} |",
            self.mix,
            if self.weighted { "yes" } else { "" },
            self.bits,
            self.file_bytes,
            or_none(self.distance.map(|d| format!("{:.6} ± {:.6}", d.kl, d.kl_error))),
            or_none(self.distance.map(|d| format!("{:.2e}", d.kl_typical))),
            or_none(self.distance.map(|d| percent(d.top1))),
            or_none(self.answers.map(|a| percent(a.right))),
            or_none(self.answers.map(|a| format!("{:.2}", a.steps))),
        )
    }
}

/// The original and what it is asked.
pub struct Quality<'a> {
    original: Model,
    comparison: &'a Comparison<'a>,
    samples: Vec<Sample>,
    exercises: Vec<Sample>,
}

impl<'a> Quality<'a> {
    /// Loads the original and reads the texts.
    pub fn new(file: Gguf, comparison: &'a Comparison) -> Result<Self> {
        let original = load(file, comparison)?;
        let samples = samples::read(comparison.texts, &original)?;
        let exercises = comparison.exercises.map_or(Ok(Vec::new()), |texts| samples::read(texts, &original))?;
        Ok(Quality { original, comparison, samples, exercises })
    }

    /// The original.
    pub fn model(&self) -> &Model {
        &self.original
    }

    /// The row of the original.
    pub fn original(&self) -> Result<Row> {
        let row = self.size("original", self.original.file());
        Ok(Row { answers: self.answers(&self.original)?, ..row })
    }

    /// The model in other types.
    pub fn version(&self, types: &Types, imatrix: Option<&Imatrix>) -> Result<Gguf> {
        let (types, imatrix) = (types.clone(), imatrix.cloned().map(Arc::new));
        let threads = self.comparison.threads;
        requantize(
            self.original.file().path(),
            &Options { types, imatrix, threads, allow_requantize: true, ..Options::default() },
        )
    }

    /// The row of a version.
    pub fn row(&self, types: &Types, file: Gguf, weighted: bool) -> Result<Row> {
        let row = self.size(types.mix.name, &file);
        let other = load(file, self.comparison)?;
        let (distance, answers) = (Some(self.distance(&other)?), self.answers(&other)?);
        Ok(Row { weighted, distance, answers, ..row })
    }

    fn size(&self, mix: &'static str, file: &Gguf) -> Row {
        let matrices = || file.tensors().iter().filter(|t| crate::types::is_matrix(&t.name, &t.shape));
        let bytes: usize = matrices().map(|t| t.bytes).sum();
        let elements: usize = matrices().map(|t| t.shape.iter().product::<usize>()).sum();
        let bits = 8.0 * bytes as f64 / elements as f64;
        Row { mix, weighted: false, bits, file_bytes: file.file_bytes(), distance: None, answers: None }
    }

    fn distance(&self, other: &Model) -> Result<Distance> {
        let (levels, vocab) = (&self.comparison.texts.levels, self.original.config().vocab);
        let mut noise = PhiloxNoise::new(self.comparison.texts.seed, vocab);
        let mut contexts = [context(&self.original, &self.samples)?, context(other, &self.samples)?];
        let sampler = self.original.sampler_defaults();
        let mut sums = Vec::new();
        let progress = progress::of_samples(self.samples.len());
        for (index, sample) in self.samples.iter().enumerate() {
            for context in &mut contexts {
                context.set_tokens(&sample.prompt)?;
            }
            let mut sum = Sum::default();
            for (step, level) in levels.iter().enumerate() {
                let canvas = sample.noisy(*level, &mut noise, index as u32, step as u32)?;
                let mut conditioning = pair(&mut contexts, &canvas, None, vocab, &mut sum)?;
                let temperature = sampler.t_min + (sampler.t_max - sampler.t_min) * level;
                conditioning.iter_mut().for_each(|l| *l /= temperature);
                pair(&mut contexts, &canvas, Some(&conditioning), vocab, &mut sum)?;
            }
            sums.push(sum);
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(distance(&sums))
    }

    fn answers(&self, model: &Model) -> Result<Option<Answers>> {
        if self.exercises.is_empty() {
            return Ok(None);
        }
        let (mut right, mut all, mut steps) = (0, 0, 0);
        let mut context = context(model, &self.exercises)?;
        let progress = progress::of_samples(self.exercises.len());
        for (i, sample) in self.exercises.iter().enumerate() {
            let Some(answer) = &sample.answer else { continue };
            context.set_tokens(&sample.prompt)?;
            let mut params = GenerateParams::new(model);
            params.sampler.seed = i as u64;
            let result = context.generate(&params, |_| ControlFlow::Continue(()))?;
            right += usize::from(model.tokenizer().decode(&result.tokens, false)? == answer.text);
            steps += result.perf.total_steps();
            all += 1;
            progress.inc(1);
        }
        progress.finish_and_clear();
        let share = |n: f64| n / f64::from(all);
        Ok((all > 0).then(|| Answers { right: share(right as f64), steps: share(steps.into()) }))
    }
}

#[derive(Default)]
struct Sum {
    kl: f64,
    same: usize,
    positions: usize,
}

/// From the sums of each sample; all have the same number of positions.
fn distance(sums: &[Sum]) -> Distance {
    let samples = sums.len() as f64;
    let mean = |of: &dyn Fn(&Sum) -> f64| sums.iter().map(|s| of(s) / s.positions as f64).sum::<f64>() / samples;
    let kl = mean(&|s| s.kl);
    let squares: f64 = sums.iter().map(|s| (s.kl / s.positions as f64 - kl).powi(2)).sum();
    let kl_error = (squares / (samples - 1.0).max(1.0) / samples).sqrt();
    // Equal distributions have no logarithm; nothing that matters is below this.
    let logs: f64 = sums.iter().map(|s| (s.kl / s.positions as f64).max(1e-12).ln()).sum();
    let kl_typical = if kl > 0.0 { (logs / samples).exp() } else { 0.0 };
    Distance { kl, kl_error, kl_typical, top1: mean(&|s| s.same as f64) }
}

/// One pass of the original and the other; the original's logits.
fn pair(
    contexts: &mut [Context; 2],
    canvas: &[u32],
    conditioning: Option<&[f32]>,
    vocab: usize,
    sum: &mut Sum,
) -> Result<Vec<f32>> {
    let [p, q] = contexts;
    let (p, q) = (p.canvas_logits(canvas, conditioning)?, q.canvas_logits(canvas, conditioning)?);
    for (p, q) in p.chunks_exact(vocab).zip(q.chunks_exact(vocab)) {
        sum.kl += kl_divergence(p, q);
        sum.same += usize::from(argmax(p) == argmax(q));
        sum.positions += 1;
    }
    Ok(p)
}

/// Sum of p ln(p / q), from logits.
fn kl_divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_sum = |x: &[f32]| {
        let max = f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        max + x.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln()
    };
    let (zp, zq) = (log_sum(p), log_sum(q));
    let term = |(&p, &q): (&f32, &f32)| {
        let (lp, lq) = (f64::from(p) - zp, f64::from(q) - zq);
        lp.exp() * (lp - lq)
    };
    // Rounding can leave equal distributions a hair below zero.
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}

/// The largest entry; the first of equals.
fn argmax(x: &[f32]) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

fn load(file: Gguf, &Comparison { threads, exact, .. }: &Comparison) -> Result<Model> {
    Model::from_gguf(file, &ModelParams { threads, exact, ..Default::default() }, |_| true)
}

/// A context just large enough for the longest of `samples`.
fn context(model: &Model, samples: &[Sample]) -> Result<Context> {
    let size = samples.iter().map(|s| s.prompt.len() + s.canvas.len()).max().unwrap_or_default();
    model.context(&ContextParams { size, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_of_known_distributions() {
        let of = |p: &[f32]| p.iter().map(|x| x.ln() + 3.0).collect::<Vec<f32>>(); // logits are free of an offset
        let (half, skewed) = (of(&[0.5, 0.5]), of(&[0.75, 0.25]));
        let expected = 0.5 * (0.5f64 / 0.75).ln() + 0.5 * (0.5f64 / 0.25).ln();
        assert!((kl_divergence(&half, &skewed) - expected).abs() < 1e-6);
        let expected = 0.75 * (0.75f64 / 0.5).ln() + 0.25 * (0.25f64 / 0.5).ln();
        assert!((kl_divergence(&skewed, &half) - expected).abs() < 1e-6);
        assert_eq!(kl_divergence(&skewed, &skewed), 0.0);
        assert_eq!((argmax(&skewed), argmax(&half)), (0, 0));
    }
}

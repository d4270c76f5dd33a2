//! What rounding costs: the default path, with activations in 8 bits (in BF16, where weights are floats of 16 bits and the
//! processor multiplies such numbers) and keys and values in f16, against `exact`, which keeps both in f32, on the same weights. `cargo test --release --test exactness -- --nocapture` prints the tables of `bench/SPEED.md`.
//!
//! - KL divergence per canvas position, sum of p ln(p / q) in nats, p being the exact path's distribution at temperature 1;
//! - argmax agreement: the share of positions whose most probable token is the same;
//! - answers to the 500 held-out prompts of the built-in model.

mod common;
use common::*;
use dgemma::engine::{Context, ContextParams, GenerateParams, Model, ModelParams};
use dgemma::gguf::Gguf;
use dgemma_quantize::convert::Options;
use dgemma_quantize::requantize::requantize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn tiny(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tiny").join(file)
}

/// (prompt, answer) of every held-out question.
fn questions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(tiny("heldout.jsonl")).unwrap();
    let field = |v: &serde_json::Value, key: &str| v[key].as_str().unwrap().to_owned();
    let question = |line: &str| {
        let v: serde_json::Value = serde_json::from_str(line).unwrap();
        (field(&v, "prompt"), field(&v, "answer"))
    };
    text.lines().map(question).collect()
}

/// Repeatable numbers below `limit`.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % limit
    }
}

/// A prompt and a canvas to compare on.
struct Case {
    prompt: Vec<u32>,
    canvas: Vec<u32>,
}

/// The built-in model on its own subject: 60 questions, each canvas the answer with a share of its positions replaced by
/// noise, as they are while a block is denoised.
fn questions_under_noise(model: &Model) -> Vec<Case> {
    let (c, mut numbers) = (model.config(), Numbers(1));
    let case = |(i, (prompt, answer)): (usize, (String, String))| {
        let messages = serde_json::json!([{"role": "user", "content": prompt}]);
        let prompt = model.encode_chat(&messages, None).unwrap();
        let mut canvas = model.tokenizer().encode(&answer, false, true).unwrap();
        canvas.resize(c.canvas, model.tokenizer().eog()[0]);
        for token in &mut canvas {
            if numbers.below(4) < i % 5 {
                *token = numbers.below(c.vocab) as u32;
            }
        }
        Case { prompt, canvas }
    };
    questions().into_iter().take(60).enumerate().map(case).collect()
}

/// A golden checkpoint on its recorded inputs, and on noise.
fn recorded(model: &Model, name: &str) -> Vec<Case> {
    let r = Tensors::open(&golden(name).join("reference.safetensors"));
    let (c, mut numbers) = (model.config(), Numbers(2));
    let prompt = r.ids("prompt");
    let noise = |_| (0..c.canvas).map(|_| numbers.below(c.vocab) as u32).collect();
    let canvases = [r.ids("canvas"), r.ids("canvas2")].into_iter().chain((0..8).map(noise));
    canvases.map(|canvas| Case { prompt: prompt.clone(), canvas }).collect()
}

#[derive(Default)]
struct Distance {
    kl: f64,
    worst: f64,
    same: usize,
    positions: usize,
}

/// Natural logarithms of probabilities.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
    logits.iter().map(|&l| f64::from(l - max) - sum.ln()).collect()
}

impl Distance {
    fn add(&mut self, exact: &[f32], rounded: &[f32], vocab: usize) {
        for (exact, rounded) in exact.chunks_exact(vocab).zip(rounded.chunks_exact(vocab)) {
            let (p, q) = (log_softmax(exact), log_softmax(rounded));
            let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
            self.kl += kl;
            self.worst = self.worst.max(kl);
            self.same += usize::from(argmax_rows(exact, vocab) == argmax_rows(rounded, vocab));
            self.positions += 1;
        }
    }
}

/// Both passes of every case: without conditioning, and conditioned on what the exact path found.
fn compare(exact: &Model, rounded: &Model, cases: &[Case]) -> Distance {
    let [mut exact, mut rounded] = [exact, rounded].map(|m| m.context(&ContextParams::default()).unwrap());
    let vocab = exact.model().config().vocab;
    let mut distance = Distance::default();
    for case in cases {
        let pass = |context: &mut Context, conditioning: Option<&[f32]>| {
            context.set_tokens(&case.prompt).unwrap();
            context.canvas_logits(&case.canvas, conditioning).unwrap()
        };
        let plain = pass(&mut exact, None);
        distance.add(&plain, &pass(&mut rounded, None), vocab);
        let conditioning: Vec<f32> = plain.iter().map(|l| l / 0.8).collect();
        let conditioned = pass(&mut exact, Some(&conditioning));
        distance.add(&conditioned, &pass(&mut rounded, Some(&conditioning)), vocab);
    }
    distance
}

/// The same file, exact and as by default.
fn both(path: &Path, mix: &str) -> [Model; 2] {
    [true, false].map(|exact| {
        let params = ModelParams { exact, threads: 1, ..Default::default() };
        Model::from_gguf(in_mix(path, mix), &params, |_| true).unwrap()
    })
}

/// A checkpoint or file in `mix`.
fn in_mix(path: &Path, mix: &str) -> Gguf {
    requantize(path, &Options { allow_requantize: true, ..Options::of_type(mix).unwrap() }).unwrap()
}

const MIXES: [&str; 5] = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M"];

/// The bounds are the measured values and some room: they depend on nothing but the instruction set's f32 rounding. The
/// golden checkpoints are random: their attention scores reach +-20, and they have favourites nowhere, so that they show
/// every rounding much larger than a trained model does (`reference.rs` says the same of rounded weights).
#[test]
fn logits_stay_close_to_exact_ones() {
    println!("| model | weights | mean KL (nats) | worst KL | argmax agreement |\n|---|---|---|---|---|");
    let golden_bounds = [("tiny-a", 0.02, 0.99), ("tiny-b", 0.005, 0.99), ("tiny-k", 0.003, 0.99)];
    for (name, most, least) in [("built-in", 1e-4, 0.999)].into_iter().chain(golden_bounds) {
        for mix in MIXES {
            let path = if name == "built-in" { tiny("dgemma-tiny.gguf") } else { golden(name).join("hf") };
            let [exact, rounded] = both(&path, mix);
            let cases = if name == "built-in" { questions_under_noise(&exact) } else { recorded(&exact, name) };
            let d = compare(&exact, &rounded, &cases);
            let (kl, same) = (d.kl / d.positions as f64, d.same as f64 / d.positions as f64);
            println!("| {name} | {mix} | {kl:.1e} | {:.1e} | {:.2} % of {} |", d.worst, 100.0 * same, d.positions);
            assert!(kl > 0.0, "{name} {mix}: both paths are the same");
            assert!(kl <= most && same >= least, "{name} {mix}: expected at most {most} nats and at least {least}");
        }
    }
}

/// Which questions are answered exactly.
fn answers(model: &Model) -> Vec<bool> {
    let mut context = model.context(&ContextParams::default()).unwrap();
    let answer = |(i, (prompt, answer)): (usize, &(String, String))| {
        let messages = serde_json::json!([{"role": "user", "content": prompt}]);
        context.set_tokens(&model.encode_chat(&messages, None).unwrap()).unwrap();
        let mut params = GenerateParams::new(model);
        params.sampler.seed = i as u64;
        let result = context.generate(&params, |_| ControlFlow::Continue(())).unwrap();
        model.tokenizer().decode(&result.tokens, false).unwrap() == *answer
    };
    questions().iter().enumerate().map(answer).collect()
}

/// If rounding did neither good nor harm, the n questions on which the paths differ would fall to either side like coins:
/// the difference has a deviation of sqrt(n). Three of them are noise; five questions of 500 always are.
#[test]
fn answers_are_as_good_as_exact_ones() {
    println!("| weights | exact | default | only exact right | only default right |\n|---|---|---|---|---|");
    for mix in ["F16", "BF16", "Q8_0", "Q4_0"] {
        let models = both(&tiny("dgemma-tiny.gguf"), mix);
        let [exact, rounded] = std::thread::scope(|scope| {
            models.each_ref().map(|model| scope.spawn(|| answers(model))).map(|thread| thread.join().unwrap())
        });
        let count = |f: fn(bool, bool) -> bool| exact.iter().zip(&rounded).filter(|(a, b)| f(**a, **b)).count();
        let (lost, won) = (count(|a, b| a && !b), count(|a, b| !a && b));
        let percent = |right: &[bool]| 100.0 * right.iter().filter(|r| **r).count() as f64 / right.len() as f64;
        println!("| {mix} | {:.1} % | {:.1} % | {lost} | {won} |", percent(&exact), percent(&rounded));
        assert_eq!(exact.len(), 500);
        let noise = 5.0 + 3.0 * ((lost + won) as f64).sqrt();
        assert!((lost as f64 - won as f64).abs() <= noise, "{mix}: {lost} lost, {won} won, noise is {noise:.0}");
    }
}

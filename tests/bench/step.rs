//! Time of one denoising step: `cargo bench --bench step -- MODEL.gguf [PROMPT_TOKENS]` (default: the built-in model, 64).
//! One line per number of threads: milliseconds per step (minimum and median of the runs), the canvas length,
//! and the file size.

use dgemma::engine::{ContextParams, Model, ModelParams, Start};
use std::path::PathBuf;
use std::time::Instant;

/// Steps per measurement: one canvas that is never confident enough to stop.
const STEPS: u32 = 32;
const RUNS: usize = 7;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tiny/dgemma-tiny.gguf");
    let path = args.first().map_or(PathBuf::from(built_in), PathBuf::from);
    let prompt_tokens: usize = args.get(1).map_or(64, |n| n.parse().expect("PROMPT_TOKENS is a number"));
    println!("threads,ms_min,ms_median,canvas,file_mb");
    for threads in [1, 2] {
        let model = Model::load(&path, &ModelParams { threads, ..Default::default() }).expect("a model");
        let mut times: Vec<f64> = (0..RUNS).map(|_| step_ms(&model, prompt_tokens)).collect();
        times.sort_by(f64::total_cmp);
        let (canvas, megabytes) = (model.config().canvas, model.file().file_bytes() as f64 / 1e6);
        println!("{threads},{:.3},{:.3},{canvas},{megabytes:.1}", times[0], times[RUNS / 2]);
    }
}

fn step_ms(model: &Model, prompt_tokens: usize) -> f64 {
    let mut context = model.context(&ContextParams::default()).expect("a context");
    let vocab = model.config().vocab as u32;
    let prompt: Vec<u32> = (0..prompt_tokens as u32).map(|i| (i * 37 + 11) % vocab).collect();
    context.set_tokens(&prompt).expect("a prompt");
    let mut sampler = model.sampler_defaults().clone();
    (sampler.steps, sampler.confidence) = (STEPS, 0.0);
    let mut noise = dgemma::sampler::PhiloxNoise::new(1, vocab as usize);
    let mut block = context.begin_block(0, Start::Random(0), &sampler, &mut noise).expect("a block");
    let clock = Instant::now();
    for _ in 0..STEPS {
        context.step(&mut block, &mut noise).expect("a step");
    }
    clock.elapsed().as_secs_f64() * 1e3 / f64::from(STEPS)
}

//! A generation encodes what is pending in the pass of the next canvas's first step. Protects: everything that comes out of
//! it is, bit for bit, what two passes give; chunks, cancels and short canvases included.

mod common;
use common::*;
use dgemma::cpu_level::CpuLevel;
use dgemma::engine::{
    BackendKind, Context, ContextParams, Event, GenerateParams, KvType, Model, ModelParams, Phase, Start, StepInfo,
    StopReason,
};
use std::ops::ControlFlow;
use std::path::Path;

/// All that a step says, floats as bits.
#[derive(Debug, PartialEq)]
struct Said {
    block: u32,
    draft: Vec<u32>,
    drawn: Vec<u32>,
    canvas: Vec<u32>,
    entropy: Vec<u32>,
    log_prob: Vec<u32>,
}

fn said(step: &StepInfo) -> Said {
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect();
    Said {
        block: step.block,
        draft: step.draft.to_vec(),
        drawn: step.drawn.to_vec(),
        canvas: step.canvas.to_vec(),
        entropy: bits(step.entropy),
        log_prob: bits(step.log_prob),
    }
}

/// micro-f32 (window 8, canvas 16), or any other file.
fn model(file: &Path, backend: BackendKind, level: Option<CpuLevel>) -> Model {
    Model::load(file, &ModelParams { backend, threads: 2, cpu_level: level, ..Default::default() }).unwrap()
}

fn micro(format: &str) -> std::path::PathBuf {
    golden("peer").join(format!("micro-{format}.gguf"))
}

fn prompt() -> Vec<u32> {
    raw_ids(&golden("peer").join("micro-p100.i32"))
}

fn context(model: &Model, chunk: usize, kv: KvType) -> Context {
    let mut context = model.context(&ContextParams { size: 200, chunk, kv: Some(kv) }).unwrap();
    context.set_tokens(&prompt()).unwrap();
    context
}

fn params(model: &Model) -> GenerateParams {
    let mut params = GenerateParams { max_tokens: 41, ignore_eog: true, ..GenerateParams::new(model) };
    (params.sampler.steps, params.sampler.seed) = (3, 9);
    params
}

/// What `generate` does, with passes of their own for what is pending.
fn apart(context: &mut Context, params: &GenerateParams) -> Vec<Said> {
    let (mut all, mut left) = (Vec::new(), params.max_tokens);
    let mut noise = context.noise(params.sampler.seed);
    for index in 0.. {
        let canvas = context.model().config().canvas;
        let length = if params.adaptive_last_canvas { left.min(canvas) } else { 0 };
        let mut block = context.begin_block(index, Start::Random(length), &params.sampler, &mut noise).unwrap();
        while !block.is_done() {
            context.step(&mut block, &mut noise).unwrap();
            all.push(said(&block.last_step().unwrap()));
        }
        let kept = left.min(block.draft().len());
        context.commit(&block, kept).unwrap();
        left -= kept;
        if left == 0 {
            break;
        }
    }
    all
}

fn together(context: &mut Context, params: &GenerateParams) -> Vec<Said> {
    let mut all = Vec::new();
    let result = context.generate(params, |event| {
        if let Event::Step(step) = event {
            all.push(said(&step));
        }
        ControlFlow::Continue(())
    });
    assert_eq!(result.unwrap().stop, StopReason::MaxTokens);
    all
}

fn compare(label: &str, model: &Model, chunk: usize, kv: KvType, params: &GenerateParams) {
    let (mut one, mut two) = (context(model, chunk, kv), context(model, chunk, kv));
    let (together, apart) = (together(&mut one, params), apart(&mut two, params));
    assert_eq!(together, apart, "{label}");
    assert_eq!(one.tokens(), two.tokens(), "{label}");
    // One pass less for each of the three blocks.
    let (layers, passes) = (model.config().layers.len() as u64, one.perf().prefill_tokens);
    assert_eq!(passes, two.perf().prefill_tokens, "{label}: positions encoded");
    assert!(one.perf().phases.layers + 3 * (layers - 1) <= two.perf().phases.layers, "{label}: nothing was shared");
    for layer in 0..model.config().layers.len() {
        // Both have the last block pending; what is cached is that of the same positions.
        assert_eq!(one.encoded(), two.encoded(), "{label}");
        let (a, b) = (one.kv(layer).unwrap(), two.kv(layer).unwrap());
        assert_eq!((a.first, a.k, a.v), (b.first, b.k, b.v), "{label}: layer {layer}");
    }
}

#[test]
fn a_shared_pass_equals_passes_apart() {
    for (name, kind) in BACKENDS {
        let model = model(&micro("f32"), kind, None);
        for kv in [KvType::F32, KvType::F16, KvType::Bf16] {
            // 3: the block before is longer than a chunk; 16: exactly one; 0: prompt and block are one chunk each.
            for chunk in [3, 16, 0] {
                compare(&format!("{name} {kv:?} chunk {chunk}"), &model, chunk, kv, &params(&model));
            }
        }
    }
}

/// Every instruction set, and products in integers.
#[test]
fn at_every_level_and_with_quantized_weights() {
    for level in CpuLevel::available() {
        for format in ["Q4_0", "Q8_0", "Q4_K_M", "bf16"] {
            let model = model(&micro(format), BackendKind::Cpu, Some(level));
            compare(&format!("{format} {}", level.name()), &model, 0, KvType::F32, &params(&model));
        }
    }
}

#[test]
fn with_a_short_last_canvas() {
    let model = model(&micro("f32"), BackendKind::Cpu, None);
    let params = GenerateParams { adaptive_last_canvas: true, ..params(&model) };
    compare("adaptive", &model, 0, KvType::F32, &params);
}

/// Progress: every chunk is heard of, in order, the last one before the step that it shared a pass with.
#[test]
fn every_chunk_is_reported_before_the_step() {
    let model = model(&micro("f32"), BackendKind::Cpu, None);
    let mut context = context(&model, 48, KvType::F32);
    let mut heard = Vec::new();
    let params = GenerateParams { max_tokens: 20, ..params(&model) };
    let result = context.generate(&params, |event| {
        match event {
            Event::Prefill { encoded, total } => heard.push(format!("{encoded}/{total}")),
            Event::Step(step) => heard.push(format!("step {}.{}", step.block, step.step)),
            Event::Commit { block, .. } => heard.push(format!("commit {block}")),
            Event::Early { .. } => {}
        }
        ControlFlow::Continue(())
    });
    let expected =
        "48/100 96/100 100/100 step 0.0 step 0.1 step 0.2 commit 0 116/116 step 1.0 step 1.1 step 1.2 commit 1";
    assert_eq!(heard.join(" "), expected);
    let perf = result.unwrap().perf;
    assert_eq!(perf.prefill_tokens, 116);
    assert!(!perf.prefill.is_zero() && !perf.denoise.is_zero() && perf.prefill + perf.denoise <= perf.total);
    let context = context.perf();
    assert!(context.phases.total().wall <= context.prefill + context.denoise);
    assert!(!context.phases[Phase::Head].wall.is_zero());
}

/// A cancel in the middle of a shared pass, at any layer of it, leaves a context that goes on as if nothing had been.
#[test]
fn a_cancelled_shared_pass_can_be_taken_up_again() {
    let model = model(&micro("f32"), BackendKind::Cpu, None);
    let params = params(&model);
    let mut reference = context(&model, 0, KvType::F32);
    let expected = reference.generate(&params, |_| ControlFlow::Continue(())).unwrap();
    for stop_at in 1..6 {
        let mut context = context(&model, 0, KvType::F32);
        let token = context.cancel_token();
        let mut events = 0;
        let first = context.generate(&params, |_| {
            events += 1;
            if events == stop_at {
                token.cancel(); // seen before the next layer: in the next pass, which is a shared one after a commit
            }
            ControlFlow::Continue(())
        });
        assert_eq!(first.unwrap().stop, StopReason::Cancelled, "{stop_at}");
        // From the start again, on the K/V that is there.
        context.set_tokens(&prompt()).unwrap();
        let again = context.generate(&params, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(again.tokens, expected.tokens, "{stop_at}");
    }
}

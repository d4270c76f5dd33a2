//! What must not change the result: chunk size, number of threads, reuse of a prefix, an interrupted prefill.
//!
//! All on micro-f32: window 8, three layers (two sliding, one full), canvas 16, so that prompts of 100 wrap every ring
//! many times.

mod common;
use common::*;
use dgemma::cpu_level::CpuLevel;
use dgemma::engine::{BackendKind, Event, GenerateParams, Model, ModelParams, StopReason};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Sums are taken in the same order whatever the chunks, so the results are in fact equal; the project promises 1e-4.
const BOUND: f32 = 1e-4;

fn micro() -> PathBuf {
    golden("peer").join("micro-f32.gguf")
}

fn prompt() -> Vec<u32> {
    raw_ids(&golden("peer").join("micro-p100.i32"))
}

fn canvas() -> Vec<u32> {
    raw_ids(&golden("peer").join("micro-c100.i32"))
}

fn fresh_logits(model: &Model, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut context = context(model, chunk);
    context.set_tokens(tokens).unwrap();
    context.canvas_logits(&canvas(), None).unwrap()
}

#[test]
fn chunk_size_does_not_change_the_logits() {
    for (name, kind) in BACKENDS {
        let model = load(&micro(), kind);
        let all_at_once = fresh_logits(&model, &prompt(), 100);
        for chunk in [1, 7, 64] {
            let got = fresh_logits(&model, &prompt(), chunk);
            assert_close(&format!("{name} chunk {chunk}"), &got, &all_at_once, BOUND);
        }
    }
}

fn text(threads: usize, level: Option<CpuLevel>, seed: u64) -> Vec<u32> {
    let params = ModelParams { backend: BackendKind::Cpu, threads, cpu_level: level, ..Default::default() };
    let model = Model::load(&micro(), &params).unwrap();
    let mut context = context(&model, 0);
    context.set_tokens(&prompt()).unwrap();
    let mut params = GenerateParams { max_tokens: 48, ignore_eog: true, ..GenerateParams::new(&model) };
    params.sampler.seed = seed;
    params.sampler.steps = 12;
    context.generate(&params, |_| ControlFlow::Continue(())).unwrap().tokens
}

#[test]
fn threads_do_not_change_the_text() {
    for level in CpuLevel::available() {
        let one = text(1, Some(level), 42);
        for threads in [2, 8] {
            assert_eq!(text(threads, Some(level), 42), one, "{} threads, {}", threads, level.name());
        }
    }
    assert_ne!(text(1, None, 42), text(1, None, 43), "the seed has no effect");
}

/// Extending, cutting back by a little (the rings still hold what is needed), cutting back far (they do not), and
/// changing the middle: always the logits of a fresh context.
#[test]
fn a_reused_prefix_gives_the_logits_of_a_fresh_context() {
    for (name, kind) in BACKENDS {
        let model = load(&micro(), kind);
        let full = prompt();
        let mut other = full.clone();
        other[60..].iter_mut().for_each(|t| *t = (*t + 17) % 512);
        let mut context = context(&model, 16);
        let steps: [(&str, &[u32], usize); 6] = [
            ("start", &full[..50], 0),
            ("extended", &full, 50),
            ("cut by 10", &full[..90], 90),
            ("changed from 60 on", &other, 0), // the rings have 8 - 1 + 16 slots: 60 is out of reach
            ("cut to 40", &other[..40], 0),
            ("extended again", &full, 40),
        ];
        for (what, tokens, reused) in steps {
            assert_eq!(context.set_tokens(tokens).unwrap(), reused, "{name}: {what}");
            let got = context.canvas_logits(&canvas(), None).unwrap();
            assert_close(&format!("{name} {what}"), &got, &fresh_logits(&model, tokens, 0), BOUND);
            assert_eq!(context.encoded(), tokens.len());
        }
    }
}

/// A cancel in the middle of a chunk leaves a context that goes on where it was.
#[test]
fn a_cancelled_prefill_can_be_taken_up_again() {
    let model = load(&micro(), BackendKind::Cpu);
    let mut context = context(&model, 20);
    context.set_tokens(&prompt()).unwrap();
    let token = context.cancel_token();
    let mut chunks = 0;
    let stopped = context.prefill(|_, _| {
        chunks += 1;
        if chunks == 3 {
            token.cancel(); // seen before the first layer of the fourth chunk
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(stopped, Err(dgemma::Error::Cancelled)));
    assert_eq!(context.encoded(), 60);
    token.clear();
    let got = context.canvas_logits(&canvas(), None).unwrap();
    assert_close("after a cancel", &got, &fresh_logits(&model, &prompt(), 0), BOUND);
}

#[test]
fn a_cancel_from_another_thread_ends_a_generation_and_keeps_its_blocks() {
    let model = load(&micro(), BackendKind::Cpu);
    let mut context = context(&model, 0);
    context.set_tokens(&prompt()).unwrap();
    let token = context.cancel_token();
    let params = GenerateParams { max_tokens: 1_000_000, ignore_eog: true, ..GenerateParams::new(&model) };
    let (mut committed, mut presser) = (Vec::new(), None);
    let result = context.generate(&params, |event| {
        if let Event::Commit { tokens, block } = event {
            committed.extend_from_slice(tokens);
            if block == 1 {
                let token = token.clone();
                presser = Some(std::thread::spawn(move || token.cancel()));
            }
        }
        ControlFlow::Continue(())
    });
    presser.unwrap().join().unwrap();
    let result = result.unwrap();
    assert!(matches!(result.stop, StopReason::Cancelled), "{:?}", result.stop);
    assert_eq!(result.tokens, committed);
    assert_eq!(context.tokens().len(), 100 + committed.len());
    // The press is used up: the next generation runs.
    let next = context.generate(&GenerateParams::new(&model), |_| ControlFlow::Continue(())).unwrap();
    assert_ne!(next.stop, StopReason::Cancelled);
}

/// The last canvas ends the text anyway; a callback that stops there is told of its stop all the same.
#[test]
fn a_stop_at_the_last_canvas_is_reported_as_one() {
    let model = load(&micro(), BackendKind::Cpu);
    let params = GenerateParams { ignore_eog: true, ..GenerateParams::new(&model) };
    let run = |flow: ControlFlow<()>| {
        let mut context = context(&model, 0);
        context.set_tokens(&prompt()).unwrap();
        let result = context.generate(&params, |event| match event {
            Event::Commit { .. } => flow,
            _ => ControlFlow::Continue(()),
        });
        let result = result.unwrap();
        (result.stop, result.tokens, context.tokens().len())
    };
    let (whole, stopped) = (run(ControlFlow::Continue(())), run(ControlFlow::Break(())));
    assert_eq!((whole.0, stopped.0), (StopReason::MaxTokens, StopReason::Cancelled));
    assert_eq!((&whole.1, whole.2), (&stopped.1, stopped.2), "the block is kept");
    assert_eq!(whole.1.len(), params.max_tokens);
}

#[test]
fn limits_are_kept_and_named() {
    let model = load(&micro(), BackendKind::Cpu);
    let params = dgemma::engine::ContextParams { size: 40, ..Default::default() };
    let mut context = model.context(&params).unwrap();
    let error = context.set_tokens(&prompt()).unwrap_err().to_string();
    assert_eq!(error, "context of 40 tokens is too small: 100 needed");
    context.set_tokens(&prompt()[..30]).unwrap();
    let error = context.generate(&GenerateParams::new(&model), |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert_eq!(error, "context of 40 tokens is too small: 46 needed");
    context.set_tokens(&prompt()[..8]).unwrap();
    let long = GenerateParams { max_tokens: 1000, ignore_eog: true, ..GenerateParams::new(&model) };
    let result = context.generate(&long, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((result.stop, result.tokens.len()), (StopReason::ContextFull, 32));
    context.truncate(0);
    let error = context.append(&[1, 512]).unwrap_err().to_string();
    assert_eq!(error, "argument `tokens`: contain id 512, expected ids below 512");
    let too_small =
        model.context(&dgemma::engine::ContextParams { size: 3, ..Default::default() }).map(|_| ()).unwrap_err();
    assert!(
        too_small.to_string().starts_with("argument `context_size`: is 3, expected 16 (one canvas) to "),
        "{too_small}"
    );
}

#[test]
fn max_tokens_cuts_the_last_canvas() {
    let model = load(&micro(), BackendKind::Cpu);
    for (max_tokens, ignore_eog) in [(0, true), (1, true), (15, true), (16, true), (17, true), (17, false)] {
        let mut context = context(&model, 0);
        context.set_tokens(&prompt()).unwrap();
        let params = GenerateParams { max_tokens, ignore_eog, ..GenerateParams::new(&model) };
        let result = context.generate(&params, |_| ControlFlow::Continue(())).unwrap();
        match result.stop {
            StopReason::MaxTokens => assert_eq!(result.tokens.len(), max_tokens),
            StopReason::EndOfGeneration => assert!(!ignore_eog && result.tokens.len() <= max_tokens),
            other => panic!("{other:?}"),
        }
    }
}

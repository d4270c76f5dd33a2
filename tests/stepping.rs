//! Blocks step by step: the caller's canvas, what a step tells, short canvases, biases and bans. On micro-f32 (random
//! weights, canvas 16) where any text will do, on the built-in model where the text must make sense.

mod common;
use common::*;
use dgemma::engine::{BackendKind, Block, Context, Event, GenerateParams, Model, Phase, Slot, Start};
use dgemma::sampler::{Recorder, SamplerParams, StableRule};
use std::ops::ControlFlow;
use std::path::Path;

fn micro(kind: BackendKind) -> (Model, Context) {
    let model = load(&golden("peer").join("micro-f32.gguf"), kind);
    let mut context = context(&model, 0);
    context.set_tokens(&raw_ids(&golden("peer").join("micro-p20.i32"))).unwrap();
    (model, context)
}

fn tiny() -> Model {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tiny/dgemma-tiny.gguf"), BackendKind::Cpu)
}

fn sampler(model: &Model, steps: u32) -> SamplerParams {
    SamplerParams { steps, seed: 5, confidence: 0.0, ..model.sampler_defaults().clone() }
}

/// Runs a block to its end, calling `check` after each step.
fn run(context: &mut Context, start: Start, sampler: &SamplerParams, mut check: impl FnMut(&Block)) -> Block {
    let mut noise = context.noise(sampler.seed);
    let mut block = context.begin_block(0, start, sampler, &mut noise).unwrap();
    while !block.is_done() {
        context.step(&mut block, &mut noise).unwrap();
        check(&block);
    }
    block
}

#[test]
fn pinned_positions_stay_and_take_no_part() {
    for (name, kind) in BACKENDS {
        let (model, mut context) = micro(kind);
        let slots: Vec<Slot> = (0..16).map(|i| if i % 3 == 0 { Slot::Pinned(100 + i) } else { Slot::Noise }).collect();
        let sampler = SamplerParams { entropy_bound: 0.0, ..sampler(&model, 4) };
        run(&mut context, Start::Canvas(&slots), &sampler, |block| {
            let info = block.last_step().unwrap();
            for i in (0..16).step_by(3) {
                let token = 100 + i as u32;
                assert_eq!((info.draft[i], info.drawn[i], info.canvas[i]), (token, token, token), "{name} at {i}");
                assert!(info.pinned[i] && info.accepted[i] && !info.changed[i], "{name} at {i}");
            }
            // A bound of 0 accepts one position: of those that are not pinned, the most certain.
            let open: Vec<usize> = (0..16).filter(|i| i % 3 != 0).collect();
            let best = open.iter().copied().min_by(|&a, &b| info.entropy[a].total_cmp(&info.entropy[b])).unwrap();
            let accepted: Vec<usize> = open.into_iter().filter(|&i| info.accepted[i]).collect();
            assert_eq!(accepted, [best], "{name}");
        });
    }
}

#[test]
fn a_block_with_everything_pinned_is_stable_at_once() {
    let (model, mut context) = micro(BackendKind::Cpu);
    let slots: Vec<Slot> = (0..16).map(Slot::Pinned).collect();
    let sampler = SamplerParams { confidence: 1e-6, ..sampler(&model, 9) };
    let block = run(&mut context, Start::Canvas(&slots), &sampler, |b| assert_eq!(b.last_step().unwrap().stable, 16));
    assert_eq!(block.steps_done(), 2); // the second draft equals the first
    assert_eq!(block.draft(), (0..16).collect::<Vec<u32>>());
}

#[test]
fn free_positions_start_from_their_token_and_noise_from_the_noise() {
    let (model, mut context) = micro(BackendKind::Cpu);
    let sampler = sampler(&model, 3);
    let mut noise = context.noise(5);
    let random = context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
    let mut slots = vec![Slot::Noise; 16];
    let noisy = context.begin_block(0, Start::Canvas(&slots), &sampler, &mut noise).unwrap();
    assert_eq!(noisy.canvas(), random.canvas());
    slots[4] = Slot::Free(77);
    let free = context.begin_block(0, Start::Canvas(&slots), &sampler, &mut noise).unwrap();
    let mut expected = random.canvas().to_vec();
    expected[4] = 77;
    assert_eq!(free.canvas(), expected);
    // Free(t) everywhere with the tokens of the noise is the random block itself.
    let same: Vec<Slot> = random.canvas().iter().map(|&t| Slot::Free(t)).collect();
    let a = run(&mut context, Start::Random(0), &sampler, |_| ());
    let b = run(&mut context, Start::Canvas(&same), &sampler, |_| ());
    assert_eq!((a.draft(), a.canvas()), (b.draft(), b.canvas()));
}

/// After the first step, the rows asked for are those of a plain pass over the same canvas, and the step's own numbers
/// follow from them.
#[test]
fn rows_of_a_step_are_the_logits_of_the_pass() {
    for (name, kind) in BACKENDS {
        let (model, mut context) = micro(kind);
        let vocab = model.config().vocab;
        let sampler = sampler(&model, 3);
        let mut noise = context.noise(5);
        let mut block = context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
        let canvas = block.canvas().to_vec();
        context.step(&mut block, &mut noise).unwrap();
        let rows = [3, 15, 3];
        let got = context.row_logits(&block, &rows).unwrap();
        let log_probs = context.row_log_probs(&block, &rows).unwrap();
        let info = block.last_step().unwrap();
        for (i, &row) in rows.iter().enumerate() {
            let logits = &got[i * vocab..][..vocab];
            let tempered: Vec<f64> = logits.iter().map(|&l| f64::from(l) / f64::from(info.temperature)).collect();
            let log_sum = tempered.iter().map(|l| l.exp()).sum::<f64>().ln();
            let best = argmax_rows(logits, vocab)[0];
            assert_eq!(info.draft[row] as usize, best, "{name}: argmax of row {row}");
            assert_close(name, &[info.log_prob[row]], &[(tempered[best] - log_sum) as f32], 1e-4);
            let total: f64 = log_probs[i * vocab..][..vocab].iter().map(|&p| f64::from(p).exp()).sum();
            assert!((total - 1.0).abs() < 1e-5, "{name}: probabilities of row {row} sum to {total}");
        }
        let all = context.canvas_logits(&canvas, None).unwrap();
        let want: Vec<f32> = rows.iter().flat_map(|&r| &all[r * vocab..][..vocab]).copied().collect();
        assert_close(&format!("{name} rows"), &got, &want, 1e-5);
    }
}

#[test]
fn blocks_know_when_the_context_moved_on() {
    let (model, mut context) = micro(BackendKind::Cpu);
    let sampler = sampler(&model, 3);
    let mut noise = context.noise(5);
    let mut a = context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
    let mut b = context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
    let text = |e: dgemma::Error| e.to_string();
    assert_eq!(text(context.row_logits(&a, &[0]).unwrap_err()), "argument `block`: has done no step yet");
    assert!(text(context.commit(&a, 1).unwrap_err()).starts_with("argument `n`: is 1, but the block's draft has 0"));
    context.step(&mut a, &mut noise).unwrap();
    assert_eq!(
        text(context.row_logits(&a, &[16]).unwrap_err()),
        "argument `rows`: has 16, expected positions below 16"
    );
    context.step(&mut b, &mut noise).unwrap();
    assert!(text(context.row_logits(&a, &[0]).unwrap_err()).contains("hidden states are gone"));
    assert_eq!(
        text(context.step(&mut a, &mut noise).unwrap_err()),
        "argument `block`: another block was stepped since its last step"
    );
    context.step(&mut b, &mut noise).unwrap();
    context.commit(&b, 5).unwrap();
    assert_eq!(&context.tokens()[20..], &b.draft()[..5]);
    for stale in [context.step(&mut b, &mut noise), context.commit(&b, 1)] {
        assert_eq!(text(stale.unwrap_err()), "argument `block`: began at position 20, but the timeline changed since");
    }
}

/// A step that was cancelled leaves the block as it was: repeated, it gives what it would have given.
#[test]
fn a_cancelled_step_can_be_repeated() {
    for (name, kind) in BACKENDS {
        let (model, mut context) = micro(kind);
        let sampler = sampler(&model, 3);
        let whole = run(&mut context, Start::Random(0), &sampler, |_| ());
        let mut noise = context.noise(5);
        let mut block = context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
        while !block.is_done() {
            context.cancel_token().cancel();
            assert!(matches!(context.step(&mut block, &mut noise), Err(dgemma::Error::Cancelled)));
            context.step(&mut block, &mut noise).unwrap();
        }
        assert_eq!(block.draft(), whole.draft(), "{name}");
    }
}

#[test]
fn bad_starts_are_refused() {
    let (model, mut context) = micro(BackendKind::Cpu);
    let sampler = sampler(&model, 3);
    let mut noise = context.noise(5);
    let mut refused = |start| context.begin_block(0, start, &sampler, &mut noise).map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused(Start::Random(17)), "argument `canvas`: has 17 positions, expected 1 to 16");
    assert_eq!(refused(Start::Canvas(&[])), "argument `canvas`: has 0 positions, expected 1 to 16");
    assert_eq!(refused(Start::Canvas(&[Slot::Pinned(512)])), "argument `canvas`: has id 512, expected ids below 512");
}

#[test]
fn backends_agree_on_short_canvases_and_biases() {
    let (_, mut reference) = micro(BackendKind::Reference);
    let (model, mut cpu) = micro(BackendKind::Cpu);
    for length in [1, 7, 15] {
        let banned = (0..400).collect();
        let sampler = SamplerParams { banned, logit_bias: vec![(450, 3.0), (460, -2.0)], ..sampler(&model, 3) };
        let a = run(&mut reference, Start::Random(length), &sampler, |_| ());
        let b = run(&mut cpu, Start::Random(length), &sampler, |_| ());
        assert_eq!((a.draft(), a.canvas()), (b.draft(), b.canvas()), "length {length}");
        let (a, b) = (a.last_step().unwrap(), b.last_step().unwrap());
        assert_close("entropy", b.entropy, a.entropy, 1e-3);
        assert_close("log_prob", b.log_prob, a.log_prob, 1e-3);
        assert!(b.draft.iter().chain(b.drawn).all(|&t| t >= 400));
    }
}

#[test]
fn a_strong_bias_decides_and_none_changes_nothing() {
    let (model, mut context) = micro(BackendKind::Cpu);
    let plain = run(&mut context, Start::Random(0), &sampler(&model, 4), |_| ());
    let zero = SamplerParams { logit_bias: vec![(3, 0.0), (400, 0.0)], ..sampler(&model, 4) };
    assert_eq!(run(&mut context, Start::Random(0), &zero, |_| ()).draft(), plain.draft());
    let strong = SamplerParams { logit_bias: vec![(333, 500.0)], ..sampler(&model, 4) };
    run(&mut context, Start::Random(0), &strong, |b| assert_eq!(b.draft(), [333; 16]));
    let both = SamplerParams { banned: vec![333], ..strong };
    run(&mut context, Start::Random(0), &both, |b| assert!(!b.draft().contains(&333)));
}

/// The loop of `generate`, done by hand with the public calls, gives its text and its counters.
#[test]
fn steps_by_hand_give_the_text_of_generate() {
    let model = tiny();
    let messages = serde_json::json!([{"role": "user", "content": "Reverse: garden"}]);
    let prompt = model.encode_chat(&messages, None).unwrap();
    let (mut whole, mut parts) = (context(&model, 0), context(&model, 0));
    whole.set_tokens(&prompt).unwrap();
    parts.set_tokens(&prompt).unwrap();
    let params = GenerateParams::new(&model);
    let result = whole.generate(&params, |_| ControlFlow::Continue(())).unwrap();
    let block = run(&mut parts, Start::Random(0), &params.sampler, |_| ());
    parts.commit(&block, result.tokens.len()).unwrap();
    assert_eq!(parts.tokens()[prompt.len()..], result.tokens);
    let perf = parts.perf();
    assert_eq!(perf.steps, u64::from(result.perf.total_steps()));
    assert_eq!((perf.prefill_tokens, perf.committed), (prompt.len() as u64, result.tokens.len()));
    for phase in Phase::ALL {
        assert!(!perf.phases[phase].wall.is_zero(), "{}", phase.name());
    }
    assert!(perf.phases.total().wall <= perf.denoise + perf.prefill, "{perf:?}");
    parts.reset();
    assert_eq!((parts.tokens().len(), parts.encoded(), parts.perf()), (0, 0, Default::default()));
}

/// A recording of the noise gives the same generation without the seed.
#[test]
fn a_recorded_generation_can_be_replayed() {
    let (model, mut context) = micro(BackendKind::Cpu);
    let prompt = context.tokens().to_vec();
    let mut params = GenerateParams { max_tokens: 40, ignore_eog: true, ..GenerateParams::new(&model) };
    (params.sampler.seed, params.sampler.steps) = (77, 6);
    let mut noise = context.noise(77);
    let mut recorder = Recorder::new(&mut noise);
    let first = context.generate_with_noise(&params, &mut recorder, |_| ControlFlow::Continue(())).unwrap();
    let mut recording = recorder.recording;
    assert_eq!(recording.canvases.len(), 3);
    context.set_tokens(&prompt).unwrap();
    let plain = context.generate(&params, |_| ControlFlow::Continue(())).unwrap();
    context.set_tokens(&prompt).unwrap();
    params.sampler.seed = 1;
    let again = context.generate_with_noise(&params, &mut recording, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((&first.tokens, &plain.tokens), (&again.tokens, &again.tokens));
}

/// Every second token of the right answer is pinned, the others are noise: the gaps are filled with what belongs there.
#[test]
fn gaps_in_answers_are_filled() {
    let model = tiny();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tiny/heldout.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut context = context(&model, 0);
    let (mut right, mut all) = (0, 0);
    for line in text.lines().step_by(10) {
        let q: serde_json::Value = serde_json::from_str(line).unwrap();
        let messages = serde_json::json!([{"role": "user", "content": q["prompt"]}]);
        context.set_tokens(&model.encode_chat(&messages, None).unwrap()).unwrap();
        let answer = model.tokenizer().encode(q["answer"].as_str().unwrap(), false, false).unwrap();
        let canvas = model.config().canvas;
        let slot = |i: usize| answer.get(i).filter(|_| i.is_multiple_of(2)).map_or(Slot::Noise, |&t| Slot::Pinned(t));
        let slots: Vec<Slot> = (0..canvas).map(slot).collect();
        let block = run(&mut context, Start::Canvas(&slots), &model.sampler_defaults().clone(), |_| ());
        all += 1;
        right += usize::from(block.draft()[..answer.len()] == answer);
    }
    eprintln!("{right} of {all} answers completed");
    // 98 % of the answers are right without help.
    assert!(all == 50 && right >= 48, "{right} of {all} answers completed, expected 48 or more");
}

/// Early text comes before the commit, is cut like the commit, and is nearly always right. The built-in model is done
/// after two or three steps, so the rule here asks for low entropy alone.
#[test]
fn early_text_comes_before_the_commit() {
    let model = tiny();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tiny/heldout.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut context = context(&model, 0);
    let (mut events, mut wrong, mut answers, mut ahead) = (0, 0, 0, 0);
    for line in text.lines().step_by(10) {
        let q: serde_json::Value = serde_json::from_str(line).unwrap();
        let messages = serde_json::json!([{"role": "user", "content": q["prompt"]}]);
        context.set_tokens(&model.encode_chat(&messages, None).unwrap()).unwrap();
        let mut params = GenerateParams { early: true, ..GenerateParams::new(&model) };
        params.sampler.stable = StableRule { steps: 0, entropy: 0.05 };
        let (mut early, mut committed): (Vec<Vec<u32>>, Vec<u32>) = (Vec::new(), Vec::new());
        let result = context.generate(&params, |event| {
            match event {
                Event::Early { tokens, block } => {
                    assert!(block == 0 && committed.is_empty());
                    early.push(tokens.to_vec());
                }
                Event::Commit { tokens, .. } => committed.extend_from_slice(tokens),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        assert_eq!(result.unwrap().tokens, committed);
        answers += 1;
        events += early.len();
        wrong += early.iter().filter(|e| !committed.starts_with(e)).count();
        ahead += usize::from(early.iter().any(|e| !e.is_empty()));
    }
    eprintln!("{events} early events in {answers} answers, {ahead} answers with some, {wrong} revised later");
    assert!(events >= 40 && wrong * 20 <= events, "{wrong} of {events} early texts were revised");
}

#[test]
fn the_last_canvas_can_be_as_short_as_the_text() {
    let (model, mut context) = micro(BackendKind::Cpu);
    let params =
        GenerateParams { max_tokens: 21, ignore_eog: true, adaptive_last_canvas: true, ..GenerateParams::new(&model) };
    let mut lengths = Vec::new();
    let result = context.generate(&params, |event| {
        if let Event::Step(info) = event
            && info.step == 0
        {
            lengths.push(info.draft.len());
        }
        ControlFlow::Continue(())
    });
    assert_eq!((lengths, result.unwrap().tokens.len()), (vec![16, 5], 21));
    // The room of the context counts too.
    let mut small = model.context(&dgemma::engine::ContextParams { size: 30, ..Default::default() }).unwrap();
    small.set_tokens(&context.tokens()[..10]).unwrap();
    let result = small.generate(&params, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((result.stop, small.tokens().len()), (dgemma::engine::StopReason::ContextFull, 30));
}

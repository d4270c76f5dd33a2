//! Scores are the log-probabilities that the whole logits would give, on both backends.

mod common;
use common::*;
use dgemma::engine::{BackendKind, Context, Start};

fn micro(kind: BackendKind) -> Context {
    let model = load(&golden("peer").join("micro-f32.gguf"), kind);
    let mut context = context(&model, 0);
    context.set_tokens(&raw_ids(&golden("peer").join("micro-p20.i32"))).unwrap();
    context
}

/// Positions out of order, some of them twice, tokens at the ends of the vocabulary.
const CANDIDATES: [(usize, u32); 6] = [(9, 511), (2, 0), (9, 17), (0, 300), (2, 0), (15, 63)];

#[test]
fn scores_are_those_of_the_whole_logits() {
    for (name, kind) in BACKENDS {
        let mut context = micro(kind);
        let canvas = raw_ids(&golden("peer").join("micro-c20.i32"));
        let all = context.canvas_logits(&canvas, None).unwrap();
        let log_prob = |&(position, token): &(usize, u32)| {
            let row = &all[position * 512..][..512];
            let log_sum = row.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
            (f64::from(row[token as usize]) - log_sum) as f32
        };
        let want: Vec<f32> = CANDIDATES.iter().map(log_prob).collect();
        assert_close(name, &context.score(&canvas, &CANDIDATES).unwrap(), &want, 1e-4);
        assert_eq!((context.tokens().len(), context.perf().scorings), (20, 1));
        assert!(context.score(&canvas, &[]).unwrap().is_empty());
    }
}

#[test]
fn a_step_can_be_scored_and_a_scoring_does_not_disturb_the_block() {
    for (name, kind) in BACKENDS {
        let mut context = micro(kind);
        let sampler = context.model().sampler_defaults().clone();
        let mut noise = context.noise(3);
        let mut block = context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
        context.step(&mut block, &mut noise).unwrap();
        context.step(&mut block, &mut noise).unwrap();
        let rows = context.row_log_probs(&block, &(0..16).collect::<Vec<_>>()).unwrap();
        let want: Vec<f32> = CANDIDATES.iter().map(|&(p, t)| rows[p * 512 + t as usize]).collect();
        assert_close(name, &context.candidate_log_probs(&block, &CANDIDATES).unwrap(), &want, 1e-4);
        let mut undisturbed = (context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap(), micro(kind));
        for _ in 0..3 {
            undisturbed.1.prefill(|_, _| std::ops::ControlFlow::Continue(())).unwrap();
            undisturbed.1.step(&mut undisturbed.0, &mut noise).unwrap();
        }
        context.score(&[1, 2, 3], &[(2, 9)]).unwrap();
        let stale = context.candidate_log_probs(&block, &CANDIDATES).unwrap_err().to_string();
        assert!(stale.contains("hidden states are gone"), "{stale}");
        context.step(&mut block, &mut noise).unwrap();
        assert_eq!(block.draft(), undisturbed.0.draft(), "{name}");
        assert_eq!(block.canvas(), undisturbed.0.canvas(), "{name}");
    }
}

#[test]
fn what_cannot_be_scored_is_named() {
    let mut context = micro(BackendKind::Cpu);
    let mut refused = |canvas: &[u32], c: (usize, u32)| context.score(canvas, &[c]).unwrap_err().to_string();
    assert_eq!(refused(&[], (0, 0)), "argument `canvas`: expected 1 to 16 ids below 512");
    assert_eq!(refused(&[0; 17], (0, 0)), "argument `canvas`: expected 1 to 16 ids below 512");
    assert_eq!(refused(&[512], (0, 0)), "argument `canvas`: expected 1 to 16 ids below 512");
    let text = refused(&[5; 4], (4, 0));
    assert_eq!(text, "argument `candidates`: ask for token 0 at 4, expected ids below 512 and below 4");
    context.cancel_token().cancel();
    assert!(matches!(context.score(&[1, 2], &[(0, 0)]), Err(dgemma::Error::Cancelled)));
    context.score(&[1, 2], &[(0, 0)]).unwrap(); // the press is used up
}

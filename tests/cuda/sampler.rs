//! The sampler's kernels against its definition, `sampler::Canvas`: exactly.

use super::device::*;
use dgemma::backend::cuda::Sampler;
use dgemma::backend::{CanvasStart, DeviceSampler, HeadStats, StepInput, StepNoise};
use dgemma::sampler::{Canvas, Noise, PhiloxNoise, SamplerParams};

const VOCAB: usize = 1003;

/// Statistics as a head leaves them: few drafts, so that many stay the same; entropies of all sizes, many equal.
fn statistics(r: &mut Numbers, rows: usize, settled: bool) -> HeadStats {
    let mut token = |most: f32| ((r.next() + 1.0) * most) as u32;
    let argmax = (0..rows).map(|i| if settled { i as u32 } else { token(1.2) }).collect();
    let sampled = (0..rows).map(|_| token(400.0)).collect();
    let mut size = |i: usize| match i % 7 {
        0 => 0.0,
        1 => 1e-30,
        2 => 0.25,
        3 => -0.0,
        _ => (r.next() * 20.0).exp2().min(6.0) * if settled { 1e-6 } else { 0.01 },
    };
    let entropy: Vec<f32> = (0..rows).map(&mut size).collect();
    let log_prob = entropy.iter().map(|h| -h).collect();
    HeadStats { argmax, sampled, entropy, log_prob, ..Default::default() }
}

/// What one block of `rows` positions does over some steps, on both sides.
fn block(sampler: &mut Sampler, cuda: &dgemma::backend::cuda::Cuda, rows: usize, params: &SamplerParams, given: bool) {
    let mut r = Numbers(rows as u64);
    let tokens: Vec<u32> = (0..rows as u32).map(|i| i % 5).collect();
    let pinned: Vec<bool> = (0..rows).map(|i| given && i % 6 == 1).collect();
    let start = CanvasStart {
        tokens: &tokens,
        pinned: &pinned,
        bias: &[],
        entropy_bound: params.entropy_bound,
        stability: params.stability,
        confidence: params.confidence,
    };
    sampler.begin(cuda, &start).unwrap();
    let mut canvas = Canvas::new(tokens.clone(), pinned.clone(), params);
    let mut philox = PhiloxNoise::new(0x1234_5678_9abc_def0, VOCAB);
    for step in 0..6 {
        let what = format!("{rows} rows, given {given}, step {step}");
        let (mut uniforms, mut fresh) = (vec![0.0; rows], vec![0; rows]);
        philox.draws(3, step, &mut uniforms).unwrap();
        philox.renoise(3, step, &mut fresh).unwrap();
        let (seed, vocab) = philox.seed_and_vocab();
        let noise = if given {
            StepNoise::Given { uniforms: &uniforms, fresh: &fresh }
        } else {
            StepNoise::Philox { seed, vocab }
        };
        let stats = statistics(&mut r, rows, step >= 2);
        let input = StepInput { block: 3, step, temperature: 0.7, noise };
        let (finished, decision) = sampler.decide_alone(cuda, &input, &stats).unwrap();
        assert_eq!(sampler.drawn_with().unwrap(), (uniforms, fresh.clone()), "{what}: noise");
        canvas.take(stats, &fresh);
        let want = &canvas.last;
        assert_eq!(decision.accepted, want.accepted, "{what}: accepted");
        assert_eq!(decision.canvas, want.canvas, "{what}: canvas");
        assert_eq!(decision.stats.argmax, want.stats.argmax, "{what}: draft");
        assert_eq!(decision.stats.sampled, want.stats.sampled, "{what}: drawn");
        assert_eq!(decision.changed, want.changed, "{what}: changed");
        assert_eq!(decision.unchanged, want.unchanged, "{what}: unchanged");
        assert_eq!(decision.stats.entropy, want.stats.entropy, "{what}: entropy");
        assert_eq!(decision.stats.log_prob, want.stats.log_prob, "{what}: log_prob");
        assert_eq!(finished, canvas.finished, "{what}: finished");
    }
}

/// Canvases of any length, one after the other on one sampler; noise of the device's own and of the host's; the four ways
/// in which a stop can hang on stability and confidence.
#[test]
fn decisions_equal_their_definition() {
    if !available("decisions_equal_their_definition") {
        return;
    }
    let cuda = open(true);
    let mut sampler = Sampler::new(&cuda, 600, VOCAB).unwrap();
    let lengths: &[usize] = if checked() { &[1, 37, 70] } else { &[1, 2, 16, 255, 256, 257, 600] };
    let mut ends = Vec::new();
    for &rows in lengths {
        for (stability, confidence, bound) in [(1, 0.05, 0.1), (0, 0.0, 0.0), (3, 10.0, 3.0), (2, 10.0, f32::INFINITY)]
        {
            let params = SamplerParams { stability, confidence, entropy_bound: bound, ..Default::default() };
            block(&mut sampler, &cuda, rows, &params, false);
            block(&mut sampler, &cuda, rows, &params, true);
            ends.push(sampler.finished(&cuda, None).unwrap());
        }
    }
    assert!(ends.contains(&true) && ends.contains(&false), "blocks that end and blocks that go on");
}

/// An entropy that is no number comes last, as on the host, and never lets a block end.
#[test]
fn an_entropy_that_is_no_number_goes_the_hosts_way() {
    if !available("an_entropy_that_is_no_number_goes_the_hosts_way") {
        return;
    }
    let cuda = open(true);
    let params = SamplerParams { stability: 0, confidence: 9.0, entropy_bound: 1.0, ..Default::default() };
    let (tokens, pinned) = (vec![1, 2, 3, 4], vec![false; 4]);
    for entropy in [[0.5, f32::NAN, 0.1, 0.2], [0.5, -f32::NAN, 0.1, 0.2], [f32::INFINITY, 0.3, 0.1, 2.0]] {
        let mut sampler = Sampler::new(&cuda, 4, VOCAB).unwrap();
        let start = CanvasStart {
            tokens: &tokens,
            pinned: &pinned,
            bias: &[],
            entropy_bound: 1.0,
            stability: 0,
            confidence: 9.0,
        };
        sampler.begin(&cuda, &start).unwrap();
        let stats = HeadStats {
            argmax: vec![5; 4],
            sampled: vec![6; 4],
            entropy: entropy.to_vec(),
            log_prob: vec![0.0; 4],
            ..Default::default()
        };
        let noise = StepNoise::Given { uniforms: &[0.5; 4], fresh: &[7; 4] };
        let input = StepInput { block: 0, step: 0, temperature: 1.0, noise };
        let (finished, decision) = sampler.decide_alone(&cuda, &input, &stats).unwrap();
        let mut canvas = Canvas::new(tokens.clone(), pinned.clone(), &params);
        canvas.take(stats, &[7; 4]);
        assert_eq!((decision.accepted, finished), (canvas.last.accepted, canvas.finished), "{entropy:?}");
        assert!(!finished);
    }
}

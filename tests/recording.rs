//! The recording backend: the same numbers as the CPU backend's, and sums that are those of the inputs.

use dgemma::backend::cpu::Cpu;
use dgemma::backend::recording::{ColumnSums, Recording};
use dgemma::backend::{Backend, ExpertWeights, HeadParams, HeadStats, HeadWeights};
use dgemma::cpu_level::CpuLevel;
use dgemma::gguf::{Bytes, Tensor};
use dgemma::quant;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Repeatable numbers in -1..1.
fn numbers(seed: u32, n: usize) -> Vec<f32> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn tensor(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let len = bytes.len();
    let format = quant::by_name("F32").unwrap();
    Tensor { name: name.into(), shape: shape.to_vec(), format, data: Bytes::new(Arc::new(bytes), 0, len) }
}

fn cpu() -> Cpu {
    Cpu::new(2, CpuLevel::best()).unwrap()
}

fn sums(recording: &Recording, name: &str) -> ColumnSums {
    recording.sums().into_iter().find(|(n, _)| n == name).unwrap().1
}

/// What `rows` of `columns` add up to.
fn expected<'a>(columns: usize, rows: impl Iterator<Item = &'a [f32]>) -> (Vec<f64>, u64) {
    let (mut squares, mut count) = (vec![0.0; columns], 0);
    for row in rows {
        squares.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x) * f64::from(x));
        count += 1;
    }
    (squares, count)
}

#[test]
fn matrices_and_the_head_hear_every_row() {
    let (rows, hidden, vocab) = (5, 48, 70);
    let (table, other) = (numbers(1, vocab * hidden), numbers(2, vocab * hidden));
    let x = numbers(3, (rows + 2) * hidden); // two rows more than are used
    let recording = Recording::new(cpu());
    let matrix = recording.weight(tensor("matrix", &[hidden, vocab], &table)).unwrap();
    let plain = cpu().weight(tensor("matrix", &[hidden, vocab], &table)).unwrap();
    let (mut ours, mut theirs) = (vec![0.0; rows * vocab], vec![0.0; rows * vocab]);
    recording.matmul(&matrix, &x, rows, &mut ours).unwrap();
    cpu().matmul(&plain, &x, rows, &mut theirs).unwrap();
    assert_eq!(ours, theirs);
    let (squares, count) = expected(hidden, x.chunks(hidden).take(rows));
    assert_eq!(sums(&recording, "matrix"), ColumnSums { columns: hidden, squares, counts: vec![count] });

    // An untied head: the logits' matrix hears, the embedding does not.
    let embedding = recording.weight(tensor("embedding", &[hidden, vocab], &other)).unwrap();
    let head = recording.weight(tensor("head", &[hidden, vocab], &table)).unwrap();
    let params = HeadParams {
        temperature: 0.7,
        softcap: Some(30.0),
        bias: &[],
        uniforms: &[0.5; 5],
        likely: &[],
        soft_scale: 2.0,
        cancel: &AtomicBool::new(false),
    };
    let (mut soft, mut stats) = (vec![0.0; rows * hidden], HeadStats::default());
    let weights = HeadWeights { table: &head, embedding: &embedding };
    recording.head(weights, &x, rows, &params, &mut soft, &mut stats).unwrap();
    recording.embed(&embedding, &[1, 2, 3], 1.0, &mut soft).unwrap();
    recording.soft_embedding(&embedding, &vec![0.0; rows * vocab], rows, 1.0, &mut soft).unwrap();
    assert_eq!(sums(&recording, "head"), sums(&recording, "matrix"));
    assert_eq!(sums(&recording, "embedding").counts, [0]);
    recording.logits(&embedding, &x, rows, None, &mut ours).unwrap();
    assert_eq!(sums(&recording, "embedding"), sums(&recording, "matrix"));
}

/// Each expert hears its own rows, and its down projection the activation that a plain product gives.
#[test]
fn experts_hear_the_rows_routed_to_them() {
    let (rows, experts, top_k, ffn, hidden) = (40, 6, 2, 24, 40);
    let logits: Vec<f32> = numbers(4, rows * experts)
        .iter()
        .enumerate()
        .map(|(i, x)| {
            // Nobody goes to expert 4.
            if i % experts == 4 { -100.0 } else { x * 3.0 }
        })
        .collect();
    let x = numbers(5, rows * hidden);
    let stacks = [numbers(6, experts * ffn * hidden), numbers(7, experts * ffn * hidden)];
    let down = numbers(8, experts * hidden * ffn);
    // [experts, gate then up, hidden]
    let fused: Vec<f32> = stacks[0]
        .chunks(ffn * hidden)
        .zip(stacks[1].chunks(ffn * hidden))
        .flat_map(|(gate, up)| [gate, up].concat())
        .collect();
    for split in [false, true] {
        let recording = Recording::new(cpu());
        let weight = |name, shape: [usize; 3], values: &[f32]| recording.weight(tensor(name, &shape, values)).unwrap();
        let fused = weight("fused", [hidden, 2 * ffn, experts], &fused);
        let gate = weight("gate", [hidden, ffn, experts], &stacks[0]);
        let up = weight("up", [hidden, ffn, experts], &stacks[1]);
        let down_weight = weight("down", [ffn, hidden, experts], &down);
        let (gate, up) = if split { ((&gate, 0), (&up, 0)) } else { ((&fused, 0), (&fused, ffn)) };
        let weights = ExpertWeights { gate, up, down: &down_weight, experts, ffn, hidden };
        let mut routes = recording.routes(rows, top_k, ffn, hidden).unwrap();
        let mut out = vec![0.0; rows * hidden];
        recording.route(&logits, &vec![1.0; experts], rows, experts, top_k, &mut routes).unwrap();
        recording.experts(weights, &x, rows, &mut routes, &mut out).unwrap();

        let inputs: &[&str] = if split { &["gate", "up"] } else { &["fused"] };
        let silent: &[&str] = if split { &["fused"] } else { &["gate", "up"] };
        for name in silent {
            assert_eq!(sums(&recording, name).counts, vec![0; experts], "{name}");
        }
        let x = &x;
        let choices: Vec<Vec<usize>> = logits.chunks(experts).map(|logits| best(logits, top_k)).collect();
        let chosen = |expert: usize| {
            choices
                .iter()
                .enumerate()
                .filter(move |(_, c)| c.contains(&expert))
                .map(|(row, _)| &x[row * hidden..][..hidden])
        };
        let mut all = 0;
        for expert in 0..experts {
            let (squares, count) = expected(hidden, chosen(expert));
            for name in inputs {
                let heard = sums(&recording, name);
                assert_eq!(
                    (heard.counts[expert], &heard.squares[expert * hidden..][..hidden]),
                    (count, &squares[..]),
                    "{name}"
                );
            }
            let activations: Vec<Vec<f32>> = chosen(expert).map(|x| activation(&stacks, expert, ffn, x)).collect();
            let (squares, _) = expected(ffn, activations.iter().map(Vec::as_slice));
            let heard = sums(&recording, "down");
            assert_eq!(heard.counts[expert], count, "down");
            for (got, want) in heard.squares[expert * ffn..][..ffn].iter().zip(squares) {
                // Sums of 40 products differ by some 1e-6 of their size.
                assert!((got - want).abs() <= 1e-4 * (want + 1.0), "down of expert {expert}: {got}, expected {want}");
            }
            all += count;
        }
        assert_eq!((all, sums(&recording, "down").counts[4]), ((rows * top_k) as u64, 0));
    }
}

/// The `k` largest.
fn best(logits: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(k);
    order
}

/// `gelu_tanh(gate x) * (up x)` of one expert.
fn activation(stacks: &[Vec<f32>; 2], expert: usize, ffn: usize, x: &[f32]) -> Vec<f32> {
    let product = |stack: &[f32], row: usize| -> f64 {
        let weights = &stack[(expert * ffn + row) * x.len()..][..x.len()];
        weights.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
    };
    let gelu = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
    (0..ffn).map(|row| (gelu(product(&stacks[0], row)) * product(&stacks[1], row)) as f32).collect()
}

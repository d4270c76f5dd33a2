//! What every tensor format has kernels of its own for: rows of a table, products, experts, the head.
//!
//! Bounds of exact products: inputs are of order 1, and a sum of n products in f32 differs by about sqrt(n) * eps * its
//! size; 2e-5 * sqrt(n) leaves room. Of products in integers: each of the n activations is off by at most 1/254 of the
//! largest of its 32, here about 1, uniformly, so a sum by 1/254 / sqrt(3) * sqrt(n / 3) on average; five times that.
//!
//! Of products in bf16: an activation is off by at most 1/512 of itself; five times what follows from that for a sum. Of
//! quantized weights the scale and the element are rounded as well: three roundings, sqrt(3) times as much, and still less than
//! with 8 bits. With minimums, the middle of a group is rounded besides its scale; but it and what codes add to it are together
//! at most as large as the largest element, so both count as one.

use super::device::*;
use crate::compare;
use dgemma::backend::cuda::Cuda;
use dgemma::backend::{Backend, ExpertLoad, ExpertWeights, HeadParams};
use dgemma::gguf::Tensor;
use dgemma::quant::{self, Format};
use std::sync::atomic::AtomicBool;

/// The formats of the backend.
const FORMATS: [&str; 14] =
    ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "MXFP4", "NVFP4"];

fn formats() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().map(|name| quant::by_name(name).unwrap())
}

/// Largest decoded value: bounds grow with it.
fn size(weight: &Tensor) -> f32 {
    let mut decoded = vec![0.0; weight.shape.iter().product()];
    (weight.format.decode)(&weight.data, &mut decoded);
    decoded.iter().fold(1.0f32, |m, x| m.max(x.abs()))
}

/// (way, bound of a sum of k products) of the ways in which weights of `format` are multiplied.
fn ways(format: &Format, k: usize) -> Vec<(Way, f32)> {
    let root = (k as f32).sqrt();
    let exact = (Way::Exact, 2e-5 * root);
    let bf16 = |roundings: f32| (Way::Bf16, 5.0 / 512.0 / 3.0 * roundings.sqrt() * root);
    let int8 = (Way::Int8, 5.0 / 254.0 / 3.0 * root);
    match format.name {
        "F32" => vec![exact],
        "F16" | "BF16" => vec![exact, bf16(1.0)],
        _ => vec![exact, bf16(3.0), int8],
    }
}

#[test]
fn matmul_and_embed_in_every_format() {
    if !available("matmul_and_embed_in_every_format") {
        return;
    }
    // Rows that no tile divides; one row of 32-blocks that ends half a tile.
    let shapes: &[(usize, usize, usize)] =
        if checked() { &[(20, 256, 9)] } else { &[(70, 256, 33), (1, 512, 1), (33, 768, 70)] };
    for format in formats() {
        let odd = (format.block == 32).then_some((40, 96, 11));
        let uneven = (format.block == 1).then_some((17, 33, 5));
        for (n, k, rows) in shapes.iter().copied().chain(odd).chain(uneven) {
            let mut r = Numbers(1);
            let (weight, x) = (r.tensor(format, &[k, n]), r.vec(rows * k));
            for (way, bound) in ways(format, k) {
                let cuda = &way.open();
                let what = format!("matmul {} {rows}x{n}x{k}, {way:?}", format.name);
                compare!(what, bound * size(&weight), cuda, |b| {
                    let mut out = b.buffer(rows * n, "test").unwrap();
                    b.matmul(&b.weight(weight.clone()).unwrap(), &upload(b, &x), rows, &mut out).unwrap();
                    download(b, &out, rows * n)
                });
            }
            let ids: Vec<u32> = (0..rows as u32).map(|i| (i * 31) % n as u32).collect();
            // Decoded to the same bits as on the CPU.
            compare!(format!("embed {}", format.name), 0.0, &open(true), |b| {
                let mut out = b.buffer(rows * k, "test").unwrap();
                b.embed(&b.weight(weight.clone()).unwrap(), &ids, 1.5, &mut out).unwrap();
                download(b, &out, rows * k)
            });
        }
    }
}

/// Activations that 8 bits hold are multiplied as exactly as in f32: with the minimums' sums in full, and with scales and
/// codes as they are.
#[test]
fn whole_numbers_are_multiplied_exactly() {
    if !available("whole_numbers_are_multiplied_exactly") {
        return;
    }
    let (n, rows) = if checked() { (20, 9) } else { (33, 70) };
    for format in formats().filter(|f| f.codes.is_some()) {
        let k = if format.block == 32 { 352 } else { 512 };
        let mut r = Numbers(3);
        let (weight, mut x) = (r.tensor(format, &[k, n]), r.vec(rows * k));
        x.iter_mut().for_each(|x| *x = (127.0 * *x).round().clamp(-127.0, 127.0));
        x.chunks_exact_mut(32).for_each(|group| group[0] = 127.0); // so that the scale is 1
        let bound = 127.0 * 2e-5 * (k as f32).sqrt() * size(&weight);
        compare!(format!("matmul {}, whole numbers", format.name), bound, &Way::Int8.open(), |b| {
            let mut out = b.buffer(rows * n, "test").unwrap();
            b.matmul(&b.weight(weight.clone()).unwrap(), &upload(b, &x), rows, &mut out).unwrap();
            download(b, &out, rows * n)
        });
    }
}

/// A row's result must not depend on which rows are computed with it.
#[test]
fn a_row_has_the_same_bits_in_every_tile() {
    if !available("a_row_has_the_same_bits_in_every_tile") {
        return;
    }
    let ways =
        [("Q4_K", Way::Int8), ("Q6_K", Way::Int8), ("Q4_K", Way::Bf16), ("BF16", Way::Bf16), ("Q8_0", Way::Exact)];
    for (name, way) in ways {
        // On four processors, all rows together take blocks of 128 of the weight's rows, and one row alone those of 64.
        let (n, k, rows) = if checked() { (24, 256, 20) } else { (200, 256, 70) };
        let mut r = Numbers(9);
        let (tensor, x) = (r.tensor(quant::by_name(name).unwrap(), &[k, n]), r.vec(rows * k));
        let cuda = way.open();
        let weight = cuda.weight(tensor).unwrap();
        let product = |x: &[f32]| {
            let rows = x.len() / k;
            let mut out = cuda.buffer(rows * n, "test").unwrap();
            cuda.matmul(&weight, &upload(&cuda, x), rows, &mut out).unwrap();
            download(&cuda, &out, rows * n)
        };
        let all = product(&x);
        assert_eq!(all, product(&x), "{name}: two runs");
        for row in [0, 7, 8, rows - 1] {
            assert_eq!(all[row * n..][..n], product(&x[row * k..][..k]), "{name}: row {row} alone");
        }
    }
}

/// How many rows each expert gets of the largest logits, the smaller id on a tie.
fn load_of(given: &Given) -> ExpertLoad {
    let mut rows = vec![0; given.experts];
    for logits in given.logits.chunks_exact(given.experts) {
        let mut ids: Vec<usize> = (0..given.experts).collect();
        ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a])); // stable
        ids[..given.top_k].iter().for_each(|&id| rows[id] += 1);
    }
    ExpertLoad { touched: rows.iter().filter(|n| **n > 0).count(), largest: rows.into_iter().max().unwrap() }
}

fn experts<B: Backend>(b: &B, given: &Given, split: bool) -> Vec<f32> {
    let Given { rows, experts, top_k, ffn, hidden, .. } = *given;
    let load = |t: &Tensor| b.weight(t.clone()).unwrap();
    let (fused, gate, up, down) = (load(&given.fused), load(&given.gate), load(&given.up), load(&given.down));
    let (gate, up) = if split { ((&gate, 0), (&up, 0)) } else { ((&fused, 0), (&fused, ffn)) };
    let weights = ExpertWeights { gate, up, down: &down, experts, ffn, hidden };
    let mut routes = b.routes(rows, top_k, ffn, hidden).unwrap();
    let mut out = b.buffer(rows * hidden, "test").unwrap();
    b.route(&upload(b, &given.logits), &upload(b, &given.scale), rows, experts, top_k, &mut routes).unwrap();
    if B::DEFERRED {
        assert_eq!(b.expert_load(&routes), load_of(given)); // the reference does not count
    }
    b.experts(weights, &upload(b, &given.x), rows, &mut routes, &mut out).unwrap();
    download(b, &out, rows * hidden)
}

struct Given {
    rows: usize,
    experts: usize,
    top_k: usize,
    ffn: usize,
    hidden: usize,
    logits: Vec<f32>,
    scale: Vec<f32>,
    x: Vec<f32>,
    fused: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

impl Given {
    fn new(
        format: &'static Format,
        (rows, experts, top_k, ffn, hidden): (usize, usize, usize, usize, usize),
        skew: f32,
    ) -> Self {
        let mut r = Numbers(5);
        let mut logits = r.vec(rows * experts);
        logits.chunks_exact_mut(experts).for_each(|row| row[1] += skew);
        Given {
            rows,
            experts,
            top_k,
            ffn,
            hidden,
            logits,
            scale: r.vec(experts),
            x: r.vec(rows * hidden),
            fused: r.tensor(format, &[hidden, 2 * ffn, experts]),
            gate: r.tensor(format, &[hidden, ffn, experts]),
            up: r.tensor(format, &[hidden, ffn, experts]),
            down: r.tensor(format, &[ffn, hidden, experts]),
        }
    }
}

#[test]
fn experts_in_every_format() {
    if !available("experts_in_every_format") {
        return;
    }
    for format in formats() {
        let width = format.block.max(32);
        let shape = (if checked() { 5 } else { 21 }, 4, 2, width, width);
        let given = Given::new(format, shape, 0.0);
        for (way, _) in ways(format, width) {
            // Outputs reach some hundreds where values are large, as in MXFP4. The bound is relative to them.
            let want = experts(&dgemma::backend::reference::Reference, &given, false);
            let largest = want.iter().fold(1.0f32, |m, x| m.max(x.abs()));
            let bound = if way == Way::Exact { 2e-5 } else { 0.03 } * largest;
            let cuda = &way.open();
            for split in [false, true] {
                compare!(format!("experts {}, {way:?}, split {split}", format.name), bound, cuda, |b| experts(
                    b, &given, split
                ));
            }
        }
    }
}

/// Experts that nobody chose, and one with more rows than a tile has; 512 columns, and three tiles of 16 rows of down.
#[test]
fn experts_under_skewed_routing() {
    if !available_unchecked("experts_under_skewed_routing") {
        return;
    }
    let all = [(1, 40, 1, 0.0), (150, 6, 1, 50.0), (100, 5, 5, 0.0), (3, 64, 33, 0.0)];
    let cases =
        [("Q8_0", false, (32, 64), &all[..]), ("F32", true, (32, 48), &all), ("Q4_K", false, (256, 512), &all[1..2])];
    for (name, exact, (ffn, hidden), routings) in cases {
        for &(rows, experts_n, top_k, skew) in routings {
            let given = Given::new(quant::by_name(name).unwrap(), (rows, experts_n, top_k, ffn, hidden), skew);
            let want = experts(&dgemma::backend::reference::Reference, &given, false);
            let largest = want.iter().fold(1.0f32, |m, x| m.max(x.abs()));
            let bound = if exact { 2e-5 } else { 0.03 } * largest;
            compare!(format!("experts {name} rows {rows} of {experts_n}"), bound, &open(exact), |b| experts(
                b, &given, false
            ));
        }
    }
}

#[test]
fn head_in_every_format() {
    if !available("head_in_every_format") {
        return;
    }
    for format in formats() {
        let (vocab, hidden, rows) = (if checked() { 70 } else { 203 }, format.block.max(32), 5);
        let mut r = Numbers(6);
        let (table, x) = (r.tensor(format, &[hidden, vocab]), r.vec(rows * hidden));
        let uniforms: Vec<f32> = (0..rows).map(|i| (i as f32 + 0.003) / rows as f32).collect();
        let params = HeadParams {
            temperature: 0.7,
            softcap: Some(30.0),
            bias: &[],
            uniforms: &uniforms,
            likely: &[],
            soft_scale: 8.0,
            cancel: &AtomicBool::new(false),
        };
        // Ids are compared exactly: a difference of one id is far above the bound.
        let bound = 2e-3 * size(&table);
        compare!(format!("head {}", format.name), bound, &open(true), |b| head(b, &table, None, &x, rows, &params));
        fast_head_is_consistent(&Way::Int8.open(), &table, &x, rows, &params);
        fast_head_is_consistent(&Way::Bf16.open(), &table, &x, rows, &params);
    }
}

/// With rounded products the head's own logits say what it must answer.
fn fast_head_is_consistent(cuda: &Cuda, table: &Tensor, x: &[f32], rows: usize, params: &HeadParams) {
    let (hidden, vocab, name) = (table.shape[0], table.shape[1], table.format.name);
    let weight = cuda.weight(table.clone()).unwrap();
    let mut logits = vec![0.0; rows * vocab];
    cuda.logits(&weight, &upload(cuda, x), rows, params.softcap, &mut logits).unwrap();
    let found = head(cuda, table, None, x, rows, params);
    for (row, l) in logits.chunks_exact(vocab).enumerate() {
        let best = (0..vocab).fold(0, |best, i| if l[i] > l[best] { i } else { best });
        let e: Vec<f64> = l.iter().map(|&one| f64::from((one - l[best]) / params.temperature).exp()).collect();
        let sum: f64 = e.iter().sum();
        assert_eq!(found[row] as usize, best, "{name}: argmax of row {row}");
        let log_prob = f64::from(found[3 * rows + row]);
        assert!((log_prob + sum.ln()).abs() < 1e-4, "{name}: log-probability of row {row}");
        // The drawn token holds the uniform number, but for rounding at its ends.
        let drawn = found[rows + row] as usize;
        let below: f64 = e[..drawn].iter().sum::<f64>() / sum;
        let (u, p) = (f64::from(params.uniforms[row]), e[drawn] / sum);
        assert!(u > below - 1e-4 && u < below + p + 1e-4, "{name}: row {row} drew {drawn}: {u} not in {below} + {p}");
    }
    assert_eq!(found.len(), rows * (4 + hidden));
}

#[test]
fn head_logits_and_soft_embedding() {
    if !available("head_logits_and_soft_embedding") {
        return;
    }
    let format = quant::by_name("Q8_0").unwrap();
    let all: &[_] = &[(1, 32, 2, 1.0), (63, 32, 5, 1.0), (1003, 64, 33, 0.1), (600, 96, 4, 8.0), (8500, 32, 3, 4.0)];
    for &(vocab, hidden, rows, sharpness) in if checked() { &all[1..2] } else { all } {
        let mut r = Numbers(6);
        let (table, other) = (r.tensor(format, &[hidden, vocab]), r.tensor(format, &[hidden, vocab]));
        let x: Vec<f32> = r.vec(rows * hidden).iter().map(|x| x * sharpness).collect();
        let uniforms: Vec<f32> = (0..rows).map(|i| (i as f32 + 0.003) / rows as f32).collect();
        let banned = (0..vocab as u32 * 5 / 8).map(|t| (t, f32::NEG_INFINITY));
        let bias: Vec<(u32, f32)> = banned.chain((vocab > 1).then_some((vocab as u32 - 1, 1.5))).collect();
        let cuda = &open(true);
        for (softcap, bias) in [(None, &bias[..]), (Some(30.0), &[]), (Some(30.0), &bias)] {
            let cancel = &AtomicBool::new(false);
            let params = HeadParams {
                temperature: 0.7,
                softcap,
                bias,
                uniforms: &uniforms,
                likely: &[],
                soft_scale: 8.0,
                cancel,
            };
            for other in [None, Some(&other)] {
                let what = format!("head of {vocab} tokens, cap {softcap:?}, {} biases", bias.len());
                compare!(what, 2e-3, cuda, |b| head(b, &table, other, &x, rows, &params));
            }
            compare!("logits", 1e-3, cuda, |b| {
                let mut out = vec![0.0; rows * vocab];
                b.logits(&b.weight(table.clone()).unwrap(), &upload(b, &x), rows, softcap, &mut out).unwrap();
                out
            });
            let wanted: Vec<(usize, u32)> = (0..rows * 3).map(|i| (i % rows, (i * 977 % vocab) as u32)).collect();
            compare!("log_probs", 2e-3, cuda, |b| {
                let (table, x) = (b.weight(table.clone()).unwrap(), upload(b, &x));
                let mut out = vec![0.0; wanted.len()];
                b.log_probs(&table, &x, rows, softcap, &wanted, cancel, &mut out).unwrap();
                out
            });
        }
        let given: Vec<f32> = r.vec(rows * vocab).iter().map(|x| x * 10.0).collect();
        compare!("soft_embedding", 1e-4, cuda, |b| {
            let mut out = b.buffer(rows * hidden, "test").unwrap();
            b.soft_embedding(&b.weight(table.clone()).unwrap(), &given, rows, 8.0, &mut out).unwrap();
            download(b, &out, rows * hidden)
        });
    }
}

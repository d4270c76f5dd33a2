//! Fused operations against the single ones of the same device: the same bits.

use super::device::*;
use dgemma::backend::cuda::Cuda;
use dgemma::backend::fused::{self, Heads, Norm};
use dgemma::backend::{Backend, ExpertWeights, KvType};
use dgemma::quant;

type Buffer = <Cuda as Backend>::Buffer;

fn assert_same_bits(what: &str, fused: &[f32], single: &[f32]) {
    assert!(single.iter().any(|x| *x != 0.0), "{what}: all zeros");
    for (i, (a, b)) in fused.iter().zip(single).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}: at {i} of {}: {a}, expected {b}", single.len());
    }
}

/// Weights that round their other operand in three ways, some alike, so that pairs share a grid, and rows that no record and no
/// block divides.
#[test]
fn norms_go_into_products() {
    if !available("norms_go_into_products") {
        return;
    }
    for (formats, k) in [
        (["Q4_K", "Q6_K", "F32"], 512),
        (["Q8_0", "BF16", "Q4_0"], 96),
        (["F16", "F32", "F32"], 33),
        (["Q5_0", "Q4_K", "Q4_K"], 256),
        (["BF16", "BF16", "BF16"], 33),
    ] {
        for way in [Way::Int8, Way::Bf16, Way::Exact] {
            let (rows, n) = (5, if formats[1] == formats[2] { 84 } else { 20 });
            let mut r = Numbers(12);
            let cuda = way.open();
            let weights = formats.map(|f| cuda.weight(r.tensor(quant::by_name(f).unwrap(), &[k, n])).unwrap());
            let (x, weight) = (upload(&cuda, &r.vec(rows * k)), upload(&cuda, &r.vec(k)));
            let run = |fuse: bool| {
                let mut normed = cuda.buffer(rows * k, "test").unwrap();
                let mut outs = weights.each_ref().map(|_| cuda.buffer(rows * n, "test").unwrap());
                let mut products: Vec<_> = weights.iter().zip(&mut outs).collect();
                let norm = Norm { x: &x, weight: &weight, rows, dim: k, eps: 1e-6 };
                if fuse {
                    cuda.rms_norm_matmuls(norm, &mut normed, &mut products).unwrap();
                } else {
                    fused::rms_norm_matmuls(&cuda, norm, &mut normed, &mut products).unwrap();
                }
                outs.map(|out| download(&cuda, &out, rows * n))
            };
            for ((fused, single), format) in run(true).iter().zip(&run(false)).zip(formats) {
                assert_same_bits(&format!("{format} x {k}, {way:?}"), fused, single);
            }
        }
    }
}

/// Weights that round their other operand in each of the three ways, and rows that no record and no block divides.
#[test]
fn gelu_goes_into_a_product() {
    if !available("gelu_goes_into_a_product") {
        return;
    }
    for (format, k, way) in [
        ("Q4_K", 512, Way::Int8),
        ("Q8_0", 96, Way::Bf16),
        ("BF16", 33, Way::Bf16),
        ("F32", 33, Way::Exact),
        ("Q4_0", 96, Way::Exact),
    ] {
        let (rows, n) = (5, 20);
        let mut r = Numbers(16);
        let cuda = way.open();
        let weight = cuda.weight(r.tensor(quant::by_name(format).unwrap(), &[k, n])).unwrap();
        let (given, up) = (r.vec(rows * k), upload(&cuda, &r.vec(rows * k)));
        let run = |fuse: bool| {
            let (mut gate, mut out) = (upload(&cuda, &given), cuda.buffer(rows * n, "test").unwrap());
            if fuse {
                cuda.gelu_mul_matmul((&mut gate, &up), &weight, rows, k, &mut out).unwrap();
            } else {
                fused::gelu_mul_matmul(&cuda, (&mut gate, &up), &weight, rows, k, &mut out).unwrap();
            }
            download(&cuda, &out, rows * n)
        };
        assert_same_bits(&format!("{format} x {k}, {way:?}"), &run(true), &run(false));
    }
}

/// Experts that round their input in each of the three ways.
#[test]
fn norms_go_into_experts() {
    if !available("norms_go_into_experts") {
        return;
    }
    let (rows, experts, top_k, ffn, hidden) = (5, 4, 2, 32, 96);
    for (format, exact) in [("Q8_0", false), ("BF16", false), ("F32", false), ("Q4_0", true)] {
        let mut r = Numbers(15);
        let (cuda, format) = (open(exact), quant::by_name(format).unwrap());
        let stack = cuda.weight(r.tensor(format, &[hidden, 2 * ffn, experts])).unwrap();
        let down = cuda.weight(r.tensor(format, &[ffn, hidden, experts])).unwrap();
        let weights = ExpertWeights { gate: (&stack, 0), up: (&stack, ffn), down: &down, experts, ffn, hidden };
        let (logits, scale) = (upload(&cuda, &r.vec(rows * experts)), upload(&cuda, &r.vec(experts)));
        let (x, weight) = (upload(&cuda, &r.vec(rows * hidden)), upload(&cuda, &r.vec(hidden)));
        let run = |fuse: bool| {
            let mut routes = cuda.routes(rows, top_k, ffn, hidden).unwrap();
            let [mut normed, mut out] = [0; 2].map(|_| cuda.buffer(rows * hidden, "test").unwrap());
            cuda.route(&logits, &scale, rows, experts, top_k, &mut routes).unwrap();
            let norm = Norm { x: &x, weight: &weight, rows, dim: hidden, eps: 1e-6 };
            if fuse {
                cuda.rms_norm_experts(norm, &mut normed, weights, &mut routes, &mut out).unwrap();
            } else {
                fused::rms_norm_experts(&cuda, norm, &mut normed, weights, &mut routes, &mut out).unwrap();
            }
            download(&cuda, &out, rows * hidden)
        };
        assert_same_bits(&format!("{}, exact {exact}", format.name), &run(true), &run(false));
    }
}

#[test]
fn heads_are_normed_rotated_and_rounded_at_once() {
    if !available("heads_are_normed_rotated_and_rounded_at_once") {
        return;
    }
    let (rows, kv_heads) = (5, 2);
    for (head_dim, heads) in [(512, 3), (24, 4), (256, 0)] {
        for (own_v, rounded) in [(true, (0, KvType::F16)), (false, (2, KvType::Bf16)), (true, (5, KvType::F16))] {
            let mut r = Numbers(13);
            let cuda = open(false);
            let (queries, keys) = (rows * heads.max(1) * head_dim, rows * kv_heads * head_dim);
            let (q, k, v) = (r.vec(queries), r.vec(keys), r.vec(keys));
            let norms = [upload(&cuda, &r.vec(head_dim)), upload(&cuda, &r.vec(head_dim))];
            let inv_freq = upload(&cuda, &r.vec(head_dim / 2));
            let run = |fuse: bool| {
                let h = Heads {
                    q_norm: &norms[0],
                    k_norm: &norms[1],
                    inv_freq: &inv_freq,
                    own_v,
                    rows,
                    start: 70_000,
                    heads,
                    kv_heads,
                    head_dim,
                    eps: 1e-6,
                    rounded,
                };
                let (mut q, mut k, mut v) = (upload(&cuda, &q), upload(&cuda, &k), upload(&cuda, &v));
                if fuse {
                    cuda.norm_heads(&h, &mut q, &mut k, &mut v).unwrap();
                } else {
                    fused::norm_heads(&cuda, &h, &mut q, &mut k, &mut v).unwrap();
                }
                [(q, queries), (k, keys), (v, keys)].map(|(x, n)| download(&cuda, &x, n))
            };
            for ((fused, single), name) in run(true).iter().zip(&run(false)).zip(["q", "k", "v"]) {
                assert_same_bits(&format!("{name}, {heads} x {head_dim}, {own_v}, {rounded:?}"), fused, single);
            }
        }
    }
}

#[test]
fn sub_layers_join_the_stream_with_a_factor_for_each_kind_of_rows() {
    if !available("sub_layers_join_the_stream_with_a_factor_for_each_kind_of_rows") {
        return;
    }
    let (first, rest, dim) = ((2, 0.5), (3, 0.7), 300);
    let mut r = Numbers(14);
    let cuda = open(false);
    let (x, weight, acc) = (r.vec(5 * dim), upload(&cuda, &r.vec(dim)), r.vec(5 * dim));
    for (first, rest) in [(first, rest), ((0, 9.0), (5, 0.3)), ((5, 1.1), (0, 9.0))] {
        let run = |join: &dyn Fn(&mut Buffer, &mut Buffer)| {
            let (mut x, mut acc) = (upload(&cuda, &x), upload(&cuda, &acc));
            join(&mut x, &mut acc);
            download(&cuda, &acc, 5 * dim)
        };
        let at_once = run(&|x, acc| cuda.rms_norm_add_scaled((x, &weight, dim, 1e-6), first, rest, acc).unwrap());
        let apart =
            run(&|x, acc| fused::rms_norm_add_scaled(&cuda, (x, &weight, dim, 1e-6), first, rest, acc).unwrap());
        assert_same_bits(&format!("{first:?}, {rest:?}"), &at_once, &apart);
    }
}

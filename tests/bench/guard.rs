//! One hot kernel, some times over, for `cargo xtask guard`, which counts its instructions:
//! `guard KERNEL LEVEL TIMES`; without arguments it lists the kernels. Sizes are small, since counting is slow.

mod inputs;

use dgemma::backend::cpu::Cpu;
use dgemma::backend::{
    AttentionShape, Backend, ExpertWeights, HeadParams, HeadStats, HeadWeights, KvLayer, KvType, Mask,
};
use dgemma::cpu_level::CpuLevel;
use dgemma::quant::by_name;
use inputs::{numbers, weight};
use std::sync::atomic::AtomicBool;

const KERNELS: [&str; 8] =
    ["dense-Q4_0", "dense-Q8_0", "dense-Q4_K", "dense-Q6_K", "dense-F32", "experts-Q4_0", "attention", "head-Q6_K"];

fn main() {
    // Cargo passes `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [kernel, level, times] = &args[..] else { return println!("{}", KERNELS.join("\n")) };
    let level = CpuLevel::available().into_iter().find(|l| l.name() == level).expect("a level of this processor");
    let cpu = Cpu::new(1, level).unwrap();
    let times: usize = times.parse().expect("TIMES is a number");
    match kernel.split_once('-') {
        Some(("dense", format)) => dense(&cpu, format, times),
        Some(("experts", format)) => experts(&cpu, format, times),
        Some(("head", format)) => head(&cpu, format, times),
        _ => attention(&cpu, times),
    }
}

/// 24 rows times `[128, 1024]`.
fn dense(cpu: &Cpu, format: &str, times: usize) {
    let (rows, n, k) = (24, 128, 1024);
    let w = weight(cpu, by_name(format).expect("a format"), &[k, n]);
    let (x, mut out) = (numbers(cpu, rows * k), numbers(cpu, rows * n));
    cpu.run(|| (0..times).for_each(|_| cpu.matmul(&w, &x, rows, &mut out).unwrap()));
}

/// 8 experts of width 128 with 8 rows each.
fn experts(cpu: &Cpu, format: &str, times: usize) {
    let (experts, ffn, hidden, rows, top_k) = (8, 128, 256, 32, 2);
    let format = by_name(format).expect("a format");
    let (up, down) = (weight(cpu, format, &[hidden, 2 * ffn, experts]), weight(cpu, format, &[ffn, hidden, experts]));
    let (x, mut out) = (numbers(cpu, rows * hidden), numbers(cpu, rows * hidden));
    let logits: Vec<f32> =
        (0..rows * experts).map(|i| ((i % experts + i / experts * top_k) % experts) as f32).collect();
    let mut routes = cpu.routes(rows, top_k, ffn, hidden).unwrap();
    let weights = ExpertWeights { gate: (&up, 0), up: (&up, ffn), down: &down, experts, ffn, hidden };
    cpu.run(|| {
        for _ in 0..times {
            cpu.route(&logits, &vec![1.0; experts], rows, experts, top_k, &mut routes).unwrap();
            cpu.experts(weights, &x, rows, &mut routes, &mut out).unwrap();
        }
    });
}

/// A canvas of 32 rows behind 96 positions, 4 heads over 2.
fn attention(cpu: &Cpu, times: usize) {
    let (rows, start, heads, kv_heads, head_dim) = (32, 96, 4, 2, 256);
    let empty = || cpu.kv_buffer(KvType::F32, kv_heads * start * head_dim, "cache").unwrap();
    let mut cache = KvLayer { k: empty(), v: empty(), capacity: start, kv_heads, head_dim, kind: KvType::F32 };
    let old = numbers(cpu, start * kv_heads * head_dim);
    cpu.kv_append(&old, &old, start, 0, &mut cache).unwrap();
    let (q, k) = (numbers(cpu, rows * heads * head_dim), numbers(cpu, rows * kv_heads * head_dim));
    let mut out = numbers(cpu, rows * heads * head_dim);
    let shape =
        AttentionShape { first_row: 0, rows, start, heads, kv_heads, head_dim, window: None, mask: Mask::Canvas };
    cpu.run(|| (0..times).for_each(|_| cpu.attention(&q, &k, &k, &cache, &shape, &mut out).unwrap()));
}

/// 16 rows against 1024 tokens.
fn head(cpu: &Cpu, format: &str, times: usize) {
    let (rows, vocab, hidden) = (16, 1024, 256);
    let table = weight(cpu, by_name(format).expect("a format"), &[hidden, vocab]);
    let (x, mut soft) = (numbers(cpu, rows * hidden), numbers(cpu, rows * hidden));
    let params = HeadParams {
        temperature: 0.7,
        softcap: Some(30.0),
        bias: &[],
        uniforms: &vec![0.5; rows],
        likely: &[],
        soft_scale: 16.0,
        cancel: &AtomicBool::new(false),
    };
    let weights = HeadWeights { table: &table, embedding: &table };
    let mut stats = HeadStats::default();
    cpu.run(|| (0..times).for_each(|_| cpu.head(weights, &x, rows, &params, &mut soft, &mut stats).unwrap()));
}

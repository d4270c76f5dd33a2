//! How fast the CPU backend multiplies: `cargo bench --bench product [NAME ...]`, NAME being a format, an instruction level,
//! a number of threads, `dense` or `experts`; those that are not named are all measured. Shapes are those of
//! the 26B model; the share is of the dot-product peak that is measured first, on as many threads: that of 8-bit integers, or
//! for 16-bit floats that of BF16 where the level has it. Elsewhere they are multiplied in f32 and have no share.
//!
//! GOPS count a multiplication and an addition as two.

mod inputs;

use dgemma::backend::cpu::{self, Cpu, peak_bf16_ops, peak_ops};
use dgemma::backend::{Backend, ExpertWeights};
use dgemma::cpu_level::CpuLevel;
use dgemma::quant::{self, Format};
use inputs::{numbers, weight};
use std::hint::black_box;
use std::time::Instant;

const HIDDEN: usize = 2816;

/// Runs of which the fastest counts.
const TIMES: usize = 20;

/// Rounds of dot products that measure a peak.
const ROUNDS: usize = 1 << 22;

fn main() {
    // Cargo passes `--bench`.
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str, all: &[&str]| {
        !all.iter().any(|name| named.contains(&name.to_string())) || named.contains(&name.to_owned())
    };
    let formats: Vec<&'static Format> =
        quant::FORMATS.iter().copied().filter(|format| format.codes.is_some() || format.pairs.is_some()).collect();
    let names: Vec<&str> = formats.iter().map(|format| format.name).collect();
    let levels: Vec<&str> = CpuLevel::available().iter().map(|level| level.name()).collect();
    println!("level,threads,format,product,rows,gops,share_of_peak");
    for level in CpuLevel::available().into_iter().skip(1).filter(|level| wanted(level.name(), &levels)) {
        for threads in [1, 2].into_iter().filter(|threads: &usize| wanted(&threads.to_string(), &["1", "2"])) {
            let int8 = peak(threads, peak_ops(level, ROUNDS), || _ = black_box(cpu::peak(level, ROUNDS)));
            println!("{},{threads},int8,peak,,{int8:.0},1.00", level.name());
            let bf16 = level
                .bf16()
                .map(|token| peak(threads, peak_bf16_ops(ROUNDS), || _ = black_box(cpu::peak_bf16(token, ROUNDS))));
            if let Some(bf16) = bf16 {
                println!("{},{threads},bf16,peak,,{bf16:.0},1.00", level.name());
            }
            for format in formats.iter().filter(|format| wanted(format.name, &names)) {
                let name = format.name;
                let cpu = Cpu::new(threads, level).unwrap();
                let peak = if format.codes.is_some() { Some(int8) } else { bf16 };
                let products = [("dense", 256), ("dense", 64), ("experts", 64)];
                for (what, rows) in products.into_iter().filter(|(what, _)| wanted(what, &["dense", "experts"])) {
                    let product = if what == "dense" { dense } else { experts };
                    let (rows, gops) = product(&cpu, format, rows);
                    let share = peak.map_or(String::new(), |peak| format!("{:.2}", gops / peak));
                    println!("{},{threads},{name},{what},{rows},{gops:.0},{share}", level.name());
                }
            }
        }
    }
}

/// A projection to 4096.
fn dense(cpu: &Cpu, format: &'static Format, rows: usize) -> (usize, f64) {
    let w = weight(cpu, format, &[HIDDEN, 4096]);
    let x = numbers(cpu, rows * HIDDEN);
    let mut out = cpu.buffer(rows * 4096, "out").unwrap();
    let seconds = best(TIMES, || cpu.run(|| cpu.matmul(&w, &x, rows, &mut out).unwrap()));
    (rows, 2.0 * (rows * HIDDEN * 4096) as f64 / seconds / 1e9)
}

/// 32 experts of width 704, each with a quarter of the rows.
fn experts(cpu: &Cpu, format: &'static Format, rows: usize) -> (usize, f64) {
    let (experts, ffn, top_k) = (32, 704, 8);
    let up = weight(cpu, format, &[HIDDEN, 2 * ffn, experts]);
    // 704 is no multiple of 256: such mixes have another format there.
    let fits = if format.block > 64 { quant::by_name("Q5_0").expect("Q5_0") } else { format };
    let down = weight(cpu, fits, &[ffn, HIDDEN, experts]);
    let x = numbers(cpu, rows * HIDDEN);
    let mut out = cpu.buffer(rows * HIDDEN, "out").unwrap();
    let mut routes = cpu.routes(rows, top_k, ffn, HIDDEN).unwrap();
    let logits: Vec<f32> =
        (0..rows * experts).map(|i| ((i % experts + i / experts * top_k) % experts) as f32).collect();
    cpu.route(&logits, &vec![1.0; experts], rows, experts, top_k, &mut routes).unwrap();
    let weights = ExpertWeights { gate: (&up, 0), up: (&up, ffn), down: &down, experts, ffn, hidden: HIDDEN };
    let seconds = best(TIMES, || cpu.run(|| cpu.experts(weights, &x, rows, &mut routes, &mut out).unwrap()));
    (rows * top_k / experts, 2.0 * (rows * top_k * 3 * ffn * HIDDEN) as f64 / seconds / 1e9)
}

/// Seconds of the fastest run: the others were disturbed.
fn best(times: usize, mut run: impl FnMut()) -> f64 {
    (0..times)
        .map(|_| {
            let clock = Instant::now();
            run();
            clock.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// GOPS of dot products on registers alone, of which `run` does `ops`.
fn peak(threads: usize, ops: f64, run: impl Fn() + Sync) -> f64 {
    let seconds = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| best(TIMES, &run))).collect();
        all.into_iter().map(|t| t.join().unwrap()).fold(0.0, f64::max)
    });
    threads as f64 * ops / seconds / 1e9
}

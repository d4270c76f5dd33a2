//! The head at the real model's size, 256 rows x 262,144 tokens x 2,816, allocates less than 64 MB for a step: it never
//! holds all logits (268 MB). The table itself, 415 MB in Q4_0 and 606 MB in Q6_K, stands for the mapped file and is not
//! counted.

use dgemma::backend::cpu::Cpu;
use dgemma::backend::{Backend, HeadParams, HeadStats, HeadWeights};
use dgemma::cpu_level::CpuLevel;
use dgemma::gguf::{Bytes, Tensor};
use dgemma::model::process_cpu_time;
use dgemma::quant;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn grow(by: usize) {
    PEAK.fetch_max(LIVE.fetch_add(by, Relaxed) + by, Relaxed);
}

// SAFETY: every call goes to the system allocator unchanged; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMIT: usize = 64_000_000;

#[test]
fn one_step_of_the_real_size_stays_under_64_mb() {
    one_step("Q4_0", 0x2400, 0); // d = 2^-6
    one_step("Q6_K", 0x0080, 208); // d = 2^-17 under scales of up to 127
}

/// With `d`, an F16 number, at byte `at` of every block.
fn one_step(format: &str, d: u16, at: usize) {
    let (rows, vocab, hidden) = (256, 262_144, 2816);
    let format = quant::by_name(format).unwrap();
    // Codes from a counter: valid, and different from row to row.
    let mut data = vec![0u8; vocab * hidden / format.block * format.block_bytes];
    for (i, block) in data.chunks_exact_mut(format.block_bytes).enumerate() {
        block.iter_mut().enumerate().for_each(|(j, b)| *b = (i.wrapping_mul(2654435761) >> (j % 24)) as u8);
        block[at..at + 2].copy_from_slice(&d.to_le_bytes());
    }
    let len = data.len();
    let table =
        Tensor { name: "t".into(), shape: vec![hidden, vocab], format, data: Bytes::new(Arc::new(data), 0, len) };
    let cpu = Cpu::new(2, CpuLevel::best()).unwrap();
    let table = cpu.weight(table).unwrap();
    let mut x = cpu.buffer(rows * hidden, "test").unwrap();
    let values: Vec<f32> = (0..rows * hidden).map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0).collect();
    cpu.write(&values, &mut x, 0).unwrap();
    let mut soft = cpu.buffer(rows * hidden, "test").unwrap();
    let uniforms = vec![0.5; rows];
    let params = HeadParams {
        temperature: 0.8,
        softcap: Some(30.0),
        bias: &[],
        uniforms: &uniforms,
        soft_scale: 53.0,
        cancel: &AtomicBool::new(false),
    };
    let mut stats = HeadStats::default();
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let clock = process_cpu_time(); // time on the clock means nothing on a busy machine
    cpu.run(|| cpu.head(HeadWeights { table: &table, embedding: &table }, &x, rows, &params, &mut soft, &mut stats))
        .unwrap();
    let extra = PEAK.load(Relaxed) - before;
    let seconds = (process_cpu_time() - clock).as_secs_f64();
    let name = table.format().name;
    eprintln!("{name}: extra memory {:.1} MB (limit 64 MB), {seconds:.2} s of processor time", extra as f64 / 1e6);
    assert!(extra < LIMIT, "{extra} bytes, expected less than {LIMIT}");
    assert!(stats.argmax.iter().chain(&stats.sampled).all(|&t| (t as usize) < vocab));
    assert!(stats.entropy.iter().all(|h| (0.0..12.5).contains(h))); // ln 262144 = 12.48
}

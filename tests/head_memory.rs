//! The head at the real model's size, 256 rows x 262,144 tokens x 2,816, allocates less than 24 MB for a step: it never
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

const LIMIT: usize = 24_000_000;

const ROWS: usize = 256;
const VOCAB: usize = 262_144;
const HIDDEN: usize = 2816;

#[test]
fn one_step_of_the_real_size_stays_under_24_mb() {
    let cpu = Cpu::new(2, CpuLevel::best()).unwrap();
    let x: Vec<f32> = (0..ROWS * HIDDEN).map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0).collect();
    let q4_0 = table(&cpu, "Q4_0", 0x2400, 0); // d = 2^-6
    assert_eq!(step(&cpu, &q4_0, &x, &[], "flat rows"), (ROWS * VOCAB) as u64);
    step(&cpu, &table(&cpu, "Q6_K", 0x0080, 208), &x, &[], "flat rows"); // d = 2^-17 under scales of up to 127

    // A row that has settled points along one token's embedding, so that all others together have less than 1e-6.
    let token = |row: usize| (row * 1021 + 17) as u32;
    let mut x = x;
    for settled in [ROWS / 2, ROWS] {
        for (row, x) in x.chunks_mut(HIDDEN).enumerate().take(settled) {
            q4_0.decode(token(row) as usize, 0, x);
            let length: f32 = x.iter().map(|x| x * x).sum();
            x.iter_mut().for_each(|x| *x *= 90.0 / length);
        }
        let likely: Vec<u32> = (0..ROWS).map(token).collect();
        let open = ((ROWS - settled) * VOCAB) as u64;
        let name = format!("{settled} of {ROWS} rows settled");
        let without = step(&cpu, &q4_0, &x, &[], &format!("{name}, no tokens known as likely"));
        let with = step(&cpu, &q4_0, &x, &likely, &name);
        assert!((open..open + 20 * ROWS as u64).contains(&with), "{with} terms, expected {open} and a few");
        assert!(without >= with, "likely tokens cost {with} instead of {without} terms");
    }
}

/// A table with `d`, an F16 number, at byte `at` of every block.
fn table(cpu: &Cpu, format: &str, d: u16, at: usize) -> <Cpu as Backend>::Weight {
    let format = quant::by_name(format).unwrap();
    // Codes from a hash: valid, and different from row to row.
    let mut data = vec![0u8; VOCAB * HIDDEN / format.block * format.block_bytes];
    for (i, word) in data.chunks_mut(8).enumerate() {
        let hash = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word.copy_from_slice(&(hash ^ hash >> 32).to_le_bytes()[..word.len()]);
    }
    data.chunks_exact_mut(format.block_bytes).for_each(|block| block[at..at + 2].copy_from_slice(&d.to_le_bytes()));
    let len = data.len();
    let data = Bytes::new(Arc::new(data), 0, len);
    cpu.weight(Tensor { name: "t".into(), shape: vec![HIDDEN, VOCAB], format, data }).unwrap()
}

/// One step of the head; how many terms its soft embedding took.
fn step(cpu: &Cpu, table: &<Cpu as Backend>::Weight, x: &[f32], likely: &[u32], what: &str) -> u64 {
    let x = x.to_vec();
    let mut soft = cpu.buffer(ROWS * HIDDEN, "test").unwrap();
    let params = HeadParams {
        temperature: 0.8,
        softcap: Some(30.0),
        bias: &[],
        uniforms: &[0.5; ROWS],
        likely,
        soft_scale: 53.0,
        cancel: &AtomicBool::new(false),
    };
    let mut stats = HeadStats::default();
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let clock = process_cpu_time(); // time on the clock means nothing on a busy machine
    cpu.run(|| cpu.head(HeadWeights { table, embedding: table }, &x, ROWS, &params, &mut soft, &mut stats)).unwrap();
    let extra = PEAK.load(Relaxed) - before;
    let seconds = (process_cpu_time() - clock).as_secs_f64();
    let (name, terms) = (table.format().name, stats.soft_terms);
    eprintln!(
        "{name}, {what}: {terms} terms, extra memory {:.1} MB (limit 24 MB), {seconds:.2} s of processor time",
        extra as f64 / 1e6
    );
    assert!(extra < LIMIT, "{extra} bytes, expected less than {LIMIT}");
    assert!(stats.argmax.iter().chain(&stats.sampled).all(|&t| (t as usize) < VOCAB));
    assert!(stats.entropy.iter().all(|h| (0.0..12.5).contains(h))); // ln 262144 = 12.48
    terms
}

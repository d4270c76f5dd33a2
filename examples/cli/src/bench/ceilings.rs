//! What this machine can do at most: dot products on registers, and reading memory. Measured in the run that is compared
//! with it, on one thread and on all of them at once.

use dgemma::backend::cpu;
use dgemma::cpu_level::CpuLevel;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Independent sums: more than the latency of a multiply-add times how many start per cycle.
const SUMS: usize = 12;
/// Bytes that a thread reads: far more than any cache.
const READ_BYTES: usize = 256 << 20;
/// Runs of each measurement; the best one counts, since the others were disturbed.
const RUNS: usize = 9;

/// One ceiling, in G per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ceiling {
    /// One thread.
    pub one: f64,
    /// All threads at once.
    pub all: f64,
    /// All threads at once, by the processor time that they got: what [`Ceiling::all`] would be with nobody else around.
    pub all_by_cpu_time: f64,
}

impl Ceiling {
    fn max(self, other: Ceiling) -> Ceiling {
        Ceiling {
            one: self.one.max(other.one),
            all: self.all.max(other.all),
            all_by_cpu_time: self.all_by_cpu_time.max(other.all_by_cpu_time),
        }
    }
}

/// All ceilings of a level. Multiplications and additions count as one each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ceilings {
    /// 8-bit dot products, GOPS.
    pub int8: Ceiling,
    /// bf16 dot products, GFLOP/s; none where the level or the processor lacks them.
    pub bf16: Option<Ceiling>,
    /// f32 multiply-adds, GFLOP/s.
    pub f32: Ceiling,
    /// Reading memory, GB/s.
    pub read: Ceiling,
}

impl Ceilings {
    /// Measures them with `threads` threads.
    pub fn measure(level: CpuLevel, threads: usize) -> Ceilings {
        let buffers: Vec<Vec<u64>> = (0..threads).map(|i| vec![i as u64 + 1; READ_BYTES / 8]).collect();
        let of = |ops: f64, f: &(dyn Fn(usize) + Sync)| ceiling(threads, ops, f);
        const ROUNDS: usize = 1 << 21;
        let vector = match level {
            CpuLevel::Avx512(_) | CpuLevel::Avx512Vnni(_) => 16,
            CpuLevel::Avx2(_) => 8,
            CpuLevel::Scalar => 4,
        };
        Ceilings {
            int8: of(cpu::peak_ops(level, ROUNDS), &|_| {
                black_box(cpu::peak(level, ROUNDS));
            }),
            bf16: level.bf16().map(|token| {
                of(cpu::peak_bf16_ops(ROUNDS), &|_| {
                    black_box(cpu::peak_bf16(token, ROUNDS));
                })
            }),
            f32: of((2 * vector * SUMS * ROUNDS) as f64, &|_| {
                black_box(f32_sums(level, ROUNDS));
            }),
            read: of(READ_BYTES as f64, &|thread| {
                black_box(black_box(&buffers[thread]).iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
            }),
        }
    }

    /// The larger of two measurements, number by number.
    pub fn max(self, other: Ceilings) -> Ceilings {
        Ceilings {
            int8: self.int8.max(other.int8),
            bf16: self.bf16.zip(other.bf16).map(|(a, b)| a.max(b)),
            f32: self.f32.max(other.f32),
            read: self.read.max(other.read),
        }
    }
}

/// `f(thread)` does `ops` operations.
fn ceiling(threads: usize, ops: f64, f: &(dyn Fn(usize) + Sync)) -> Ceiling {
    let best = |of: fn(&(f64, f64)) -> f64, runs: Vec<(f64, f64)>| runs.iter().map(of).fold(0.0, f64::max) * ops / 1e9;
    let all = rates(threads, f);
    let by_cpu = best(|r| r.1, all.clone());
    let all = best(|r| r.0, all);
    Ceiling { one: if threads == 1 { all } else { best(|r| r.0, rates(1, f)) }, all, all_by_cpu_time: by_cpu }
}

/// Calls per second of `threads` threads together, by wall time and by processor time; one entry per run.
fn rates(threads: usize, f: &(dyn Fn(usize) + Sync)) -> Vec<(f64, f64)> {
    let barrier = Barrier::new(threads);
    let one = |thread: usize| {
        let run = |_| {
            barrier.wait();
            let (clock, cpu) = (Instant::now(), thread_cpu_time());
            f(thread);
            let wall = clock.elapsed().as_secs_f64();
            (1.0 / wall, 1.0 / (thread_cpu_time() - cpu).as_secs_f64().clamp(wall * 0.01, wall))
        };
        (0..RUNS).map(run).collect::<Vec<_>>()
    };
    let all: Vec<Vec<(f64, f64)>> = std::thread::scope(|scope| {
        let one = &one;
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        started.into_iter().map(|t| t.join().unwrap_or_default()).collect()
    });
    (0..RUNS).map(|run| all.iter().filter_map(|t| t.get(run)).fold((0.0, 0.0), |s, r| (s.0 + r.0, s.1 + r.1))).collect()
}

#[cfg(unix)]
fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(unix))]
fn thread_cpu_time() -> Duration {
    Duration::ZERO
}

fn f32_sums(level: CpuLevel, rounds: usize) -> f32 {
    match level {
        // SAFETY: the token.
        #[cfg(target_arch = "x86_64")]
        CpuLevel::Avx512(_) | CpuLevel::Avx512Vnni(_) => unsafe { x86::f32_sums_512(rounds) },
        // SAFETY: the token.
        #[cfg(target_arch = "x86_64")]
        CpuLevel::Avx2(_) => unsafe { x86::f32_sums_256(rounds) },
        _ => {
            let (x, y) = (black_box(1.0f32), black_box(1e-9f32));
            let mut sums = [[0.0f32; 4]; SUMS];
            for _ in 0..rounds {
                sums.iter_mut().flatten().for_each(|sum| *sum = *sum * x + y);
            }
            sums.iter().flatten().sum()
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    #[target_feature(enable = "avx512f")]
    pub fn f32_sums_512(rounds: usize) -> f32 {
        let (x, y) = (_mm512_set1_ps(black_box(1e-3)), _mm512_set1_ps(black_box(2e-3)));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(x, y, *sum);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn f32_sums_256(rounds: usize) -> f32 {
        let (x, y) = (_mm256_set1_ps(black_box(1e-3)), _mm256_set1_ps(black_box(2e-3)));
        let mut sums = [_mm256_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(x, y, *sum);
            }
        }
        let mut lanes = [0.0; 8];
        let all = sums.into_iter().fold(_mm256_setzero_ps(), |a, b| _mm256_add_ps(a, b));
        // SAFETY: eight lanes.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), all) };
        lanes.iter().sum()
    }
}

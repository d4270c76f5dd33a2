//! Launchers of `peak.cu`: what a device can do at most. `dgemma bench` measures it in the run that is compared with it.
//!
//! Every measurement is made longer until the clock of the host, read after the device has come to its end, resolves it.

use super::driver::{Memory, Pinned};
use super::{Cuda, arguments, grid};
use crate::error::Result;
use std::time::{Duration, Instant};

/// What a device reached.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ceilings {
    /// 8-bit tensor-core products by `mma.sync`, G operations per second; a multiplication and an addition are two.
    pub int8_gops: f64,
    /// bf16 tensor-core products by `mma.sync`.
    pub bf16_gflops: f64,
    /// Reading device memory, GB per second.
    pub read_gbs: f64,
    /// Copying within device memory, bytes read and bytes written together.
    pub copy_gbs: f64,
    /// Copying from page-locked host memory to the device.
    pub upload_gbs: f64,
}

/// Threads of a block, and blocks per processor: 16 warps, four for each of its four schedulers.
const THREADS: usize = 256;
const BLOCKS: usize = 2;
/// Blocks per processor of the kernels that move bytes: all that fit.
const MOVING_BLOCKS: usize = 8;
/// Operations of one round of `peak_int8` in a block: eight tiles of 16 x 8 x 32 in each warp.
const INT8_OPS: f64 = (THREADS / 32 * 8 * 2 * 16 * 8 * 32) as f64;
/// Buffers: larger than any cache, if the device is fast enough for it to matter.
const MOST_BYTES: usize = 1 << 30;
const LEAST_BYTES: usize = 1 << 20;
const UPLOAD_BYTES: usize = 32 << 20;
/// A measurement that takes this long is long enough; the best of `RUNS` counts.
const LONG: Duration = Duration::from_millis(10);
const RUNS: usize = 5;

impl Ceilings {
    /// The larger of two measurements, number by number.
    pub fn max(self, other: Ceilings) -> Ceilings {
        Ceilings {
            int8_gops: self.int8_gops.max(other.int8_gops),
            bf16_gflops: self.bf16_gflops.max(other.bf16_gflops),
            read_gbs: self.read_gbs.max(other.read_gbs),
            copy_gbs: self.copy_gbs.max(other.copy_gbs),
            upload_gbs: self.upload_gbs.max(other.upload_gbs),
        }
    }
}

impl Cuda {
    /// Measures this device. Takes up to 2 GiB of its memory, at most half of what is free, and well under a second.
    pub fn ceilings(&self) -> Result<Ceilings> {
        let (int8_gops, bf16_gflops) = products(self)?;
        let (read_gbs, copy_gbs) = bytes(self)?;
        Ok(Ceilings { int8_gops, bf16_gflops, read_gbs, copy_gbs, upload_gbs: upload(self)? })
    }
}

/// 1 in each of four bytes, and in each of two bf16 numbers.
const ONES: [(&str, u32); 2] = [("peak_int8", 0x0101_0101), ("peak_bf16", 0x3f80_3f80)];

fn products(cuda: &Cuda) -> Result<(f64, f64)> {
    let blocks = BLOCKS * cuda.info().processors;
    let out = Memory::new(&cuda.device, blocks * THREADS * 4, "ceilings")?;
    let rate = |i: usize| per_second(cuda, i32::MAX as usize, |rounds| product(cuda, ONES[i], blocks, rounds, &out));
    let ops = INT8_OPS * blocks as f64 / 1e9;
    Ok((rate(0)? * ops, rate(1)? * ops / 2.0))
}

fn product(cuda: &Cuda, (entry, ones): (&'static str, u32), blocks: usize, rounds: usize, out: &Memory) -> Result<()> {
    let grid = grid::per_row("peak", blocks, THREADS as u32, 0)?;
    let rounds = grid::int(rounds, "rounds")?;
    // SAFETY: (rounds, a, b, out), with a number for each thread in out.
    unsafe { cuda.launch("peak", None, entry, grid, arguments![rounds, ones, ones, out.address(0)]) }
}

fn bytes(cuda: &Cuda) -> Result<(f64, f64)> {
    let most = MOST_BYTES.min(cuda.device.memory()?.0 / 4);
    let blocks = MOVING_BLOCKS * cuda.info().processors;
    let out = Memory::new(&cuda.device, blocks * THREADS * 4, "ceilings")?;
    let mut size = LEAST_BYTES;
    loop {
        let from = Memory::zeroed(&cuda.device, size, "ceilings")?;
        let to = Memory::zeroed(&cuda.device, size, "ceilings")?;
        let copied = timed(cuda, || copy(cuda, &from, &to, blocks))?;
        if copied < LONG / 5 && size * 2 <= most {
            size *= 2; // with larger buffers
            continue;
        }
        let times = |n: usize, once: &dyn Fn() -> Result<()>| (0..n).try_for_each(|_| once());
        let read = per_second(cuda, 1 << 20, |n| times(n, &|| read(cuda, &from, &out, blocks)))?;
        let copied = per_second(cuda, 1 << 20, |n| times(n, &|| copy(cuda, &from, &to, blocks)))?;
        let gigabytes = size as f64 / 1e9;
        return Ok((read * gigabytes, 2.0 * copied * gigabytes));
    }
}

fn copy(cuda: &Cuda, from: &Memory, to: &Memory, blocks: usize) -> Result<()> {
    move_bytes(cuda, "peak_copy", from, to, blocks)
}

fn read(cuda: &Cuda, from: &Memory, out: &Memory, blocks: usize) -> Result<()> {
    move_bytes(cuda, "peak_read", from, out, blocks)
}

fn move_bytes(cuda: &Cuda, entry: &'static str, from: &Memory, to: &Memory, blocks: usize) -> Result<()> {
    let grid = grid::per_row("peak", blocks, THREADS as u32, 0)?;
    // SAFETY: (from, to, n), with n chunks of 16 bytes in from, and as many in to or a number for each thread.
    unsafe {
        cuda.launch("peak", None, entry, grid, arguments![from.address(0), to.address(0), (from.bytes() / 16) as i64])
    }
}

fn upload(cuda: &Cuda) -> Result<f64> {
    let (mut from, mut to) =
        (Pinned::new(&cuda.device, UPLOAD_BYTES)?, Memory::new(&cuda.device, UPLOAD_BYTES, "ceilings")?);
    let rate = per_second(cuda, 1 << 20, |n| (0..n).try_for_each(|_| to.write_pinned(&mut from, UPLOAD_BYTES, 0)))?;
    Ok(rate * UPLOAD_BYTES as f64 / 1e9)
}

/// How many per second of what `f(n)` asks for n of.
fn per_second(cuda: &Cuda, most: usize, mut f: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let mut n = 1;
    while timed(cuda, || f(n))? < LONG && n * 2 <= most {
        n *= 2;
    }
    let runs = (0..RUNS).map(|_| timed(cuda, || f(n))).collect::<Result<Vec<_>>>()?;
    let best = runs.into_iter().min().unwrap_or(LONG);
    Ok(n as f64 / best.as_secs_f64().max(1e-9))
}

/// From here until the device is done with what `f` asks for.
fn timed(cuda: &Cuda, f: impl FnOnce() -> Result<()>) -> Result<Duration> {
    cuda.device.synchronize()?;
    let clock = Instant::now();
    f()?;
    cuda.device.synchronize()?;
    Ok(clock.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernels do what the ceilings count, and every ceiling is a number.
    #[test]
    fn ceilings_count_what_is_done() {
        if super::super::devices().is_empty() {
            assert!(std::env::var_os("DGEMMA_REQUIRE_CUDA").is_none_or(|v| v != "1"), "a CUDA device is required");
            eprintln!("skipped: ceilings_count_what_is_done: no CUDA device");
            return;
        }
        let cuda = Cuda::new(0, 1).unwrap();
        let out = Memory::zeroed(&cuda.device, 3 * THREADS * 4, "test").unwrap();
        // 32 sums per thread, each of 32 or 16 products of ones in each of five rounds.
        for (ones, want) in ONES.into_iter().zip([32.0 * 32.0 * 5.0, 32.0 * 16.0 * 5.0]) {
            product(&cuda, ones, 3, 5, &out).unwrap();
            let mut sums = vec![0.0f32; 3 * THREADS];
            out.read(0, &mut sums).unwrap();
            assert!(sums.iter().all(|&sum| sum == want), "{}: {}, expected {want}", ones.0, sums[0]);
        }
        let (chunks, blocks) = (5003, 2); // no multiple of anything
        let numbers: Vec<u32> = (0..chunks * 4).map(|i| (i as u32).wrapping_mul(2_654_435_761)).collect();
        let mut from = Memory::zeroed(&cuda.device, chunks * 16, "test").unwrap();
        let to = Memory::zeroed(&cuda.device, chunks * 16, "test").unwrap();
        from.write(&numbers, 0).unwrap();
        copy(&cuda, &from, &to, blocks).unwrap();
        let mut copied = vec![0u32; chunks * 4];
        to.read(0, &mut copied).unwrap();
        assert!(copied == numbers);
        read(&cuda, &from, &out, blocks).unwrap();
        let mut seen = vec![0u32; blocks * THREADS];
        out.read(0, &mut seen).unwrap();
        let xor = |all: &[u32]| all.iter().fold(0, |a, b| a ^ b);
        assert_eq!(xor(&seen), xor(&numbers));
        let c = cuda.ceilings().unwrap();
        println!("{}: {c:?}", cuda.info().name);
        assert!([c.int8_gops, c.bf16_gflops, c.read_gbs, c.copy_gbs, c.upload_gbs].iter().all(|x| *x > 0.0), "{c:?}");
    }
}

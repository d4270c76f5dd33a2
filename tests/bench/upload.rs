//! How fast weights go from a mapped file, in memory already, to a buffer for the device, by threads: what the host does of an
//! upload. `cargo bench --bench upload [-- FILE]`; without FILE, a file of 1 GiB is made for it. Needs no GPU: the buffer is not
//! page-locked, which a copy does not notice.

use dgemma::pages;
use memmap2::Mmap;
use rayon::ThreadPoolBuilder;
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

// The copy is the backend's own; this is its file.
#[path = "../../src/backend/cuda/host_copy.rs"]
mod host_copy;

/// Bytes of a buffer, and how many there are, as in `src/backend/cuda/upload.rs`.
const PART: usize = 16 << 20;
const PARTS: usize = 3;
const MADE: usize = 1 << 30;

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let made = std::env::temp_dir().join(format!("dgemma-bench-upload-{}", std::process::id()));
    let file = given.map_or_else(|| made_file(&made), PathBuf::from);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = (0..).map(|i| 1 << i).take_while(|&n| n < cores).chain([cores]);
    for threads in threads {
        // A mapping of its own each time, as a load has: no page of it is known to this process yet.
        let rates = (0..5).map(|_| gb_per_second(&file, threads));
        let best = rates.fold(0.0, f64::max);
        println!("{threads:>3} threads: {best:.1} GB/s, {:.1} per thread", best / threads as f64);
    }
    let _ = std::fs::remove_file(&made);
}

fn made_file(path: &Path) -> PathBuf {
    let part: Vec<u8> = (0..PART).map(|i| ((i * 7919) >> 3) as u8).collect();
    let mut file = File::create(path).expect("a place for temporary files");
    (0..MADE / PART).for_each(|_| file.write_all(&part).expect("room for 1 GiB"));
    path.to_owned()
}

/// One way through the file, buffer by buffer.
fn gb_per_second(path: &Path, threads: usize) -> f64 {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let file = File::open(path).expect("the file");
    // SAFETY: nobody changes the file meanwhile.
    let mapped = unsafe { Mmap::map(&file) }.expect("a mapping");
    let mut buffers = vec![vec![1u8; PART]; PARTS];
    let clock = Instant::now();
    for (i, part) in mapped.chunks(PART).enumerate() {
        let buffer = &mut buffers[i % PARTS][..part.len()];
        host_copy::copy(&pool, part, buffer);
        black_box(buffer);
        // SAFETY: a part of the mapping.
        unsafe { pages::release(part) };
    }
    mapped.len() as f64 / clock.elapsed().as_secs_f64() / 1e9
}

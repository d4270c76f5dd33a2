//! How fast each format decodes and encodes, on one core: `cargo bench --bench decode [NAME ...]`.
//! GB/s count F32 bytes, on the decoded side, whatever the format.

use dgemma::quant::{FORMATS, Format};
use std::hint::black_box;
use std::time::Instant;

/// Elements of one tile: its F32 side stays in the L1 cache, as in a backend that decodes a few rows at a time.
const TILE: usize = 4096;
/// Elements of the tensor that the tiles are cut from: its blocks stay in the L2 cache.
const TENSOR: usize = 64 * TILE;

fn main() {
    // Cargo passes `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!("format,decode_gb_per_s,encode_gb_per_s");
    for format in FORMATS {
        if wanted.is_empty() || wanted.iter().any(|name| name.eq_ignore_ascii_case(format.name)) {
            println!("{},{:.2},{:.2}", format.name, decode_speed(format), encode_speed(format));
        }
    }
}

fn decode_speed(format: &Format) -> f64 {
    // 0x11 in a scale is a small positive F16.
    let src = vec![0x11; TENSOR / format.block * format.block_bytes];
    let mut dst = vec![0.0; TILE];
    best(|| {
        for tile in src.chunks(TILE / format.block * format.block_bytes) {
            (format.decode)(black_box(tile), black_box(&mut dst));
        }
    })
}

fn encode_speed(format: &Format) -> f64 {
    let src: Vec<f32> = (0..TENSOR).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    let mut dst = vec![0; TILE / format.block * format.block_bytes];
    best(|| {
        for tile in src.chunks(TILE) {
            (format.encode)(black_box(tile), None, black_box(&mut dst));
        }
    })
}

/// GB/s of the fastest of many passes over a tensor: the others were disturbed.
fn best(mut pass: impl FnMut()) -> f64 {
    let seconds = (0..200).map(|_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64()
    });
    (TENSOR * 4) as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e9
}

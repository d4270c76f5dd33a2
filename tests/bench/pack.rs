//! How fast one core lays weights out for a GPU, in bytes of the file: `cargo bench --bench pack`. Needs no GPU.

use dgemma::quant;
use std::hint::black_box;
use std::time::Instant;

// The layout is the backend's own; this is its file.
#[allow(dead_code, missing_docs, unused_imports)]
#[path = "../../src/backend/cuda/pack.rs"]
mod pack;

/// Columns: the hidden size of the 26B model.
const COLS: usize = 2816;

fn main() {
    for layout in &pack::LAYOUTS {
        let format = quant::FORMATS.iter().find(|f| pack::layout(f) == Some(layout)).expect("a format of this library");
        let row_bytes = format.row_bytes(COLS).expect("whole blocks");
        let rows: Vec<u8> = (0..pack::TILE_ROWS * row_bytes).map(|i| ((i * 7919) >> 3) as u8).collect();
        let mut to = vec![0; layout.bytes(COLS, pack::TILE_ROWS, 1).expect("a few kilobytes")];
        let fastest = (0..20)
            .map(|_| {
                seconds(20, || {
                    to.fill(0);
                    layout.pack(format, &rows, row_bytes, COLS, &mut to);
                    black_box(&to);
                })
            })
            .fold(f64::INFINITY, f64::min);
        println!("{:>7}: {:.2} GB/s", layout.name, rows.len() as f64 / fastest / 1e9);
    }
}

/// Of one call, on average.
fn seconds(calls: u32, mut call: impl FnMut()) -> f64 {
    let clock = Instant::now();
    (0..calls).for_each(|_| call());
    clock.elapsed().as_secs_f64() / f64::from(calls)
}

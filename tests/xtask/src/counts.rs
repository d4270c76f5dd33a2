//! `cargo xtask cuda counts [ARCHITECTURE]`: what the hot loops of products and experts cost, read from the compiled kernels
//! and compared with `tests/cuda/counts.csv` (architecture 90a; others are only shown). `counts write` writes that anew.
//!
//! The disassembly (`sass.rs`) gives the instructions that a warp issues per pass of its innermost loop around the
//! tensor-core instructions, at 16 rows of activations for experts and at a full tile for products. From them a *model* of
//! a step on an H200, never a measurement: latencies, caches, launches, attention and what runs before and after the loops
//! are not in it. A step takes at least as long as the longest of
//!
//! - the weights' bytes over the bandwidth;
//! - issue slots: warp instructions over four per clock and processor;
//! - the slots of each kind over the rate of its pipe, tensor-core instructions included.

use crate::sass::{self, Class, Pass};
use crate::tools::{Outcome, root};
use crate::units::FORMATS;
use std::collections::BTreeMap;
use std::path::Path;

const TABLE: &str = "tests/cuda/counts.csv";
/// The architecture whose counts are committed.
pub const COMMITTED: &str = "90a";
/// More than that is a regression.
const TOLERANCE: f64 = 1.03;

/// A kernel to look at: its file, the operand, what its entry's name has besides, weight tiles of 16 x 64 that a warp
/// multiplies together, and rows of activations.
struct Kernel {
    file: &'static str,
    operand: &'static str,
    besides: &'static str,
    tiles: u64,
    rows: u64,
}

impl Kernel {
    const fn new(file: &'static str, operand: &'static str, tiles: u64, rows: u64) -> Self {
        Kernel { file, operand, besides: "", tiles, rows }
    }

    fn entry(&self, format: &str) -> String {
        format!("{}_{}{}_{format}", self.file, self.operand, self.besides)
    }

    /// Tiles between two ends of the loop over rows: all, but for 8-bit products with a scale per 16 columns.
    fn tiles_per_exit(&self, format: &str) -> u64 {
        if self.operand == "int8" && matches!(format, "q6_k" | "nvfp4") { 1 } else { self.tiles }
    }

    /// Tiles of a pass: the loop of 8-bit products goes over four of each row of tiles (`UNROLL` in `cuda/tile.cuh`).
    fn tiles_per_pass(&self) -> u64 {
        if self.operand == "int8" { 4 * self.tiles } else { self.tiles }
    }

    fn takes(&self, format: &str) -> bool {
        match format {
            "f32" => false, // always exact, which is not counted
            _ => self.operand == experts_operand(format) || !half(format) && self.file == "matmul",
        }
    }
}

fn half(format: &str) -> bool {
    matches!(format, "f16" | "bf16")
}

/// The operand of experts; products of quantized formats have either, by the device (`src/backend/cuda/weight.rs`).
fn experts_operand(format: &str) -> &'static str {
    if half(format) { "bf16" } else { "int8" }
}

/// Rows of activations of a block (`cuda/operand.cuh`).
const FULL_TILE: u64 = 64;
/// A step's rows: 256 x 8 routes over 128 experts are 16 each; products have 256, in tiles of 64.
const KERNELS: [Kernel; 8] = [
    Kernel::new("experts_gate_up", "int8", 2, 16),
    Kernel::new("experts_gate_up", "bf16", 2, 16),
    Kernel::new("experts_down", "int8", 2, 16),
    Kernel::new("experts_down", "bf16", 2, 16),
    Kernel::new("matmul", "int8", 1, FULL_TILE),
    Kernel::new("matmul", "bf16", 1, FULL_TILE),
    Kernel { besides: "_wide", ..Kernel::new("matmul", "bf16", 2, FULL_TILE) },
    Kernel { besides: "_pair", ..Kernel::new("matmul", "bf16", 2, FULL_TILE) },
];

/// Bytes of a tile of 1,024 weights on the device, scales included (`src/backend/cuda/pack.rs`).
fn tile_bytes(format: &str) -> f64 {
    match format {
        "f16" | "bf16" => 2048.0,
        "q8_0" => 1088.0,
        "q6_k" => 848.0,
        "q5_1" => 768.0,
        "q5_k" => 720.0,
        "q5_0" => 704.0,
        "q4_1" => 640.0,
        "q4_k" => 592.0,
        "mxfp4" => 544.0,
        _ => 576.0, // q4_0, iq4_nl, nvfp4
    }
}

/// Counts of an entry: rows, weights per pass, and slots by class.
type Counts = BTreeMap<String, (u64, u64, Pass)>;

/// Counts, prints and compares; `fatbins`: the folder of the compiled kernels.
pub fn counts(cuobjdump: &Path, fatbins: &Path, architecture: &str, write: bool) -> Outcome {
    let found = count_all(cuobjdump, fatbins, architecture)?;
    print(&found, architecture);
    if architecture != COMMITTED {
        return Ok(());
    }
    if write {
        return std::fs::write(root().join(TABLE), text(&found)).map_err(|e| format!("{TABLE}: {e}"));
    }
    let committed = std::fs::read_to_string(root().join(TABLE)).map_err(|e| format!("{TABLE}: {e}"))?;
    compare(&found, &parse(&committed)?)
}

fn count_all(cuobjdump: &Path, fatbins: &Path, architecture: &str) -> Result<Counts, String> {
    let mut found = Counts::new();
    for kernel in &KERNELS {
        for format in FORMATS {
            if !kernel.takes(format) {
                continue;
            }
            let entry = kernel.entry(format);
            let file = fatbins.join(format!("{}.{format}.fatbin", kernel.file));
            let function = sass::function(cuobjdump, &file, architecture, &entry)?;
            let tile_products = 16 * 64 * kernel.rows;
            let exit = match kernel.rows {
                FULL_TILE => u64::MAX,
                _ => tile_products * kernel.tiles_per_exit(format),
            };
            let pass = sass::hot_pass(&function, tile_products * kernel.tiles_per_pass(), exit);
            let pass = pass.map_err(|e| format!("{entry}: {e}"))?;
            found.insert(entry, (kernel.rows, kernel.tiles_per_pass() * 16 * 64, pass));
        }
    }
    Ok(found)
}

fn text(counts: &Counts) -> String {
    let names = Class::ALL.map(|class| class.name()).join(",");
    let line = |(entry, (rows, weights, pass)): (&String, &(u64, u64, Pass))| {
        let slots = Class::ALL.map(|class| pass.slots[class as usize].to_string()).join(",");
        format!("{entry},{rows},{weights},{slots}\n")
    };
    format!("entry,rows,weights,{names}\n{}", counts.iter().map(line).collect::<String>())
}

/// Of each entry (weights, slots) as committed.
fn parse(text: &str) -> Result<BTreeMap<&str, (u64, u64)>, String> {
    let mut committed = BTreeMap::new();
    for line in text.lines().skip(1) {
        let (name, numbers) = line.split_once(',').ok_or_else(|| format!("{TABLE}: {line:?} is no entry"))?;
        let numbers: Result<Vec<u64>, _> = numbers.split(',').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([_, weights, slots @ ..]) if slots.len() == Class::ALL.len() => {
                committed.insert(name, (*weights, slots.iter().sum()))
            }
            _ => return Err(format!("{TABLE}: {line:?} is no entry")),
        };
    }
    Ok(committed)
}

fn compare(found: &Counts, committed: &BTreeMap<&str, (u64, u64)>) -> Outcome {
    let mut worse = Vec::new();
    for (entry, &(weights, was)) in committed {
        let Some((_, now_weights, pass)) = found.get(*entry) else {
            worse.push(format!("{entry} is gone"));
            continue;
        };
        let (was, is) = (was as f64 / weights as f64, pass.total() as f64 / *now_weights as f64);
        if is > was * TOLERANCE {
            worse.push(format!("{entry} takes {is:.4} slots per weight instead of {was:.4}"));
        } else if is < was * (2.0 - TOLERANCE) {
            println!("{entry}: {was:.4} -> {is:.4} slots per weight: `cargo xtask cuda counts write` notes it down");
        }
    }
    worse
        .extend(found.keys().filter(|e| !committed.contains_key(e.as_str())).map(|e| format!("{e} is not in {TABLE}")));
    if worse.is_empty() {
        println!("{} hot loops cost what is committed, or less", found.len());
        return Ok(());
    }
    Err(format!("{}; `cargo xtask cuda counts write` writes {TABLE} anew if that is meant to be", worse.join("; ")))
}

/// An H200, and what a step of the 26B shapes multiplies.
mod model {
    /// Bytes per second: 4.8e12 by the data sheet, about 4.3e12 measured with a copy by others.
    pub const BANDWIDTH: f64 = 4.3e12;
    /// Processors times clock: 132, and the clock at which the data sheet's 989 TFLOP/s of bf16 are 132 x 4,096 per clock.
    pub const CLOCKS: f64 = 132.0 * 1.83e9;
    /// Weights of 30 layers: 2,816 wide, 128 experts of 704 (gate and up; down), attention and dense feed-forward, head.
    pub const EXPERTS_GATE_UP: f64 = 30.0 * 128.0 * 2.0 * 704.0 * 2816.0;
    pub const EXPERTS_DOWN: f64 = 30.0 * 128.0 * 704.0 * 2816.0;
    pub const PRODUCTS: f64 = 1.66e9 + 0.74e9;
    /// Of those, in two matrices at once (src/backend/cuda/product.rs): keys and values of 25 sliding layers, gate and up of the
    /// dense feed-forward. Keys of full layers, too small for blocks of 128 rows, are 0.6 % and are counted as if they were not.
    pub const PAIRS: f64 = 2816.0 * (25.0 * 2.0 * 2048.0 + 31.0 * 2.0 * 2112.0);
    /// Rows of a canvas.
    pub const CANVAS: f64 = 256.0;
}

/// Seconds that the loops of `weights` weights take at least: of (bytes, issue slots, busiest pipe).
fn seconds(counts: &Counts, entry: &str, format: &str, weights: f64, repeats: f64) -> Option<[f64; 3]> {
    let (_, per_pass, pass) = counts.get(entry)?;
    let passes = repeats * weights / *per_pass as f64;
    let pipe = pass.pipe_clocks().into_iter().fold(0.0, f64::max);
    Some([
        weights / 1024.0 * tile_bytes(format) / model::BANDWIDTH,
        passes * pass.total() as f64 / 4.0 / model::CLOCKS,
        passes * pipe / model::CLOCKS,
    ])
}

fn print(counts: &Counts, architecture: &str) {
    println!("sm_{architecture}, warp instructions per 1,000 weights of a pass of the hot loop, by class:");
    println!("{:<30} {:>4} {:>6} {}", "entry", "rows", "all", Class::ALL.map(|c| format!("{:>8}", c.name())).join(""));
    for (entry, (rows, weights, pass)) in counts {
        let per = |slots: u64| 1000.0 * slots as f64 / *weights as f64;
        let slots = Class::ALL.map(|class| format!("{:>8.1}", per(pass.slots[class as usize])));
        println!("{entry:<30} {rows:>4} {:>6.1} {}", per(pass.total()), slots.join(""));
    }
    println!("\nA model of a step on an H200 (counts.rs says what is in it), a whole model in one format, ms:");
    println!("{:<13} {:>26} {:>26} {:>26} {:>26}", "", "gate and up", "down", "products of 256 rows", "of two at once");
    let columns = " bytes   issue    pipe";
    println!("{:<13} {columns:>26} {columns:>26} {columns:>26} {columns:>26} {:>7}", "format", "step");
    for format in FORMATS {
        for operand in ["int8", "bf16"] {
            let of = |kernel: &str, operand: &str, weights: f64, repeats: f64| {
                seconds(counts, &format!("{kernel}_{operand}_{format}"), format, weights, repeats)
            };
            let experts = experts_operand(format);
            let repeats = model::CANVAS / FULL_TILE as f64;
            let (pairs, wide, pair) =
                if operand == "bf16" { (model::PAIRS, "bf16_wide", "bf16_pair") } else { (0.0, "int8", "int8") };
            let parts = [
                of("experts_gate_up", experts, model::EXPERTS_GATE_UP, 1.0),
                of("experts_down", experts, model::EXPERTS_DOWN, 1.0),
                of("matmul", wide, model::PRODUCTS - pairs, repeats),
                of("matmul", pair, pairs, repeats),
            ];
            let [Some(gate_up), Some(down), Some(wide), Some(pairs)] = parts else { continue };
            let part = |p: &[f64; 3]| p.map(|s| format!("{:>8.2}", 1e3 * s)).join("");
            let all = [part(&gate_up), part(&down), part(&wide), part(&pairs)].join("   ");
            let step: f64 = [gate_up, down, wide, pairs].iter().map(|p| p.iter().fold(0.0f64, |a, &b| a.max(b))).sum();
            println!("{format:<8} {operand}   {all} {:>7.2}", 1e3 * step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(entry: &str, slots: u64) -> Counts {
        let mut pass = Pass::default();
        pass.slots[Class::Integer as usize] = slots;
        [(entry.to_owned(), (16, 1024, pass))].into()
    }

    #[test]
    fn more_slots_and_missing_entries_are_found() {
        let table = text(&one("a", 1000));
        let committed = parse(&table).unwrap();
        assert_eq!(compare(&one("a", 1030), &committed), Ok(()));
        assert_eq!(compare(&one("a", 10), &committed), Ok(()));
        assert!(
            compare(&one("a", 1031), &committed).unwrap_err().contains("1.0068 slots per weight instead of 0.9766")
        );
        let error = compare(&one("b", 1000), &committed).unwrap_err();
        assert!(error.contains("a is gone; b is not in"), "{error}");
        assert!(parse("entry\na,1,2").is_err());
    }

    /// 1,024 weights of 592 bytes, 400 slots, of which the integer pipe takes half a clock each.
    #[test]
    fn the_model_divides_by_the_rates() {
        let [bytes, issue, pipe] = seconds(&one("a", 400), "a", "q4_k", 1024.0, 2.0).unwrap();
        assert_eq!(bytes, 592.0 / model::BANDWIDTH);
        assert_eq!(issue, 2.0 * 100.0 / model::CLOCKS);
        assert_eq!(pipe, 2.0 * 200.0 / model::CLOCKS);
    }
}

//! How fast checkpoints are converted, and in how much memory:
//!
//! ```text
//! cargo bench --bench convert -- [MIX ...] [--rounds N] [--record MACHINE]
//! cargo bench --bench convert -- --whole [--record MACHINE]
//! ```
//!
//! The input is made first: two layers of the 26B model (one with sliding-window attention, one with full) and a smaller
//! vocabulary, so that layers have the weight that they have in all of it; BF16, in one file. It is in the page cache. A
//! plain copy of that file, synced like the conversions' outputs are, is the yardstick. Each program runs in a process of
//! its own: processor time and peak memory, mapped files included, are what the system says of that.
//!
//! `--whole` takes the 26B model: converted to Q4_K_M from files with holes, zeros that take no time to encode and no room
//! on the disk, in one shard and in many, and made up by `synth`. It needs 17 GB of disk and some minutes, and tells memory,
//! and the time of `synth`. `--record` also writes `tests/bench/record/MACHINE/DATE-convert.csv` (`-convert-whole.csv`).

#[path = "../../quantize/tests/made_up/mod.rs"]
mod made_up;

use dgemma_quantize::shapes;
use made_up::Fill;
use made_up::process::{Usage, measured};
use std::path::{Path, PathBuf};
use std::process::Command;

const MIXES: [&str; 4] = ["Q8_0", "Q4_0", "Q6_K", "Q4_K_M"];
/// Set for the process that makes the input: a directory, and the number of shards with holes in them; 0 for the small input.
const MAKE: [&str; 2] = ["DGEMMA_BENCH_MAKE", "DGEMMA_BENCH_SHARDS"];
const VOCAB: u32 = 16384;
const HEADING: &str = "program,input_mb,seconds,input_mb_per_s,share_of_copy,processor_s,peak_mb";

fn main() {
    if let [Some(directory), Some(shards)] = MAKE.map(std::env::var_os) {
        return make(Path::new(&directory), shards.to_str().unwrap().parse().unwrap());
    }
    // Cargo passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned();
    let mixes: Vec<&str> = arguments.iter().map(String::as_str).take_while(|a| !a.starts_with("--")).collect();
    println!("{HEADING}");
    let (rows, name) = match arguments.iter().any(|a| a == "--whole") {
        true => (whole(), "convert-whole"),
        false => {
            let rounds = option("--rounds").map_or(1, |n| n.parse().expect("a number of rounds"));
            (measure(if mixes.is_empty() { &MIXES } else { &mixes }, rounds), "convert")
        }
    };
    if let Some(machine) = option("--record") {
        record(&machine, name, &rows);
    }
}

fn make(directory: &Path, shards: usize) {
    let mut config = shapes::named(if shards == 0 { "26b-layers=2" } else { "26b" }).unwrap();
    if shards == 0 {
        config.vocab = VOCAB;
        made_up::write(directory, &config, 1, Fill::Random);
    } else {
        made_up::write(directory, &config, shards, Fill::Holes);
    }
}

/// Has the input made by another process: a child begins with the peak of its parent, which should stay small.
fn make_elsewhere(directory: &Path, shards: usize) {
    std::fs::create_dir_all(directory).unwrap();
    let mut maker = Command::new(std::env::current_exe().unwrap());
    maker.env(MAKE[0], directory).env(MAKE[1], shards.to_string());
    assert!(maker.status().unwrap().success());
}

/// Rows for the 26B model.
fn whole() -> Vec<String> {
    let mut rows = Vec::new();
    for shards in [1, 11] {
        let scratch = Scratch::new();
        let (input, out) = (scratch.0.join("checkpoint"), scratch.0.join("out"));
        make_elsewhere(&input, shards);
        let files = std::fs::read_dir(&input).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
        let what = format!("26b from {shards} shards: Q4_K_M");
        rows.push(row(&what, files.sum(), measured(&mut program("Q4_K_M", &input, &input, &out)), None));
    }
    let scratch = Scratch::new();
    let mut synth = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    synth.arg("synth").arg(scratch.0.join("out")).args(["--shape", "26b", "--type", "Q4_K_M"]);
    rows.push(row("synth 26b Q4_K_M", 0, measured(&mut synth), None));
    rows
}

/// A row of the table, which is also printed. `copy`: seconds of a plain copy.
fn row(what: &str, bytes: u64, usage: Usage, copy: Option<f64>) -> String {
    let Usage { seconds, processor_seconds, peak_bytes } = usage;
    let (mb, peak) = (bytes as f64 / 1e6, peak_bytes as f64 / 1e6);
    let share = copy.map_or(String::new(), |copy| format!("{:.2}", copy / seconds));
    let row = format!("{what},{mb:.0},{seconds:.2},{:.0},{share},{processor_seconds:.2},{peak:.0}", mb / seconds);
    println!("{row}");
    row
}

/// A table in CSV, a row for each program, of its fastest round.
fn measure(mixes: &[&str], rounds: usize) -> Vec<String> {
    let scratch = Scratch::new();
    let (input, out) = (scratch.0.join("checkpoint"), scratch.0.join("out"));
    make_elsewhere(&input, 0);
    let weights = input.join("model.safetensors");
    let bytes = std::fs::metadata(&weights).unwrap().len();
    let mut rows = Vec::new();
    let mut copy_seconds = None;
    for what in std::iter::once(&"copy").chain(mixes) {
        let usage = (0..rounds).map(|_| {
            let _ = std::fs::remove_file(&out);
            measured(&mut program(what, &input, &weights, &out))
        });
        let usage = usage.min_by(|a, b| a.seconds.total_cmp(&b.seconds)).expect("at least one round");
        let copy = *copy_seconds.get_or_insert(usage.seconds);
        rows.push(row(what, bytes, usage, Some(copy)));
    }
    rows
}

/// The program that is measured.
fn program(what: &str, input: &Path, weights: &Path, out: &Path) -> Command {
    if what == "copy" {
        let mut copy = Command::new("dd");
        copy.arg(format!("if={}", weights.display())).arg(format!("of={}", out.display()));
        copy.args(["bs=2M", "conv=fsync", "status=none"]);
        return copy;
    }
    let mut convert = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    convert.arg("convert").args([input, out]).args(["--type", what]);
    convert
}

/// Keeps the table as a file of its day.
fn record(machine: &str, name: &str, rows: &[String]) {
    let date = Command::new("date").arg("+%F").output().expect("date");
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bench/record").join(machine);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{date}-{name}.csv"));
    std::fs::write(&path, format!("{HEADING}\n{}\n", rows.join("\n"))).unwrap();
    eprintln!("recorded in {}", path.display());
}

/// A directory in the build's, or in `DGEMMA_BENCH_DIR`; removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let parent = std::env::var_os("DGEMMA_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
        let path = parent.join(format!("bench-convert-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! A conversion needs little memory, whatever the size of its input, of its shards, or of its tensors: they are read, encoded
//! and written in pieces. The inputs are holes, zeros that are not on the disk.
//!
//! The 26B model itself was measured the same way (tests/bench/SPEED.md); its vocabulary comes on top of what is seen here.

#![cfg(target_os = "linux")]

mod made_up;

use dgemma::gguf::writer::Header;
use dgemma_quantize::config::Config;
use dgemma_quantize::convert::{Options, Prepared};
use dgemma_quantize::{shapes, synth};
use made_up::Fill;
use made_up::process::measured;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program itself and, with some 5 MB for each, its two threads.
const MOST: u64 = 60_000_000;

/// A directory of this test alone, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("memory-{name}"));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One layer of the 26B model with a quarter of its experts and a small vocabulary.
fn one_layer() -> Config {
    let mut config = shapes::named("26b-layers=1").unwrap();
    (config.vocab, config.experts) = (2048, 32);
    config
}

/// The same as a GGUF file.
fn gguf_with_holes(path: &Path) -> u64 {
    let Prepared { keys, steps } = synth::prepare(&one_layer(), 0, &Options::of_type("BF16").unwrap()).unwrap();
    let plans: Vec<_> = steps.into_iter().map(|step| step.plan).collect();
    let header = Header::new(path, &keys, &plans).unwrap();
    std::fs::write(path, &header.bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_len(header.file_bytes).unwrap();
    header.file_bytes
}

/// Converts `input` and compares the peak with its size.
fn check(what: &str, input: &Path, bytes: u64, out: &Path, mix: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    let usage = measured(command.arg("convert").args([input, out]).args(["--threads", "2", "--type", mix]));
    let peak = usage.peak_bytes;
    println!("{what} of {} MB to {mix}: {usage:?}", bytes / 1_000_000);
    assert!(peak < MOST && peak * 5 < bytes, "{what}: {peak} bytes of memory for {bytes} of input");
}

#[test]
fn memory_does_not_grow_with_the_input() {
    for shards in [1, 13] {
        let scratch = Scratch::new(&format!("{shards}"));
        let bytes = made_up::write(&scratch.0, &one_layer(), shards, Fill::Holes);
        check(&format!("{shards} shards"), &scratch.0, bytes, &scratch.0.join("out.gguf"), "Q4_0");
    }
    let scratch = Scratch::new("gguf");
    let input = scratch.0.join("bf16.gguf");
    let bytes = gguf_with_holes(&input);
    // To another format, and copied.
    for mix in ["Q4_0", "BF16"] {
        check("a GGUF file", &input, bytes, &scratch.0.join("out.gguf"), mix);
    }
}

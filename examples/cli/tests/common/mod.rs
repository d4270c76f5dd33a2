//! Runs the program as a user would.
#![allow(dead_code)] // each test file uses its part

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run left behind.
pub struct Run {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// `tests/golden/<name>`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// A small model with random weights: canvas 16, and it says nothing sensible.
pub fn micro() -> String {
    golden("peer/micro-f32.gguf").display().to_string()
}

/// A path for what a test writes, below cargo's folder for such files.
pub fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The program.
pub fn dgemma() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dgemma"))
}

/// Runs it with `input` on standard input.
pub fn run_with(arguments: &[&str], input: &str) -> Run {
    let mut command = dgemma();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Run { status: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs it with nothing on standard input.
pub fn run(arguments: &[&str]) -> Run {
    run_with(arguments, "")
}

/// Runs it and expects success.
pub fn good(arguments: &[&str]) -> Run {
    let run = run(arguments);
    assert_eq!(run.status, Some(0), "{arguments:?}: {}", run.err);
    run
}

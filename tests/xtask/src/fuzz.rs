//! `cargo xtask fuzz [TARGET] [SECONDS]`: libFuzzer, with address sanitizer and debug assertions, on one of the targets of
//! tests/fuzz or on all of them, one after the other.
//!
//! What it finds beside failures stays under `target/fuzz/corpus`, where the next run goes on from. cargo-fuzz wants an
//! unstable flag of the compiler for the sanitizer; the pinned toolchain takes it with RUSTC_BOOTSTRAP.

use crate::tools::{Outcome, need, root, run};
use std::path::PathBuf;
use std::process::Command;

const CARGO_FUZZ: &str = "0.13.2";
/// Seconds for each target.
const SECONDS: u32 = 60;
const USAGE: &str = "usage: cargo xtask fuzz [TARGET] [SECONDS]";

/// Runs what the arguments say.
pub fn command(arguments: impl Iterator<Item = String>) -> Outcome {
    let (mut target, mut seconds) = (None, SECONDS);
    for argument in arguments {
        match argument.parse() {
            Ok(n) => seconds = n,
            Err(_) if target.is_none() => target = Some(argument),
            Err(_) => return Err(USAGE.into()),
        }
    }
    need("c++", &["g++"])?;
    let tool = tool()?;
    let known = targets(&tool)?;
    let chosen = match target {
        None => known,
        Some(name) if known.contains(&name) => vec![name],
        Some(name) => return Err(format!("no target is called {name}: {}", known.join(", "))),
    };
    let mut seeds = Command::new("cargo");
    seeds.args(["test", "--release", "--locked", "--test", "fuzz", "seeds"]);
    run(seeds.env("DGEMMA_FUZZ_SEEDS", root().join("target/fuzz/seeds")))?;
    chosen.iter().try_for_each(|target| search(&tool, target, seconds))
}

fn search(tool: &PathBuf, target: &str, seconds: u32) -> Outcome {
    let folder = |name: &str| root().join(name).join(target);
    let found = folder("target/fuzz/corpus");
    std::fs::create_dir_all(&found).map_err(|e| format!("{}: {e}", found.display()))?;
    let mut command = fuzz(tool, "run");
    command.args(["--debug-assertions", "--target-dir", "target/fuzz"]).arg(target);
    command.args([found, folder("tests/fuzz/corpus"), folder("target/fuzz/seeds")]);
    // Of an input in seconds and of the process in megabytes, both with the sanitizer.
    command.args(["--", "-timeout=20", "-rss_limit_mb=4096", "-max_len=65536", "-print_final_stats=1"]);
    run(command.arg(format!("-max_total_time={seconds}")))
}

fn fuzz(tool: &PathBuf, what: &str) -> Command {
    let mut command = Command::new(tool);
    command.args(["fuzz", what, "--fuzz-dir", "tests/fuzz"]).env("RUSTC_BOOTSTRAP", "1").current_dir(root());
    command
}

fn targets(tool: &PathBuf) -> Result<Vec<String>, String> {
    let listed = fuzz(tool, "list").output().map_err(|e| format!("{}: {e}", tool.display()))?;
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
}

/// cargo-fuzz, installed under `target/` where it is missing.
fn tool() -> Result<PathBuf, String> {
    let (folder, name) = (root().join("target/cargo-fuzz"), "cargo-fuzz");
    let program = folder.join("bin").join(name);
    if !program.is_file() {
        let mut install = Command::new("cargo");
        install.args(["install", "--locked", "--version", CARGO_FUZZ, name, "--root"]).arg(folder);
        run(&mut install)?;
    }
    Ok(program)
}

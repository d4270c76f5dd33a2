//! Project chores. `cargo xtask ci` runs every check; `go`, `node` and `installed` are the steps of it for the bindings and
//! the installed library; `install --prefix DIR` installs. `header` writes `include/dgemma.h` anew, `abi` the lists that
//! guard it (`tests/abi`). `guard` counts instructions of the hot kernels and compares them with `tests/bench/guard.csv`,
//! `guard-write` writes that anew.
//! `cuda` compiles the CUDA kernels and counts what their loops cost, `cuda-host` tests them without a GPU, `on-gpu` the script for machines with one.
//! `fuzz` searches for inputs that readers cannot stand (`tests/fuzz`).
//!
//! Needs a Rust toolchain, a C compiler and Python 3 (with its venv module); what else the checks need it installs, Python
//! packages under `target/`, programs with the system's packages.

mod ci;
mod counts;
mod cuda;
mod fuzz;
mod go;
mod guard;
mod install;
mod installed;
mod node;
mod on_gpu;
mod python;
mod sass;
mod standin;
mod tools;
#[path = "../../../src/backend/cuda/units.rs"]
mod units;

use std::process::{Command, ExitCode};
use tools::{Outcome, run};

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let outcome = match task.as_str() {
        "ci" => ci::ci(),
        "go" => go::package_and_examples(),
        "node" => node::package_and_examples(),
        "install" => install::command(std::env::args().skip(2)),
        "installed" => installed::programs_outside(),
        "header" => write_anew("header", "DGEMMA_WRITE_HEADER"),
        "abi" => write_anew("abi", "DGEMMA_WRITE_ABI"),
        "guard" => guard::guard(false),
        "guard-write" => guard::guard(true),
        "cuda" => match std::env::args().nth(2).as_deref() {
            None => cuda::all(cuda::Resources::Compare),
            Some("write") => cuda::all(cuda::Resources::Write),
            Some("check") => cuda::check(),
            Some("counts") => cuda::counts(std::env::args().nth(3).as_deref()),
            Some(_) => Err("usage: cargo xtask cuda [write | check | counts [ARCHITECTURE | write]]".into()),
        },
        "cuda-host" => standin::host(std::env::args().nth(2).as_deref()),
        "on-gpu" => on_gpu::script(),
        "fuzz" => fuzz::command(std::env::args().skip(2)),
        _ => Err(
            "usage: cargo xtask ci | go | node | install --prefix DIR | installed | guard | guard-write | header | abi \
             | cuda [write | check | counts [ARCHITECTURE | write]] | cuda-host [plain | addresses | races] | on-gpu \
             | fuzz [TARGET] [SECONDS]"
                .into(),
        ),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("xtask: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the test that compares committed files with what they should be, and lets it write them.
fn write_anew(test: &str, variable: &str) -> Outcome {
    let mut command = Command::new("cargo");
    command.args(["test", "--release", "--locked", "--test", test]).env(variable, "1");
    run(&mut command)
}

//! Every check. A step is a name and a function; steps with files of their own: `python.rs`,
//! `cuda.rs`, `standin.rs`, `on_gpu.rs`, `installed.rs`, `go.rs`, `guard.rs`, `node.rs`.

use crate::tools::{Outcome, cargo, need, root, run};
use crate::{cuda, go, guard, installed, node, on_gpu, python, standin};
use std::process::Command;
use std::time::Instant;

type Step = (&'static str, fn() -> Outcome);

/// Every check, in the order of their cost. What ran is printed, with times, so that nothing is skipped in silence.
pub fn ci() -> Outcome {
    let steps: &[Step] = &[
        ("format", || cargo(&["fmt", "--all", "--check"], "rustfmt")),
        ("lints", || {
            cargo(
                &["clippy", "--workspace", "--all-targets", "--release", "--locked", "--", "-D", "warnings"],
                "clippy",
            )
        }),
        // Before the tests, which then run with the compiled kernels in the library.
        ("CUDA kernels", cuda::ci),
        ("tests", tests),
        ("C programs under valgrind", under_valgrind),
        ("CUDA on a stand-in driver", || standin::host(None)),
        ("the script for a GPU, on the stand-in", on_gpu::script),
        ("documentation", documentation),
        ("instructions of kernels", || guard::guard(false)),
        ("files in other readers", python::files_in_other_readers),
        ("programs with the installed library", installed::programs_outside),
        ("Go", go::package_and_examples),
        ("Node", node::package_and_examples),
    ];
    let mut report = String::new();
    for (name, step) in steps {
        println!("== {name}");
        let clock = Instant::now();
        step().map_err(|what| format!("{name}: {what}"))?;
        report += &format!("   {name}: ok, {:.0} s\n", clock.elapsed().as_secs_f64());
    }
    print!("== all checks passed\n{report}");
    Ok(())
}

/// Unit, integration and golden tests, the header check and the C and C++ programs.
fn tests() -> Outcome {
    need("c++", &["g++"])?;
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace", "--release", "--locked"]);
    // A checkout beside the full set of llama.cpp-made files tests all of them; the committed selection always runs.
    let more = root().join("../shared/fixtures/peer-gguf");
    if more.is_dir() {
        command.env("DGEMMA_PEER_DIR", more);
    }
    run(&mut command)
}

/// The programs of tests/c once more. (libc6-dbg: on some systems valgrind does not start without the loader's symbols.)
fn under_valgrind() -> Outcome {
    need("valgrind", &["valgrind", "libc6-dbg"])?;
    let mut command = Command::new("cargo");
    command.args(["test", "--release", "--locked", "--test", "c_programs", "--", "--nocapture", "programs_find"]);
    run(command.env("DGEMMA_VALGRIND", "1"))
}

fn documentation() -> Outcome {
    let mut command = Command::new("cargo");
    command
        .args([
            "doc",
            "--lib",
            "--package",
            "dgemma",
            "--package",
            "dgemma-quantize",
            "--release",
            "--locked",
            "--no-deps",
        ])
        .env("RUSTDOCFLAGS", "-D warnings");
    run(&mut command)
}

//! Project chores: `cargo xtask ci` runs every check, `cargo xtask header` writes `include/dgemma.h` anew.
//!
//! Needs a Rust toolchain, a C compiler and Python 3 (with its venv module); what else the checks need it installs under
//! `target/`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// The Python packages of the independent GGUF check; `gguf` is llama.cpp's own reader.
const PYTHON_PACKAGES: [&str; 3] = ["gguf==0.19.0", "numpy==2.4.6", "safetensors==0.8.0"];

type Outcome = Result<(), String>;
type Step = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let outcome = match task.as_str() {
        "ci" => ci(),
        "header" => header(),
        _ => Err("usage: cargo xtask ci | header".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("xtask: {what}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).expect("xtask lies in tests/xtask")
}

/// Every check, in the order of their cost. What ran is printed, with times, so that nothing is skipped in silence.
fn ci() -> Outcome {
    let steps: [Step; 5] = [
        ("format", || cargo(&["fmt", "--all", "--check"], "rustfmt")),
        ("lints", || {
            cargo(
                &["clippy", "--workspace", "--all-targets", "--release", "--locked", "--", "-D", "warnings"],
                "clippy",
            )
        }),
        ("tests", tests),
        ("documentation", documentation),
        ("files in other readers", python_checks),
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

/// Unit, integration and golden tests, the header check and the C programs.
fn tests() -> Outcome {
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace", "--release", "--locked"]);
    // A checkout beside the full set of llama.cpp-made files tests all of them; the committed selection always runs.
    let more = root().join("../shared/fixtures/peer-gguf");
    if more.is_dir() {
        command.env("DGEMMA_PEER_DIR", more);
    }
    run(&mut command)
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

fn header() -> Outcome {
    let mut command = Command::new("cargo");
    command.args(["test", "--release", "--locked", "--test", "header"]).env("DGEMMA_WRITE_HEADER", "1");
    run(&mut command)
}

/// Our files in llama.cpp's Python reader.
fn python_checks() -> Outcome {
    let venv = root().join("target/venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("installed");
    let wanted = PYTHON_PACKAGES.join("\n");
    if std::fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PYTHON_PACKAGES))?;
        std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    }
    run(Command::new(&python).arg(root().join("tests/golden/check_gguf.py")).arg("read").args(own_files()?))
}

/// GGUF files that our writer makes: a conversion of each golden checkpoint, the built-in model, an importance matrix.
fn own_files() -> Result<Vec<PathBuf>, String> {
    let folder = root().join("target/xtask");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files = vec![root().join("examples/tiny/dgemma-tiny.gguf")];
    for (name, kind) in [("tiny-a", "f32"), ("tiny-b", "bf16"), ("tiny-k", "q8_0"), ("tiny-k", "f16")] {
        let out = folder.join(format!("{name}-{kind}.gguf"));
        let mut command = Command::new(root().join("target/release/dgemma-quantize")); // built by the tests
        run(command
            .arg("convert")
            .arg(root().join("tests/golden").join(name).join("hf"))
            .arg(&out)
            .args(["--type", kind]))?;
        files.push(out);
    }
    let (tiny, imatrix) = (root().join("examples/tiny"), folder.join("imatrix.gguf"));
    let mut command = Command::new(root().join("target/release/dgemma-quantize"));
    command.arg("imatrix").arg(&files[0]).arg("--text").arg(tiny.join("calibration.jsonl"));
    run(command.args(["--samples", "6", "--out"]).arg(&imatrix))?;
    files.push(imatrix);
    Ok(files)
}

/// Runs cargo with a component that a minimal toolchain may lack.
fn cargo(args: &[&str], component: &str) -> Outcome {
    if !Command::new("cargo").args([args[0], "--version"]).output().is_ok_and(|o| o.status.success()) {
        run(Command::new("rustup").args(["component", "add", component]))?;
    }
    run(Command::new("cargo").args(args))
}

fn run(command: &mut Command) -> Outcome {
    command.current_dir(root());
    let shown = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(e) => Err(format!("{shown}: {e}")),
    }
}

//! The script for machines with a GPU, `tests/cuda/on_gpu.sh`, packed as for one and run on the stand-in driver with tiny
//! shapes: every stage is reached, what fails or cannot run is counted. The figures mean nothing.

use crate::standin::{self, PLAIN};
use crate::tools::{Outcome, need, root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What fits where a bundle has to go: bytes of the archive.
const MOST_BYTES: u64 = 64 << 20;
/// A stand-in for compute-sanitizer: drops its options and runs the program.
const SANITIZER: &str = "#!/bin/sh\nwhile [ \"${1#--}\" != \"$1\" ]; do case $1 in --tool | --error-exitcode) shift ;; esac; \
                         shift; done\nexec \"$@\"\n";

/// Packs, runs every stage, then one that fails.
pub fn script() -> Outcome {
    need("shellcheck", &["shellcheck"])?;
    let script = root().join("tests/cuda/on_gpu.sh");
    run(Command::new("shellcheck").arg(&script))?;
    // PyTorch is not installed for it: only that it is Python.
    let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
    run(Command::new("python3").args(["-c", parse]).arg(root().join("tests/cuda/reference.py")))?;
    let bundle = root().join("target/cuda/bundle");
    run(Command::new("bash").arg(&script).arg("pack").arg(&bundle))?;
    let archive = bundle.with_extension("tar.gz");
    let bytes = std::fs::metadata(&archive).map_err(|e| format!("{}: {e}", archive.display()))?.len();
    if bytes > MOST_BYTES {
        return Err(format!("{}: {bytes} bytes, expected at most {MOST_BYTES}", archive.display()));
    }
    every_stage(&bundle)?;
    a_failure_is_counted(&bundle)
}

/// `on_gpu.sh run` in the bundle; (exit status, what it said).
fn on_standin(bundle: &Path, device: &str, stages: &[&str]) -> Result<(Option<i32>, String), String> {
    let (folder, tools) = (standin::build(&PLAIN)?, root().join("target/cuda/bundle-tools"));
    std::fs::create_dir_all(&tools).map_err(|e| format!("{}: {e}", tools.display()))?;
    write_executable(&tools.join("compute-sanitizer"), SANITIZER)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.arg(bundle.join("tests/cuda/on_gpu.sh")).arg("run").args(stages);
    command.env("PATH", format!("{}:{path}", tools.display())).env("LD_LIBRARY_PATH", &folder);
    command.env("XDG_CACHE_HOME", folder.join("cache")).env("DGEMMA_STANDIN", "1");
    let tiny =
        [("SHAPE", "tiny"), ("PREFIX", "20"), ("LONG", "2100"), ("LAYERS", "5"), ("CONTEXT", "4096"), ("STEPS", "2")];
    command.envs(tiny).env("MACHINE", "stand-in").env("DEVICE", device);
    let output = command.current_dir(root()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = [output.stdout, output.stderr].map(|o| String::from_utf8_lossy(&o).into_owned()).concat();
    Ok((output.status.code(), said))
}

fn write_executable(file: &PathBuf, text: &str) -> Outcome {
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    run(Command::new("chmod").arg("+x").arg(file))
}

fn every_stage(bundle: &Path) -> Outcome {
    let results = bundle.join("results/stand-in");
    let _ = std::fs::remove_dir_all(&results); // of a run before
    let (status, said) = on_standin(bundle, "0", &[])?;
    let check = |good: bool, what: &str| if good { Ok(()) } else { Err(format!("on_gpu.sh: {what}:\n{said}")) };
    check(status == Some(0), "exit status is not 0")?;
    let stages = std::fs::read_to_string(results.join("stages.csv")).map_err(|e| format!("stages.csv: {e}"))?;
    let benches = ["q4_k_m", "long", "experts_on_host", "half_on_host", "q8_0", "context", "bf16"];
    for stage in ["device", "kernels", "models", "memcheck", "racecheck"].iter().chain(&benches) {
        check(stages.lines().any(|line| line.starts_with(&format!("{stage},ok,"))), &format!("{stage} is not ok"))?;
    }
    // PyTorch may be there or not; with it, the reference wants a device that is more than a stand-in.
    check(stages.lines().any(|line| line.starts_with("reference,")), "the reference was not reached")?;
    check(said.contains("== 13 stages: 12 ok, "), "the stages were not counted")?;
    for (stage, keys) in [
        (
            "q4_k_m",
            &["step.ms", "step.floor_ms", "prefill.tokens_per_second", "next_block.shared_ms", "gaps.replay_ms"][..],
        ),
        ("q8_0", &["generation.first_canvas_ms", "ceilings.int8_gops.device"]),
        ("bf16", &["ceilings.bf16_gflops.device", "first_step.ms_with_waits"]),
        ("long", &["step.times_floor"]),
        ("experts_on_host", &["step.ms", "memory.plan.host_weights_bytes", "run.n_cpu_experts"]),
        ("half_on_host", &["step.ms", "memory.plan.slots_bytes", "run.n_gpu_layers"]),
        ("context", &["memory.kv_bytes", "memory.device_loaded_bytes", "memory.plan.device_bytes"]),
    ] {
        let csv = csv_of(&results, stage)?;
        for key in keys {
            let line = csv.lines().find_map(|line| line.strip_prefix(&format!("{key},")));
            let positive = line.and_then(|value| value.parse::<f64>().ok()).is_some_and(|value| value > 0.0);
            check(positive, &format!("{stage}: {key} is {line:?}"))?;
        }
    }
    println!("every stage of on_gpu.sh was reached on the stand-in driver");
    Ok(())
}

fn csv_of(results: &Path, stage: &str) -> Result<String, String> {
    let files = std::fs::read_dir(results).map_err(|e| format!("{}: {e}", results.display()))?;
    let ending = format!("-{stage}.csv");
    let file = files.flatten().map(|file| file.path()).find(|file| file.to_string_lossy().ends_with(&ending));
    let file = file.ok_or_else(|| format!("{}: no table of {stage}", results.display()))?;
    std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))
}

/// On a device that is not there a bench fails, the stage behind it still runs, and the whole says 1.
fn a_failure_is_counted(bundle: &Path) -> Outcome {
    let (status, said) = on_standin(bundle, "7", &["context", "device"])?;
    let good = status == Some(1)
        && said.contains("is 7, but there are 1 CUDA devices")
        && said.contains("context,FAILED")
        && said.contains("device,ok,")
        && said.contains("== 2 stages: 1 ok, 1 failed, 0 not run");
    let unknown = on_standin(bundle, "0", &["nonsense"])?;
    if good && unknown.0 == Some(2) { Ok(()) } else { Err(format!("on_gpu.sh swallows a failure: {status:?}\n{said}")) }
}

//! The CUDA chores. None needs a GPU.
//!
//! - `cargo xtask cuda`: installs the compiler under `target/cuda/venv`, compiles every kernel for every format and
//!   architecture into `target/cuda/fatbin` (which the next `cargo build` embeds), and compares the registers, stack, spills
//!   and shared memory of every entry with `tests/cuda/resources/`; `cargo xtask cuda write` writes that anew.
//! - `cargo xtask cuda check`: only the comparison, of every entry for one architecture and of the entries of two formats for
//!   the others.
//! - `cargo xtask cuda-host`: the backend's tests on the stand-in driver, in three builds: plain, under the address and
//!   undefined-behaviour checkers, under the race checker.

use crate::tools::{Outcome, need, root, run};
use crate::units::{self, ALL_TARGETS, OPTIONS, Unit};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The compiler, of which every part is pinned: `nvidia-cuda-nvcc` alone would take the newest of the others. cuobjdump has no
/// 13.0 release.
const PACKAGES: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-cccl==13.0.85",
];
/// What `check` compiles everything for, and the formats that it compiles for all architectures.
const CHECK_TARGET: &str = "90a";
const CHECK_FORMATS: [&str; 2] = ["q4_k", "bf16"];

fn folder(name: &str) -> PathBuf {
    root().join("target/cuda").join(name)
}

/// The compiler: the one that `DGEMMA_NVCC` names, or ours, installed where it is missing.
fn nvcc() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("DGEMMA_NVCC") {
        return Ok(named.into());
    }
    let venv = folder("venv");
    let (stamp, wanted) = (venv.join("installed"), PACKAGES.join("\n"));
    if std::fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES))?;
        std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    }
    let lib = venv.join("lib");
    let pythons = std::fs::read_dir(&lib).map_err(|e| format!("{}: {e}", lib.display()))?;
    let candidates = pythons.flatten().map(|python| python.path().join("site-packages/nvidia/cu13/bin/nvcc"));
    candidates.into_iter().find(|file| file.is_file()).ok_or_else(|| format!("no nvcc under {}", lib.display()))
}

/// Everything for everything; `write`: notes the resources instead of comparing them.
pub fn all(write: bool) -> Outcome {
    need("g++", &["g++"])?;
    let nvcc = nvcc()?;
    let (out, cuda) = (folder("fatbin"), root().join("cuda"));
    units::compile(&nvcc, &cuda, &out, &ALL_TARGETS)?;
    let sources = units::sources(&cuda).map_err(|e| format!("{}: {e}", cuda.display()))?;
    units::note_sources(&out, &sources)?;
    let bytes = units::units().map(|u| std::fs::metadata(out.join(u.name() + ".fatbin")).map_or(0, |m| m.len()));
    println!("{} fatbins, {} kB, in {}", units::units().count(), bytes.sum::<u64>() / 1000, out.display());
    for target in ALL_TARGETS {
        resources(&nvcc, target, units::units().collect(), write)?;
    }
    Ok(())
}

/// Less than everything, for those in a hurry.
pub fn check() -> Outcome {
    need("g++", &["g++"])?;
    let nvcc = nvcc()?;
    resources(&nvcc, CHECK_TARGET, units::units().collect(), false)?;
    let few = |u: &Unit| u.format.is_none_or(|f| CHECK_FORMATS.contains(&f));
    for target in ALL_TARGETS.into_iter().filter(|t| *t != CHECK_TARGET) {
        resources(&nvcc, target, units::units().filter(few).collect(), false)?;
    }
    Ok(())
}

/// Compiles `units` for one architecture; compares each entry's line with the committed one. Spills are an error.
fn resources(nvcc: &Path, target: &str, units: Vec<Unit>, write: bool) -> Outcome {
    let found = Mutex::new(BTreeMap::new());
    let whole = units.len() == units::units().count();
    units::in_parallel(units, |unit| {
        let mut command = Command::new(nvcc);
        command
            .args(["-cubin", "-O3", "-Xptxas", "-v", "-o", "/dev/null", "-I"])
            .arg(root().join("cuda"))
            .args(OPTIONS);
        command.arg(format!("-arch=sm_{target}")).args(unit.format.map(|f| format!("-DFORMAT={f}")));
        let said = units::run(command.arg(root().join("cuda").join(unit.file).with_extension("cu")))?;
        let lines = entries(&said);
        if lines.is_empty() {
            return Err(format!("{}: the compiler said nothing about resources:\n{said}", unit.name()));
        }
        found.lock().map_err(|_| "a thread panicked")?.extend(lines);
        Ok(())
    })?;
    let found = found.into_inner().map_err(|_| "a thread panicked")?;
    if let Some((entry, line)) = found.iter().find(|(_, line)| !line.ends_with(" spills 0")) {
        return Err(format!("sm_{target}: {entry} spills: {line}"));
    }
    let file = root().join(format!("tests/cuda/resources/sm_{target}.txt"));
    let text: String = found.iter().map(|(entry, line)| format!("{entry} {line}\n")).collect();
    if write {
        std::fs::create_dir_all(file.parent().unwrap_or(root())).map_err(|e| e.to_string())?;
        return std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()));
    }
    let committed = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let committed: BTreeMap<&str, &str> = committed.lines().filter_map(|line| line.split_once(' ')).collect();
    for (entry, line) in &found {
        if committed.get(entry.as_str()) != Some(&line.as_str()) {
            let before = committed.get(entry.as_str()).unwrap_or(&"not there");
            return Err(format!("sm_{target}: {entry}: {line}, committed: {before}; `cargo xtask cuda write`"));
        }
    }
    if whole && let Some(gone) = committed.keys().find(|entry| !found.contains_key(**entry)) {
        return Err(format!("sm_{target}: {gone} is committed and not compiled any more; `cargo xtask cuda write`"));
    }
    println!("sm_{target}: {} entries as committed", found.len());
    Ok(())
}

/// (entry, "registers N stack N spills N") from what ptxas says. Shared memory is dynamic, and would be listed as smem.
fn entries(said: &str) -> BTreeMap<String, String> {
    let number = |line: &str, unit: &str| {
        let before = line.split(unit).next()?;
        before.rsplit([' ', ',']).find(|word| !word.is_empty())?.parse::<u32>().ok()
    };
    let mut found = BTreeMap::new();
    let (mut name, mut stack, mut spills) = (String::new(), 0, 0);
    for line in said.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            name = rest.split('\'').next().unwrap_or_default().to_owned();
        } else if line.contains("bytes stack frame") {
            stack = number(line, " bytes stack").unwrap_or(0);
            spills = number(line, " bytes spill stores").unwrap_or(0) + number(line, " bytes spill loads").unwrap_or(0);
        } else if line.contains("Used ") && line.contains(" registers") {
            let registers = number(line, " registers").unwrap_or(0);
            let shared = if line.contains(" bytes smem") { number(line, " bytes smem").unwrap_or(0) } else { 0 };
            found.insert(name.clone(), format!("registers {registers} stack {stack} shared {shared} spills {spills}"));
        }
    }
    found
}

/// One build of the stand-in driver: compiler flags, and what the test program runs under.
struct Build {
    name: &'static str,
    flags: &'static [&'static str],
    /// The runtime that has to be loaded first.
    preload: Option<&'static str>,
    options: &'static [(&'static str, &'static str)],
    /// Names of tests; none: all.
    tests: &'static [&'static str],
}

const BUILDS: [Build; 3] = [
    Build { name: "plain", flags: &[], preload: None, options: &[], tests: &[] },
    Build {
        name: "addresses",
        flags: &["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
        preload: Some("libasan.so"),
        options: &[("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0"), ("DGEMMA_STANDIN_CHECKED", "1")],
        tests: &["formats::", "operations::", "sampler::"],
    },
    Build {
        name: "races",
        flags: &["-O1", "-fsanitize=thread"],
        preload: Some("libtsan.so"),
        options: &[
            // The test program itself is not instrumented: what it does between launches is not looked at.
            ("TSAN_OPTIONS", "halt_on_error=1:exitcode=66:report_signal_unsafe=0:ignore_noninstrumented_modules=1"),
            ("DGEMMA_STANDIN_CHECKED", "1"),
        ],
        tests: &["formats::", "operations::", "sampler::"],
    },
];

/// The backend's tests on the stand-in driver.
pub fn host() -> Outcome {
    need("g++", &["g++"])?;
    let program = test_program()?;
    for build in &BUILDS {
        let folder = standin(build)?;
        println!("-- {} build of the stand-in driver", build.name);
        // Not where the system randomises addresses more than the race checker can bear.
        let mut command = Command::new("setarch");
        command.args(["--addr-no-randomize"]).arg(&program).args(build.tests).arg("--test-threads=2");
        command
            .env("LD_LIBRARY_PATH", &folder)
            .env("DGEMMA_REQUIRE_CUDA", "1")
            .env("DGEMMA_STANDIN", "1")
            .envs(build.options.iter().copied());
        command.env("XDG_CACHE_HOME", folder.join("cache"));
        if let Some(runtime) = build.preload {
            command.env("LD_PRELOAD", runtime_path(runtime)?);
        }
        run(&mut command)?;
    }
    Ok(())
}

fn runtime_path(name: &str) -> Result<String, String> {
    units::run(Command::new("g++").arg(format!("-print-file-name={name}"))).map(|path| path.trim().to_owned())
}

/// The test program, built.
fn test_program() -> Result<PathBuf, String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--release", "--locked", "--test", "cuda", "--no-run", "--message-format=json"]);
    let output = command.current_dir(root()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rfind(|line| line.contains("\"executable\":\"") && line.contains("\"name\":\"cuda\""));
    let path = line.and_then(|line| line.split("\"executable\":\"").nth(1)?.split('"').next());
    path.map(PathBuf::from).ok_or_else(|| format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Builds the stand-in driver and run-time compiler where their sources have changed; their folder.
fn standin(build: &Build) -> Result<PathBuf, String> {
    let (out, tests) = (folder("standin").join(build.name), root().join("tests/cuda"));
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let compiler = || {
        let mut command = Command::new("g++");
        command.args(["-O2", "-g1", "-std=c++17", "-fPIC", "-ftls-model=initial-exec", "-ffp-contract=off"]);
        command.args(["-march=native", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]).args(build.flags);
        command.arg("-include").arg(tests.join("cusim/cusim.h")).arg("-c");
        command
    };
    let formats = units::FORMATS.map(|f| ("format", Some(f)));
    let jobs: Vec<_> = formats.into_iter().chain([("kernels", None), ("driver", None)]).collect();
    let objects: Vec<PathBuf> = jobs.iter().map(|(file, f)| out.join(format!("{}.o", f.unwrap_or(file)))).collect();
    units::in_parallel(jobs, |(file, format)| {
        let mut command = compiler();
        command.args(format.map(|f| format!("-DFORMAT={f}")));
        command.arg("-o").arg(out.join(format!("{}.o", format.unwrap_or(file))));
        units::run(command.arg(tests.join("standin").join(file).with_extension("cpp"))).map(|_| ())
    })?;
    units::run(
        Command::new("g++")
            .args(["-shared", "-Wl,--no-undefined"])
            .args(build.flags)
            .args(&objects)
            .arg("-o")
            .arg(out.join("libcuda.so.1")),
    )?;
    let mut nvrtc = Command::new("g++");
    nvrtc.args(["-O1", "-std=c++17", "-shared", "-fPIC"]).arg(tests.join("standin/nvrtc.cpp"));
    units::run(nvrtc.arg("-o").arg(out.join("libnvrtc.so.13")))?;
    Ok(out)
}

//! `cargo xtask cuda-host`: the CUDA backend's tests on the stand-in driver of `tests/cuda/standin/`, in three builds: plain,
//! under the address and undefined-behaviour checkers (addresses), under the race checker (races); `cuda-host plain` and so
//! on runs one of them.

use crate::tools::{Outcome, need, root, run};
use crate::units;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder(name: &str) -> PathBuf {
    root().join("target/cuda/standin").join(name)
}

/// One build of the stand-in driver: compiler flags, and what the test program runs under.
pub struct Build {
    name: &'static str,
    flags: &'static [&'static str],
    /// The runtime that has to be loaded first.
    preload: Option<&'static str>,
    options: &'static [(&'static str, &'static str)],
    /// Names of tests; none: all.
    tests: &'static [&'static str],
}

/// Without checkers.
pub const PLAIN: Build = Build { name: "plain", flags: &[], preload: None, options: &[], tests: &[] };
const BUILDS: [Build; 3] = [
    PLAIN,
    Build {
        name: "addresses",
        flags: &["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
        preload: Some("libasan.so"),
        options: &[("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0"), ("DGEMMA_STANDIN_CHECKED", "1")],
        tests: &["attention::", "formats::", "fused::", "operations::", "pack::", "sampler::"],
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
        tests: &["attention::", "formats::", "fused::", "operations::", "pack::", "sampler::"],
    },
];

/// The backend's tests on the stand-in driver, in all builds or in the one called `only`.
pub fn host(only: Option<&str>) -> Outcome {
    if let Some(name) = only.filter(|name| !BUILDS.iter().any(|build| build.name == *name)) {
        return Err(format!("cuda-host {name}: expected {}", BUILDS.map(|build| build.name).join(", ")));
    }
    need("g++", &["g++"])?;
    let backend = test_program(&["--test", "cuda"], "cuda")?;
    let (library, bench) = (test_program(&["--lib"], "dgemma")?, test_program(&["--test", "bench"], "bench")?);
    for build in BUILDS.iter().filter(|build| only.is_none_or(|name| name == build.name)) {
        let folder = self::build(build)?;
        println!("-- {} build of the stand-in driver", build.name);
        if build.preload.is_none() {
            run(on_standin(&library, &folder).args(["backend::cuda", "--nocapture"]))?;
            run(on_standin(&bench, &folder).args(["a_device", "--nocapture"]))?;
        }
        let mut command = on_standin(&backend, &folder);
        command.args(build.tests).arg("--test-threads=2").envs(build.options.iter().copied());
        if let Some(runtime) = build.preload {
            command.env("LD_PRELOAD", runtime_path(runtime)?);
        }
        run(&mut command)?;
    }
    Ok(())
}

/// `program` on the stand-in driver in `folder`. Not where the system randomises addresses more than the race checker can
/// bear.
fn on_standin(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("setarch");
    command.arg("--addr-no-randomize").arg(program);
    command.env("LD_LIBRARY_PATH", folder).env("XDG_CACHE_HOME", folder.join("cache"));
    command.env("DGEMMA_REQUIRE_CUDA", "1").env("DGEMMA_STANDIN", "1");
    command
}

fn runtime_path(name: &str) -> Result<String, String> {
    units::run(Command::new("g++").arg(format!("-print-file-name={name}"))).map(|path| path.trim().to_owned())
}

/// A test program, built: of `what` (`--lib`, or `--test` and its name), called `name` by cargo.
fn test_program(what: &[&str], name: &str) -> Result<PathBuf, String> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--release", "--locked", "--workspace"])
        .args(what)
        .args(["--no-run", "--message-format=json"]);
    let output = command.current_dir(root()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let name = format!("\"name\":\"{name}\"");
    let line = text.lines().rfind(|line| line.contains("\"executable\":\"") && line.contains(&name));
    let path = line.and_then(|line| line.split("\"executable\":\"").nth(1)?.split('"').next());
    path.map(PathBuf::from).ok_or_else(|| format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Builds the stand-in driver and run-time compiler where their sources have changed; their folder.
pub fn build(build: &Build) -> Result<PathBuf, String> {
    let (out, tests) = (folder(build.name), root().join("tests/cuda"));
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

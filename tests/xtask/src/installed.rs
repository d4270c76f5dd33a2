//! The installed library as strangers find it: programs outside of the repository, built with pkg-config and with CMake,
//! shared and static, from a tree that is moved afterwards.

use crate::install::{built, install};
use crate::tools::{Outcome, need, root, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A prompt, and the built-in model's answer.
const PROMPT: &str = "What is 7 + 12?";
const ANSWER: &str = "19\n";

/// Installs to a temporary prefix and builds on it.
pub fn programs_outside() -> Outcome {
    need("pkg-config", &["pkg-config"])?;
    need("cmake", &["cmake", "make"])?;
    need("c++", &["g++"])?;
    let folder = root().join("target/installed");
    let (prefix, outside) = (folder.join("prefix"), folder.join("outside"));
    let _ = fs::remove_dir_all(&folder);
    copy_sources(&outside).map_err(|e| format!("{}: {e}", outside.display()))?;
    install(&prefix, None)?;
    install(&prefix, None)?; // over itself
    stripped(&prefix)?;
    staged(&folder)?;
    let said = answer(Command::new(prefix.join("bin/dgemma")).arg("generate").arg("-m").arg(model()).arg(PROMPT))?;
    expect("bin/dgemma", &said)?;
    run(Command::new(prefix.join("bin/dgemma-quantize")).arg("--version"))?;
    with_pkg_config(&prefix, &outside)?;
    with_cmake(&prefix, &outside, "build")?;
    let moved = folder.join("moved");
    fs::rename(&prefix, &moved).map_err(|e| format!("{}: {e}", moved.display()))?;
    with_cmake(&moved, &outside, "build-moved")?;
    fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))
}

fn model() -> PathBuf {
    root().join("examples/tiny/dgemma-tiny.gguf")
}

fn copy_sources(outside: &Path) -> std::io::Result<()> {
    fs::create_dir_all(outside)?;
    fs::copy(root().join("tests/xtask/install/CMakeLists.txt"), outside.join("CMakeLists.txt"))?;
    for name in ["hello.c", "hello.cpp"] {
        fs::copy(root().join("examples").join(name), outside.join(name))?;
    }
    Ok(())
}

/// The installed library has no line tables, which the built one has.
fn stripped(prefix: &Path) -> Outcome {
    let bytes = |file: &Path| fs::metadata(file).map(|m| m.len()).map_err(|e| format!("{}: {e}", file.display()));
    let (built, installed) = (bytes(&built().join("libdgemma.so"))?, bytes(&prefix.join("lib/libdgemma.so"))?);
    if installed < built {
        return Ok(());
    }
    Err(format!("libdgemma.so has {built} bytes and {installed} when installed, expected fewer"))
}

/// What packagers do: the files go to one place and speak of another, here one with a blank in its name.
fn staged(folder: &Path) -> Outcome {
    let stage = folder.join("stage");
    install(Path::new("/opt/d gemma"), Some(&stage))?;
    let pc = stage.join("opt/d gemma/lib/pkgconfig/dgemma.pc");
    let text = fs::read_to_string(&pc).map_err(|e| format!("{}: {e}", pc.display()))?;
    if !text.starts_with("prefix=/opt/d gemma\n") {
        return Err(format!("{}: expected prefix=/opt/d gemma, found {text}", pc.display()));
    }
    let mut ask = Command::new("pkg-config");
    ask.args(["--cflags", "--libs", "dgemma"]).env("PKG_CONFIG_PATH", pc.parent().unwrap_or(&stage));
    let flags = answer(&mut ask)?;
    if !flags.contains(r"-I/opt/d\ gemma/include -L/opt/d\ gemma/lib") {
        return Err(format!("{}: the blank is not escaped in {flags}", pc.display()));
    }
    fs::remove_dir_all(&stage).map_err(|e| format!("{}: {e}", stage.display()))
}

/// The flags that pkg-config gives.
fn flags(prefix: &Path, args: &[&str]) -> Result<Vec<String>, String> {
    let mut command = Command::new("pkg-config");
    command.args(args).arg("dgemma").env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    Ok(answer(&mut command)?.split_whitespace().map(str::to_owned).collect())
}

/// Shared; the static library beside the system's shared ones; all static.
fn with_pkg_config(prefix: &Path, outside: &Path) -> Outcome {
    let shared = flags(prefix, &["--cflags", "--libs"])?;
    let all = flags(prefix, &["--static", "--cflags", "--libs"])?;
    let archive = all.iter().map(|f| if f == "-ldgemma" { "-l:libdgemma.a".to_owned() } else { f.clone() }).collect();
    let all_static = [&["-static".to_owned()], &all[..]].concat();
    for (name, flags) in [("shared", shared), ("archive", archive), ("all-static", all_static)] {
        let program = outside.join(format!("pkg-config-{name}"));
        let flags: Vec<String> = flags;
        run(Command::new("cc").arg(outside.join("hello.c")).args(flags).arg("-o").arg(&program))?;
        let mut command = Command::new(&program);
        command.arg(model()).arg(PROMPT);
        if name == "shared" {
            command.env("LD_LIBRARY_PATH", prefix.join("lib"));
        }
        expect(&format!("pkg-config, {name}"), &answer(&mut command)?)?;
    }
    Ok(())
}

/// CMake writes the library's place into the programs that it builds.
fn with_cmake(prefix: &Path, outside: &Path, folder: &str) -> Outcome {
    let build = outside.join(folder);
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(outside).arg("-B").arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    answer(&mut configure)?;
    answer(Command::new("cmake").arg("--build").arg(&build))?;
    for name in ["shared", "static", "cpp"] {
        let said = answer(Command::new(build.join(name)).arg(model()).arg(PROMPT))?;
        expect(&format!("CMake, {folder}, {name}"), &said)?;
    }
    Ok(())
}

/// What a program prints; what it complains of, if it fails.
fn answer(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|e| format!("{shown}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{shown}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

fn expect(what: &str, said: &str) -> Outcome {
    println!("{what}: {}", said.trim_end());
    if said == ANSWER { Ok(()) } else { Err(format!("{what}: printed {said:?}, expected {ANSWER:?}")) }
}

//! The CUDA chores. None needs a GPU.
//!
//! - `cargo xtask cuda`: installs the compiler under `target/cuda/venv`, compiles every kernel for every format and
//!   architecture into `target/cuda/fatbin` (which the next `cargo build` embeds), and compares the registers, stack, spills
//!   and shared memory of every entry with `tests/cuda/resources/`; `cargo xtask cuda write` writes that anew. What has not
//!   changed since the last time is not compiled again.
//! - `cargo xtask cuda check`: the same, but the next `cargo build` embeds nothing new.
//! - `cargo xtask cuda counts [ARCHITECTURE]`: what the hot loops cost (`counts.rs`), as `cargo xtask cuda` left them;
//!   `cargo xtask cuda counts write` commits that.
//!
//! The backend's tests on a stand-in driver: `standin.rs`.

use crate::counts;
use crate::tools::{Outcome, need, root, run};
use crate::units::{self, ALL_TARGETS};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// The compiler, of which every part is pinned: `nvidia-cuda-nvcc` alone would take the newest of the others. The disassembler
/// has no 13.0 release.
const PACKAGES: [&str; 7] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-cuda-cuobjdump==13.2.86",
    "nvidia-cuda-nvdisasm==13.2.86",
];

fn folder(name: &str) -> PathBuf {
    root().join("target/cuda").join(name)
}

/// The compiler: the one that `DGEMMA_NVCC` names, or ours, installed where it is missing.
fn nvcc() -> Result<PathBuf, String> {
    std::env::var_os("DGEMMA_NVCC").map_or_else(|| tool("nvcc"), |named| Ok(named.into()))
}

/// A program of the compiler's packages.
fn tool(name: &str) -> Result<PathBuf, String> {
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
    let mut candidates = pythons.flatten().map(|python| python.path().join("site-packages/nvidia/cu13/bin").join(name));
    candidates.find(|file| file.is_file()).ok_or_else(|| format!("no {name} under {}", lib.display()))
}

/// What to do with the resources that the compiler says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resources {
    /// An error where they are not the committed ones.
    Compare,
    /// Commit them.
    Write,
}

/// Every kernel for every format and architecture, left to the next build.
pub fn all(then: Resources) -> Outcome {
    compile(then)?;
    let (out, cuda) = (folder("fatbin"), root().join("cuda"));
    let sources = units::sources(&cuda).map_err(|e| format!("{}: {e}", cuda.display()))?;
    if !units::made_of(&out, &sources) {
        units::note_sources(&out, &sources)?;
        // A build script that found no fatbins did not ask to be run when there are some; it does when it is touched.
        let script = root().join("src/build.rs");
        let file = std::fs::File::options().append(true).open(&script);
        let touched = file.and_then(|file| file.set_modified(std::time::SystemTime::now()));
        touched.map_err(|e| format!("{}: {e}", script.display()))?;
    }
    Ok(())
}

/// Every kernel for every format and architecture, for the comparison's sake.
pub fn check() -> Outcome {
    compile(Resources::Compare)
}

/// What the hot loops of the compiled kernels cost, for an architecture, or written anew.
pub fn counts(what: Option<&str>) -> Outcome {
    let (architecture, write) = match what {
        Some("write") => (counts::COMMITTED, true),
        Some(architecture) if ALL_TARGETS.contains(&architecture) => (architecture, false),
        Some(other) => return Err(format!("`{other}` is no architecture: {}", ALL_TARGETS.join(" "))),
        None => (counts::COMMITTED, false),
    };
    counts::counts(&tool("cuobjdump")?, &folder("fatbin"), architecture, write)
}

/// What CI asks: the kernels with their resources, and what their hot loops cost.
pub fn ci() -> Outcome {
    all(Resources::Compare)?;
    counts(None)
}

fn compile(then: Resources) -> Outcome {
    need("g++", &["g++"])?;
    let (nvcc, out) = (nvcc()?, folder("fatbin"));
    let compiled = units::compile(&nvcc, &root().join("cuda"), &out)?;
    let all = units::units().count();
    let bytes = units::units().map(|u| std::fs::metadata(out.join(u.name() + ".fatbin")).map_or(0, |m| m.len()));
    println!("{compiled} of {all} fatbins compiled; {} kB in {}", bytes.sum::<u64>() / 1000, out.display());
    let mut said = String::new();
    for unit in units::units() {
        let file = out.join(unit.name() + ".txt");
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        for target in ALL_TARGETS {
            if !text.contains(&format!("for 'sm_{target}'")) {
                return Err(format!("{}: the compiler said nothing about sm_{target}:\n{text}", unit.name()));
            }
        }
        said += &text;
    }
    let mut found = entries(&said);
    ALL_TARGETS.into_iter().try_for_each(|target| resources(target, found.remove(target).unwrap_or_default(), then))
}

/// Compares each entry's line with the committed one. Spills are an error.
fn resources(target: &str, found: BTreeMap<String, String>, then: Resources) -> Outcome {
    if let Some((entry, line)) = found.iter().find(|(_, line)| !line.ends_with(" spills 0")) {
        return Err(format!("sm_{target}: {entry} spills: {line}"));
    }
    let file = root().join(format!("tests/cuda/resources/sm_{target}.txt"));
    let text: String = found.iter().map(|(entry, line)| format!("{entry} {line}\n")).collect();
    if then == Resources::Write {
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
    if let Some(gone) = committed.keys().find(|entry| !found.contains_key(**entry)) {
        return Err(format!("sm_{target}: {gone} is committed and not compiled any more; `cargo xtask cuda write`"));
    }
    println!("sm_{target}: {} entries as committed", found.len());
    Ok(())
}

/// Of each architecture, (entry, "registers N stack N shared N spills N") from what ptxas says. Shared memory is dynamic, and
/// would be listed as smem.
fn entries(said: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let number = |line: &str, unit: &str| {
        let before = line.split(unit).next()?;
        before.rsplit([' ', ',']).find(|word| !word.is_empty())?.parse::<u32>().ok()
    };
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let (mut target, mut name, mut stack, mut spills) = (String::new(), String::new(), 0, 0);
    for line in said.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let mut quoted = rest.split('\'').map(str::to_owned); // name' for 'sm_90a'
            name = quoted.next().unwrap_or_default();
            target = quoted.nth(1).unwrap_or_default().trim_start_matches("sm_").to_owned();
        } else if line.contains("bytes stack frame") {
            stack = number(line, " bytes stack").unwrap_or(0);
            spills = number(line, " bytes spill stores").unwrap_or(0) + number(line, " bytes spill loads").unwrap_or(0);
        } else if line.contains("Used ") && line.contains(" registers") {
            let registers = number(line, " registers").unwrap_or(0);
            let shared = if line.contains(" bytes smem") { number(line, " bytes smem").unwrap_or(0) } else { 0 };
            let line = format!("registers {registers} stack {stack} shared {shared} spills {spills}");
            found.entry(target.clone()).or_default().insert(name.clone(), line);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_words_become_lines() {
        let said = "ptxas info    : Compiling entry function 'rope' for 'sm_90a'\n\
                    ptxas info    : Function properties for rope\n    8 bytes stack frame, 4 bytes spill stores, 2 bytes spill loads\n\
                    ptxas info    : Used 29 registers, used 1 barriers, 16 bytes smem\n\
                    ptxas info    : Compiling entry function 'rope' for 'sm_120'\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                    ptxas info    : Used 30 registers, used 0 barriers\n";
        let found = entries(said);
        assert_eq!(found["90a"]["rope"], "registers 29 stack 8 shared 16 spills 6");
        assert_eq!(found["120"]["rope"], "registers 30 stack 0 shared 0 spills 0");
    }
}

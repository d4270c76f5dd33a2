//! What is compiled of `cuda/`: which files, for which tensor formats, with which options. Shared by the library (which
//! compiles at run time where it has to), its build script and `cargo xtask cuda`, so it needs nothing but std.
#![allow(dead_code)] // each of the three uses its part

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Kernels that no tensor format enters.
pub const PLAIN: &[&str] = &[
    "attention",
    "attention_tiles",
    "elementwise",
    "experts_combine",
    "head_statistics",
    "kv_append",
    "peak",
    "qkv",
    "quantize",
    "rms_norm",
    "rope",
    "route",
    "sampler",
];
/// Kernels that are compiled for every format.
pub const PER_FORMAT: [&str; 7] =
    ["embed", "experts_down", "experts_gate_up", "head_draw", "matmul", "pack", "soft_embedding"];
/// The formats, by their files in `cuda/quant/`.
pub const FORMATS: [&str; 14] =
    ["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "iq4_nl", "mxfp4", "nvfp4"];
/// Architectures of a shipped fatbin. PTX of the last one comes with it, for devices to come.
pub const ALL_TARGETS: [&str; 6] = ["80", "86", "89", "90a", "100", "120"];
/// For every compiler: C++17, and a product and a sum are fused only where the code says so.
pub const OPTIONS: [&str; 2] = ["-std=c++17", "-fmad=false"];

/// One file, for one format or for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// The file in `cuda/`, without its ending.
    pub file: &'static str,
    /// The format.
    pub format: Option<&'static str>,
}

impl Unit {
    /// `matmul.q4_k`, or `rope`.
    pub fn name(&self) -> String {
        self.format.map_or_else(|| self.file.to_owned(), |format| format!("{}.{format}", self.file))
    }
}

/// All of them.
pub fn units() -> impl Iterator<Item = Unit> {
    let per_format = PER_FORMAT.iter().flat_map(|file| FORMATS.iter().map(|&f| Unit { file, format: Some(f) }));
    PLAIN.iter().map(|file| Unit { file, format: None }).chain(per_format)
}

/// The text of a unit's file with all that it includes, once each and without `#include` lines. `file` gives the text of a
/// file of `cuda/` by its name relative to it.
pub fn joined<'a>(unit: Unit, file: &dyn Fn(&str) -> Option<&'a str>) -> Result<String, String> {
    let mut out = String::new();
    join(&format!("{}.cu", unit.file), unit, file, &mut HashSet::new(), &mut out)?;
    Ok(out)
}

fn join<'a>(
    name: &str,
    unit: Unit,
    file: &dyn Fn(&str) -> Option<&'a str>,
    seen: &mut HashSet<String>,
    out: &mut String,
) -> Result<(), String> {
    let text = file(name).ok_or_else(|| format!("there is no cuda/{name}"))?;
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("#include ") else {
            if line != "#pragma once" {
                out.push_str(line);
                out.push('\n');
            }
            continue;
        };
        let included = match rest.trim().trim_matches('"') {
            "FORMAT_FILE" => format!("{}.cuh", unit.format.unwrap_or_default()),
            included => included.to_owned(),
        };
        let path = match included.strip_prefix("../") {
            Some(above) => above.to_owned(),
            None if folder.is_empty() => included,
            None => format!("{folder}/{included}"),
        };
        join(&path, unit, file, seen, out)?;
    }
    Ok(())
}

/// The files of `cuda/`, as (name relative to it, path), sorted.
pub fn sources(folder: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    for (folder, prefix) in [(folder.to_owned(), ""), (folder.join("quant"), "quant/")] {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".cu") || name.ends_with(".cuh") {
                all.push((format!("{prefix}{name}"), path));
            }
        }
    }
    all.sort();
    Ok(all)
}

/// Everything that a compiled image depends on, as one text.
fn fingerprint(sources: &[(String, PathBuf)]) -> String {
    let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let files = sources.iter().map(|(name, path)| format!("== {name}\n{}", text(path)));
    format!("{OPTIONS:?} {ALL_TARGETS:?}\n{}", files.collect::<String>())
}

/// Whether `folder` holds the images of exactly these sources for all targets.
pub fn made_of(folder: &Path, sources: &[(String, PathBuf)]) -> bool {
    std::fs::read_to_string(folder.join("sources")).is_ok_and(|made_of| made_of == fingerprint(sources))
}

/// Notes what the images in `folder` were made of.
pub fn note_sources(folder: &Path, sources: &[(String, PathBuf)]) -> Result<(), String> {
    let file = folder.join("sources");
    std::fs::write(&file, fingerprint(sources)).map_err(|e| format!("{}: {e}", file.display()))
}

/// Compiles every unit to `<name>.fatbin` in `folder`, with as many compilers at a time as there are cores; what the compiler
/// says of each entry goes to `<name>.txt`. Units whose sources have not changed since are left alone (`<name>.source`);
/// how many were compiled.
pub fn compile(nvcc: &Path, cuda: &Path, folder: &Path) -> Result<usize, String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let read = |(name, path): (String, PathBuf)| match std::fs::read_to_string(&path) {
        Ok(text) => Ok((name, text)),
        Err(e) => Err(format!("{}: {e}", path.display())),
    };
    let files = sources(cuda).map_err(|e| format!("{}: {e}", cuda.display()))?;
    let files: Vec<(String, String)> = files.into_iter().map(read).collect::<Result<_, _>>()?;
    let text = |name: &str| files.iter().find(|(of, _)| of == name).map(|(_, text)| text.as_str());
    let compiled = AtomicUsize::new(0);
    in_parallel(units().collect(), |unit| {
        let made_of = format!("// {OPTIONS:?} {ALL_TARGETS:?}\n{}", joined(unit, &text)?);
        let beside = |ending: &str| folder.join(format!("{}.{ending}", unit.name()));
        let is = |ending: &str| beside(ending).is_file();
        if is("fatbin") && is("txt") && std::fs::read_to_string(beside("source")).is_ok_and(|before| before == made_of)
        {
            return Ok(());
        }
        let said = compile_unit(nvcc, cuda, unit, &beside("fatbin"))?;
        compiled.fetch_add(1, Ordering::Relaxed);
        let write = |ending: &str, text: String| {
            std::fs::write(beside(ending), text).map_err(|e| format!("{}: {e}", beside(ending).display()))
        };
        write("txt", said)?;
        write("source", made_of) // last: it says that the others are whole
    })?;
    Ok(compiled.into_inner())
}

/// Compiles a unit for all architectures; what the compiler says, with registers and memory of each entry.
fn compile_unit(nvcc: &Path, cuda: &Path, unit: Unit, to: &Path) -> Result<String, String> {
    let mut command = Command::new(nvcc);
    command.args(["-fatbin", "-O3", "-compress-mode=size", "-Xptxas", "-v", "-I"]).arg(cuda).args(OPTIONS);
    for target in ALL_TARGETS {
        let newest = Some(&target) == ALL_TARGETS.last();
        let code = if newest { format!("[sm_{target},compute_{target}]") } else { format!("sm_{target}") };
        command.arg("-gencode").arg(format!("arch=compute_{target},code={code}"));
    }
    command.args(unit.format.map(|f| format!("-DFORMAT={f}")));
    run(command.arg("-o").arg(to).arg(cuda.join(unit.file).with_extension("cu")))
}

/// Runs a compiler; its output, or what it said.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(format!("{command:?}: {}\n{said}", output.status)) }
}

/// Calls `f` for each item on as many threads as there are cores; the first failure.
pub fn in_parallel<T: Send>(items: Vec<T>, f: impl Fn(T) -> Result<(), String> + Sync) -> Result<(), String> {
    let (queue, failure) = (Mutex::new(items), Mutex::new(None));
    let work = || {
        loop {
            let next = queue.lock().ok().and_then(|mut queue| queue.pop());
            let Some(item) = next else { return };
            if let Err(e) = f(item) {
                if let Ok(mut failure) = failure.lock() {
                    failure.get_or_insert(e);
                }
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    failure.into_inner().ok().flatten().map_or(Ok(()), Err)
}

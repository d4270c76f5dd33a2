//! Sets the shared library's soname: programs linked today keep loading every 0.x library that says `libdgemma.so.0`.
//! Then gathers the CUDA kernels: their sources, and their compiled form where there is one.
//!
//! - `target/cuda/fatbin/`, written by `cargo xtask cuda`, if it was made of exactly these sources;
//! - else, where `DGEMMA_NVCC` names a compiler or `nvcc` is on the PATH, every kernel is compiled now, which takes minutes;
//! - else none: the library compiles what it needs at run time, through NVRTC.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[path = "backend/cuda/units.rs"]
mod units;

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-changed=src/backend/cuda/units.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libdgemma.so.0");
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        cuda();
    }
}

fn cuda() {
    println!("cargo:rerun-if-changed=cuda");
    println!("cargo:rerun-if-env-changed=DGEMMA_NVCC");
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to write"));
    let sources = units::sources(&root.join("cuda")).expect("the folder cuda/ is part of the package");
    let prebuilt = root.join("target/cuda/fatbin");
    // Named only where it is: a missing file would make every build a new one. Who makes it touches this file.
    if prebuilt.join("sources").is_file() {
        println!("cargo:rerun-if-changed=target/cuda/fatbin/sources");
    }
    let images = if units::made_of(&prebuilt, &sources) {
        Some(prebuilt)
    } else {
        compiler().map(|nvcc| {
            let folder = out.join("fatbin");
            units::compile(&nvcc, &root.join("cuda"), &folder).unwrap_or_else(|e| panic!("{e}"));
            folder
        })
    };
    let mut text = String::from("pub static SOURCES: &[(&str, &str)] = &[\n");
    for (name, path) in &sources {
        let _ = writeln!(text, "    ({name:?}, include_str!({path:?})),");
    }
    text += "];\npub static FATBINS: &[(&str, &Aligned<[u8]>)] = &[\n";
    for unit in images.iter().flat_map(|_| units::units()) {
        let path: PathBuf = images.as_deref().unwrap_or(Path::new("")).join(format!("{}.fatbin", unit.name()));
        let _ = writeln!(text, "    ({:?}, &Aligned(*include_bytes!({path:?}))),", unit.name());
    }
    text += "];\n";
    std::fs::write(out.join("cuda_kernels.rs"), text).expect("OUT_DIR can be written");
}

/// The compiler that the caller named, or the one on the PATH.
fn compiler() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("DGEMMA_NVCC") {
        return (!named.is_empty()).then(|| named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("nvcc")).find(|file| file.is_file())
}

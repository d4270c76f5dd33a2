//! Compiling C and C++ programs against `libdgemma.so` as a user would, and running them.
#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Warnings are errors.
pub const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// A prompt that the built-in model answers with [`ANSWER`].
pub const PROMPT: &str = "What is 7 + 12?";
pub const ANSWER: &str = "19";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The built-in model.
pub fn model() -> PathBuf {
    root().join("examples/tiny/dgemma-tiny.gguf")
}

/// Where programs are compiled to.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The shared library, which cargo puts beside the test executables.
pub fn library() -> PathBuf {
    let library = std::env::current_exe().unwrap().parent().unwrap().join("libdgemma.so");
    assert!(library.exists(), "no {}", library.display());
    library
}

/// A folder with the library under the name that programs look for at run time, its soname.
pub fn runtime_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = folder().join(format!("library-{}", env!("CARGO_CRATE_NAME")));
        std::fs::create_dir_all(&folder).unwrap();
        let link = folder.join("libdgemma.so.0");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(library(), &link).unwrap();
        folder
    })
}

fn compiler(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.into())
}

/// The C compilers: `CC`, or `cc`; and `clang`, where there is one.
pub fn cc() -> Vec<String> {
    with(compiler("CC", "cc"), "clang")
}

/// The C++ compilers: `CXX`, or `c++`; and `clang++`, where there is one.
pub fn cxx() -> Vec<String> {
    with(compiler("CXX", "c++"), "clang++")
}

fn with(first: String, other: &str) -> Vec<String> {
    let there = Command::new(other).arg("--version").output().is_ok_and(|o| o.status.success());
    if there { vec![first, other.into()] } else { vec![first] }
}

/// Runs a compiler in the repository; what it says is an error.
pub fn try_compile(compiler: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(compiler).args(args).current_dir(root()).output();
    let output = output.unwrap_or_else(|e| panic!("{compiler}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    let quiet = output.status.success() && said.is_empty();
    if quiet { Ok(()) } else { Err(format!("{compiler} {}:\n{said}", args.join(" "))) }
}

/// The same where it must have nothing to say.
pub fn compile(compiler: &str, args: &[&str]) {
    try_compile(compiler, args).unwrap_or_else(|said| panic!("{said}"));
}

/// An object file of `source` (a path in the repository), warnings being errors; `include` is where dgemma.h is.
pub fn object(compiler: &str, source: &str, include: &str, flags: &[&str]) -> String {
    let name = source.replace(['/', '.'], "-");
    let out = folder().join(format!("{name}{}.o", flags.concat())).to_str().unwrap().to_owned();
    let fixed = ["-c", source, "-I", include, "-o", &out];
    compile(compiler, &[&STRICT[..], flags, &fixed].concat());
    out
}

/// Objects and the library as a program.
pub fn link(compiler: &str, objects: &[&str], name: &str) -> PathBuf {
    let out = folder().join(name);
    let library = library();
    // The old kind of rpath comes before LD_LIBRARY_PATH, where cargo puts target/release: the README's link there may lead
    // to an older build.
    let rpath = format!("-Wl,--disable-new-dtags,-rpath,{}", runtime_folder().display());
    let fixed = [library.to_str().unwrap(), &rpath, "-pthread", "-o", out.to_str().unwrap()];
    compile(compiler, &[objects, &fixed].concat());
    out
}

/// A program of one file, with the current header.
pub fn program(compiler: &str, source: &str, flags: &[&str]) -> PathBuf {
    let object = object(compiler, source, "include", flags);
    let name = object.trim_end_matches(".o").to_owned();
    link(compiler, &[&object], Path::new(&name).file_name().unwrap().to_str().unwrap())
}

/// What a program prints; it must succeed and have no complaint.
pub fn run<S: AsRef<std::ffi::OsStr>>(program: &Path, args: &[S]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {} {errors}", program.display(), output.status);
    assert_eq!(errors, "", "{}: the library never prints", program.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Model, prompt, answer and a folder: what the test programs of tests/c and tests/cpp are given.
pub fn given() -> [PathBuf; 4] {
    [model(), PROMPT.into(), ANSWER.into(), folder().into()]
}

//! C programs against `libdgemma.so` and `include/dgemma.h`, compiled as a user would, warnings being errors: the example,
//! and the programs of tests/c, plain and with the sanitizers on the C side (the library itself is the release build).
//! `DGEMMA_VALGRIND=1` runs the programs of tests/c under valgrind instead, as `cargo xtask ci` does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// The built-in model, and a prompt that it answers with `ANSWER`.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tiny/dgemma-tiny.gguf");
const PROMPT: &str = "What is 7 + 12?";
const ANSWER: &str = "19";

/// Where programs and files of theirs go.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// Programs of tests/c that count their own checks (see tests/c/check.h): a file, or all files of a folder.
const PROGRAMS: [&str; 2] = ["keep", "misuse"];

/// Undefined behaviour and memory errors end the program; leaks fail it when it ends.
const SANITIZERS: [&str; 3] = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo puts the shared library beside the test executables. Its soname is libdgemma.so.0: programs look for that.
fn library_folder() -> PathBuf {
    static LINK: Once = Once::new();
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    assert!(folder.join("libdgemma.so").exists(), "no libdgemma.so in {}", folder.display());
    LINK.call_once(|| {
        let versioned = Path::new(FOLDER).join("libdgemma.so.0");
        let _ = std::fs::remove_file(&versioned);
        std::os::unix::fs::symlink(folder.join("libdgemma.so"), &versioned).unwrap();
    });
    folder
}

fn compile(sources: &[PathBuf], standard: &str, name: &str, more: &[&str]) -> PathBuf {
    let out = Path::new(FOLDER).join(name);
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(&compiler)
        .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-pthread"])
        .args(more)
        .arg("-I")
        .arg(root().join("include"))
        .arg(format!("-DHEADER=\"{}\"", root().join("include/dgemma.h").display()))
        .args(sources)
        .arg("-L")
        .arg(library_folder())
        .arg("-ldgemma")
        .arg(format!("-Wl,-rpath,{FOLDER}"))
        .arg("-o")
        .arg(&out)
        .status()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(status.success(), "{name} does not compile as {standard}");
    out
}

/// A program of tests/c.
fn compile_test(name: &str, out: &str, more: &[&str]) -> PathBuf {
    let folder = root().join("tests/c");
    let mut sources = vec![folder.join("check.c")];
    match std::fs::read_dir(folder.join(name)) {
        Ok(files) => sources.extend(files.map(|file| file.unwrap().path())),
        Err(_) => sources.push(folder.join(format!("{name}.c"))),
    }
    sources.retain(|path| path.extension().is_some_and(|e| e == "c"));
    compile(&sources, "-std=c99", out, more)
}

/// What the command prints. A word on stderr is a failure, too: the library never prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_example_compiles_without_a_warning_and_runs() {
    for standard in ["-std=c99", "-std=c11", "-std=c17", "-std=c2x"] {
        let program = compile(&[root().join("examples/hello.c")], standard, &format!("hello{standard}"), &[]);
        assert_eq!(run(Command::new(program).args([MODEL, PROMPT])), format!("{ANSWER}\n"));
    }
}

#[test]
fn the_example_in_the_readme_is_the_program_that_is_tested() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let example = std::fs::read_to_string(root().join("examples/hello.c")).unwrap();
    assert!(readme.contains(&format!("```c\n{example}```")), "README.md does not show examples/hello.c as it is");
}

#[test]
fn programs_find_everything_as_the_header_says() {
    for name in PROGRAMS {
        if std::env::var_os("DGEMMA_VALGRIND").is_some() {
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["--quiet", "--error-exitcode=99", "--leak-check=full"]);
            valgrind.args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]);
            let program = compile_test(name, name, &["-g"]);
            let said = run(valgrind.arg(program).args([MODEL, PROMPT, ANSWER, FOLDER]));
            println!("{name}, valgrind: {}", said.trim());
            continue;
        }
        for (kind, more) in [("plain", &[][..]), ("sanitized", &SANITIZERS)] {
            let program = compile_test(name, &format!("{name}-{kind}"), more);
            let said = run(Command::new(program).args([MODEL, PROMPT, ANSWER, FOLDER]));
            println!("{name}, {kind}: {}", said.trim());
        }
    }
}

//! C programs against `libdgemma.so` and `include/dgemma.h`, compiled as a user would, warnings being errors.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo puts the shared library beside the test executables.
fn library_folder() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    assert!(folder.join("libdgemma.so").exists(), "no libdgemma.so in {}", folder.display());
    folder
}

/// The built-in model, and a prompt that it answers with `ANSWER`.
fn model() -> PathBuf {
    root().join("examples/tiny/dgemma-tiny.gguf")
}
const PROMPT: &str = "What is 7 + 12?";
const ANSWER: &str = "19";

/// Programs of tests/c that count their own checks; see tests/c/check.h.
const PROGRAMS: &[&str] = &["keep"];

fn compile(source: &Path, standard: &str, name: &str) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let folder = library_folder();
    // The library's soname is libdgemma.so.0: the program looks for that at run time.
    let versioned = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libdgemma.so.0");
    let _ = std::fs::remove_file(&versioned);
    std::os::unix::fs::symlink(folder.join("libdgemma.so"), &versioned).unwrap();
    let status = Command::new(&compiler)
        .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-I"])
        .arg(root().join("include"))
        .arg(source)
        .arg("-L")
        .arg(&folder)
        .arg("-ldgemma")
        .arg(format!("-Wl,-rpath,{}", env!("CARGO_TARGET_TMPDIR")))
        .arg("-o")
        .arg(&out)
        .status()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(status.success(), "{} does not compile", source.display());
    out
}

fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).arg(model()).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {} {errors}", program.display(), output.status);
    assert_eq!(errors, "", "the library never prints");
    String::from_utf8(output.stdout).unwrap()
}

// One test, so that the link to the library is made once.
#[test]
fn c_programs_compile_without_a_warning_and_run() {
    assert_eq!(run(&compile(&root().join("tests/c/api.c"), "-std=c99", "api"), &[PROMPT]), ANSWER);
    for standard in ["-std=c99", "-std=c11", "-std=c17"] {
        assert_eq!(
            run(&compile(&root().join("examples/hello.c"), standard, "hello"), &[PROMPT]),
            format!("{ANSWER}\n")
        );
    }
    for name in PROGRAMS {
        let program = compile(&root().join(format!("tests/c/{name}.c")), "-std=c99", name);
        println!("{name}: {}", run(&program, &[PROMPT, ANSWER, env!("CARGO_TARGET_TMPDIR")]).trim());
    }
}

#[test]
fn the_example_in_the_readme_is_the_program_that_is_tested() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let example = std::fs::read_to_string(root().join("examples/hello.c")).unwrap();
    assert!(readme.contains(&format!("```c\n{example}```")), "README.md does not show examples/hello.c as it is");
}

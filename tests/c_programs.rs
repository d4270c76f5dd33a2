//! C programs against `libdgemma.so` and `include/dgemma.h`, compiled as a user would, warnings being errors: the example,
//! and the programs of tests/c, plain and with sanitizers on the C side (the library itself is the release build).
//! `cargo xtask ci` runs the latter under valgrind as well (`DGEMMA_VALGRIND=1`).

#[path = "common/native.rs"]
mod native;
use native::{STRICT, cc, cxx, given, link, object, root, run};
use std::path::PathBuf;
use std::process::Command;

/// Programs of tests/c that count their own checks (see tests/c/check.h): a file, or all files of a folder.
const PROGRAMS: [&str; 8] = ["library", "vocabulary", "context", "blocks", "keep", "misuse", "threads", "bus_error"];

/// Undefined behaviour and memory errors end the program; leaks fail it when it ends.
const SANITIZERS: [&str; 3] = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Memory errors and blocks that nothing points to any more. (What pools' threads hold that are still on their way out when
/// the program ends is pointed to, or may be.)
const VALGRIND: [&str; 5] = [
    "--quiet",
    "--error-exitcode=99",
    "--leak-check=full",
    "--show-leak-kinds=definite",
    "--errors-for-leak-kinds=definite",
];

/// A program of tests/c.
fn test_program(name: &str, kind: &str, flags: &[&str]) -> PathBuf {
    let mut sources = vec!["tests/c/check.c".to_owned()];
    match std::fs::read_dir(root().join("tests/c").join(name)) {
        Ok(files) => {
            let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            sources.extend(files.filter(|file| file.ends_with(".c")).map(|file| format!("tests/c/{name}/{file}")));
        }
        Err(_) => sources.push(format!("tests/c/{name}.c")),
    }
    let header = format!("-DHEADER=\"{}\"", root().join("include/dgemma.h").display());
    let all = [&["-std=c11", "-O1", "-pthread"], flags].concat();
    let compile = |source: &String| {
        let out = native::folder().join(format!("{name}-{}{kind}.o", source.replace(['/', '.'], "-")));
        let out = out.to_str().unwrap().to_owned();
        let fixed = ["-c", source, "-I", "include", &header, "-o", &out];
        native::compile(&cc()[0], &[&STRICT[..], &all, &fixed].concat());
        out
    };
    let objects: Vec<String> = sources.iter().map(compile).collect();
    let objects: Vec<&str> = objects.iter().map(String::as_str).chain(flags.iter().copied()).chain(["-lm"]).collect();
    link(&cc()[0], &objects, &format!("{name}{kind}"))
}

fn under_valgrind() -> bool {
    std::env::var_os("DGEMMA_VALGRIND").is_some()
}

/// The header by itself, in every standard of both languages.
#[test]
fn the_header_compiles_without_a_warning() {
    let c = cc().into_iter().map(|compiler| (compiler, "c", ["-std=c99", "-std=c11", "-std=c17", "-std=c2x"]));
    let cpp =
        cxx().into_iter().map(|compiler| (compiler, "c++", ["-std=c++11", "-std=c++14", "-std=c++17", "-std=c++20"]));
    for (compiler, language, standards) in c.chain(cpp) {
        for standard in standards {
            let args = ["-x", language, standard, "-fsyntax-only", "include/dgemma.h"];
            native::compile(&compiler, &[&STRICT[..], &args].concat());
        }
    }
}

#[test]
fn the_example_compiles_without_a_warning_and_runs() {
    for standard in ["-std=c99", "-std=c11", "-std=c17", "-std=c2x"] {
        let object = object(&cc()[0], "examples/hello.c", "include", &[standard]);
        let program = link(&cc()[0], &[&object], &format!("hello{standard}"));
        assert_eq!(run(&program, &given()[..2]), format!("{}\n", native::ANSWER));
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
        if under_valgrind() {
            let program = test_program(name, "-valgrind", &["-g", "-DLIGHT"]);
            let output = Command::new("valgrind").args(VALGRIND).arg(program).args(given()).output().unwrap();
            let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && errors.is_empty(), "{name}, valgrind: {}\n{errors}", output.status);
            println!("{name}, valgrind: {}", said.trim());
            continue;
        }
        for (kind, flags) in [("", &[][..]), ("-sanitized", &SANITIZERS)] {
            let program = test_program(name, kind, flags);
            println!("{name}{kind}: {}", run(&program, &given()).trim());
        }
    }
}

/// Not under valgrind or the sanitizers: they keep memory back.
#[test]
fn a_thousand_loads_leave_memory_flat() {
    if !under_valgrind() {
        println!("leaks: {}", run(&test_program("leaks", "", &[]), &given()).trim());
    }
}

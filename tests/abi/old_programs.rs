//! A folder for each kept release: its header, and programs that are compiled with that header and run with the library of
//! today.

use super::header::{constants, current, functions};
use super::native::{ANSWER, PROMPT, STRICT, cc, folder, link, model, object, root, run, try_compile};

/// The releases whose headers are kept here.
pub fn versions() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("tests/abi")).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().join("dgemma.h").exists());
    let mut versions: Vec<_> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    versions.sort();
    assert!(versions.contains(&"0.1".into()), "{versions:?}");
    versions
}

#[test]
fn programs_compiled_with_an_older_header_run() {
    for version in versions() {
        let include = format!("tests/abi/{version}");
        for cc in cc() {
            let object = object(&cc, &format!("{include}/program.c"), &include, &["-std=c99"]);
            let program = link(&cc, &[&object], &format!("program-{version}"));
            assert_eq!(run(&program, &[model(), PROMPT.into()]), ANSWER, "{version}");
            println!("{version}: built with its header by {cc}, ran");
        }
    }
}

/// The compiler compares the types of a function that is declared twice: the old way and today's.
#[test]
fn functions_are_declared_as_in_older_headers() {
    for version in versions() {
        let path = root().join("tests/abi").join(&version).join("dgemma.h");
        let declared = functions(&std::fs::read_to_string(path).unwrap());
        assert!(!declared.is_empty());
        declared_again(&version, &declared).unwrap();
        println!("{version}: {} functions", declared.len());
    }
    let changed = ["int dgemma_model_load(const char *path);".to_owned()];
    let said = declared_again("changed", &changed).unwrap_err();
    assert!(said.contains("conflicting types"), "a changed function must be noticed: {said}");
}

fn declared_again(version: &str, declared: &[String]) -> Result<(), String> {
    let source = folder().join(format!("declared-{version}.c"));
    std::fs::write(&source, format!("#include <dgemma.h>\n{}\n", declared.join("\n"))).unwrap();
    let args = ["-std=c99", "-fsyntax-only", "-I", "include", source.to_str().unwrap()];
    try_compile(&cc()[0], &[&STRICT[..], &args].concat())
}

/// The reader of headers finds what is there: it would be a poor guard if it overlooked things.
#[test]
fn the_reader_of_headers_reads_all_of_it() {
    let header = current();
    assert_eq!(functions(&header).len(), header.matches("\nDGEMMA_API").count());
    let defines = header.lines().filter(|l| l.starts_with("#define DGEMMA_")).count();
    let enumerators = header.lines().filter(|l| l.starts_with("  DGEMMA_") && l.contains(" = ")).count();
    // Without a number: DGEMMA_H, and DGEMMA_API twice.
    let found = constants(&header).len();
    let numberless = header.lines().filter(|l| *l == "#define DGEMMA_H" || l.starts_with("#define DGEMMA_API")).count();
    assert_eq!(found, defines - numberless + enumerators);
}

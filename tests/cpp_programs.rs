//! C++ programs against `libdgemma.so` and `include/dgemma.hpp`, compiled as a user would, warnings being errors.

#[path = "common/native.rs"]
mod native;
use native::{cxx, given, link, object, program, root, run};

/// Alone, with every standard, in both modes, also under warnings that some projects have on.
#[test]
fn the_header_compiles_without_a_warning() {
    for compiler in cxx() {
        for standard in ["-std=c++17", "-std=c++20", "-std=c++2b"] {
            for mode in ["-fexceptions", "-fno-exceptions"] {
                let more = ["-Wshadow", "-Wconversion", "-Wsign-conversion", "-Wold-style-cast", "-Wundef"];
                let args = ["-x", "c++", "-fsyntax-only", standard, mode, "include/dgemma.hpp"];
                native::compile(&compiler, &[&native::STRICT[..], &more, &args].concat());
            }
        }
        println!("dgemma.hpp: {compiler}");
    }
}

#[test]
fn every_function_of_the_c_api_is_reached() {
    let text = |name: &str| std::fs::read_to_string(root().join("include").join(name)).unwrap();
    let (c, cpp) = (text("dgemma.h"), text("dgemma.hpp"));
    let mut functions: Vec<&str> = Vec::new();
    for api in c.split("DGEMMA_API").skip(1) {
        let head = api.split('(').next().unwrap();
        functions.extend(head.rsplit([' ', '*', '\n']).next().filter(|name| name.starts_with("dgemma_")));
    }
    assert!(functions.len() > 60, "{functions:?}");
    let missing: Vec<_> = functions.iter().filter(|name| !cpp.contains(*name)).collect();
    assert!(missing.is_empty(), "dgemma.hpp has no use of {missing:?}");
}

const CPP17: &str = "-std=c++17";

#[test]
fn programs_compile_as_cpp20_too() {
    for compiler in cxx() {
        for name in ["objects", "callbacks", "errors"] {
            let source = format!("tests/cpp/{name}.cpp");
            let args = ["-std=c++20", "-fsyntax-only", "-I", "include", &source];
            native::compile(&compiler, &[&native::STRICT[..], &args].concat());
        }
    }
}

#[test]
fn programs_with_exceptions_run() {
    for compiler in cxx() {
        for name in ["objects", "callbacks"] {
            let program = program(&compiler, &format!("tests/cpp/{name}.cpp"), &[CPP17]);
            println!("{name}, {compiler}: {}", run(&program, &given()).trim());
        }
    }
}

#[test]
fn a_program_without_exceptions_runs_beside_code_with_them() {
    for compiler in cxx() {
        let results = object(&compiler, "tests/cpp/results.cpp", "include", &[CPP17, "-fno-exceptions"]);
        let errors = object(&compiler, "tests/cpp/errors.cpp", "include", &[CPP17]);
        let program = link(&compiler, &[&results, &errors], "results");
        println!("results, {compiler}: {}", run(&program, &given()).trim());
    }
}

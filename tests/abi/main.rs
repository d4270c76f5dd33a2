//! What programs that are already compiled rely on: `README.md` here says what may change and what not.
//! `cargo xtask abi` (`DGEMMA_WRITE_ABI=1`) writes the committed lists anew, if what changed may change.

mod header;
mod layout;
mod old_programs;
mod symbols;

#[path = "../common/native.rs"]
mod native;

use native::{cc, given, program, root, run};

fn file(name: &str) -> std::path::PathBuf {
    root().join("tests/abi").join(name)
}

fn read(name: &str) -> String {
    let path = file(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn writing() -> bool {
    std::env::var_os("DGEMMA_WRITE_ABI").is_some()
}

/// Smaller structs of older programs, larger ones of newer programs, with a zero and a non-zero end.
#[test]
fn structs_grow_in_both_directions() {
    for cc in cc() {
        let printed = run(&program(&cc, "tests/abi/growth.c", &["-std=c99"]), &given());
        // Every struct that has a size must have been there; dgemma_noise is only ever lent by the library.
        for s in header::structs(&header::current()) {
            let grows = s.fields.first().is_some_and(|f| f == "struct_size") && s.name != "dgemma_noise";
            assert_eq!(printed.lines().any(|l| l == s.name), grows, "growth.c and struct {}", s.name);
        }
        println!("growth, {cc}: {}", printed.lines().last().unwrap());
    }
}

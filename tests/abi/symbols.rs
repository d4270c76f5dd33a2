//! What the shared library exports: the functions of the header, and nothing else; its name; what it needs.

use super::{file, header, native::library, read, writing};
use std::collections::BTreeSet;
use std::process::Command;

fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).arg(library()).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn exported() -> BTreeSet<String> {
    let listed = tool("nm", &["-D", "--defined-only"]);
    listed.lines().filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect()
}

#[test]
fn exported_symbols_are_those_of_the_list_and_of_the_header() {
    let exported = exported();
    let declared = header::functions(&header::current()).iter().map(|d| header::name(d).to_owned()).collect();
    assert_eq!(exported, declared, "the library's symbols (left) are not the header's functions (right)");
    assert!(exported.iter().all(|name| name.starts_with("dgemma_")), "{exported:?}");

    let listed: BTreeSet<String> = read("symbols.txt").lines().map(str::to_owned).collect();
    let gone: Vec<_> = listed.difference(&exported).collect();
    assert!(gone.is_empty(), "{gone:?} must stay: programs that use them would not start any more");
    if writing() {
        let lines: String = exported.iter().map(|name| format!("{name}\n")).collect();
        std::fs::write(file("symbols.txt"), lines).unwrap();
        return;
    }
    let new: Vec<_> = exported.difference(&listed).collect();
    assert!(new.is_empty(), "{new:?} are new: run `cargo xtask abi` and commit tests/abi/symbols.txt");
    println!("{} symbols", exported.len());
}

#[test]
fn the_soname_is_that_of_all_0_x_and_nothing_unusual_is_needed() {
    let dynamic = tool("readelf", &["-d", "-W"]);
    let entries = |tag: &str| -> Vec<&str> {
        dynamic.lines().filter(|l| l.contains(tag)).filter_map(|l| l.split(['[', ']']).nth(1)).collect()
    };
    assert_eq!(entries("(SONAME)"), ["libdgemma.so.0"]);
    let usual = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "libpthread.so.0", "libdl.so.2"];
    let needed = entries("(NEEDED)");
    assert!(needed.contains(&"libc.so.6") && needed.iter().all(|name| usual.contains(name)), "{needed:?}");
    println!("needs {}", needed.join(", "));
}

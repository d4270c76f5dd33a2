//! Sizes and offsets of every public struct and the values of all constants, as a C compiler sees them, against the table
//! `layout.txt` (x86-64; the same on every 64-bit system).
//!
//! ```text
//! sizeof dgemma_perf 88
//! dgemma_perf.steps 16 8          offset, size
//! DGEMMA_STATUS_IO 2
//! ```

use super::{file, header, native, read, writing};
use std::collections::BTreeMap;

/// Entry -> numbers.
type Table = BTreeMap<String, Vec<i64>>;

/// Compiled from a header in `include`, with a program that prints one line for each entry.
fn measured(cc: &str, header: &str, include: &str, name: &str) -> String {
    let mut body = String::new();
    for s in header::structs(header) {
        let name = &s.name;
        body += &format!("    printf(\"sizeof {name} %zu\\n\", sizeof({name}));\n");
        for f in &s.fields {
            let (offset, size) = (format!("offsetof({name}, {f})"), format!("sizeof((({name} *)0)->{f})"));
            body += &format!("    printf(\"{name}.{f} %zu %zu\\n\", {offset}, {size});\n");
        }
    }
    for constant in header::constants(header) {
        body += &format!("    printf(\"{constant} %lld\\n\", (long long){constant});\n");
    }
    let program = format!("#include <dgemma.h>\n#include <stdio.h>\n\nint main(void) {{\n{body}    return 0;\n}}\n");
    let source = native::folder().join(format!("{name}.c"));
    std::fs::write(&source, program).unwrap();
    let out = native::folder().join(name);
    let args = [&native::STRICT[..], &["-std=c99", "-I", include, source.to_str().unwrap(), "-o"]].concat();
    native::compile(cc, &[&args[..], &[out.to_str().unwrap()]].concat());
    native::run::<&str>(&out, &[])
}

fn table(text: &str) -> Table {
    let entry = |line: &str| {
        let numbers = line.split(' ').rev().take_while(|word| word.parse::<i64>().is_ok()).count();
        let words: Vec<_> = line.split(' ').collect();
        let (name, numbers) = words.split_at(words.len() - numbers);
        assert!(!name.is_empty() && !numbers.is_empty(), "{line:?}");
        (name.join(" "), numbers.iter().map(|n| n.parse().unwrap()).collect())
    };
    text.lines().map(entry).collect()
}

/// What may not change from `old` to `new`, one line for each such change.
fn broken(old: &Table, new: &Table) -> Vec<String> {
    let grows = |name: &str| old.contains_key(&format!("{name}.struct_size"));
    let mut out = Vec::new();
    for (entry, before) in old {
        let Some(after) = new.get(entry) else {
            out.push(format!("{entry} is gone"));
            continue;
        };
        let may_grow = entry == "DGEMMA_ABI_VERSION" || entry.strip_prefix("sizeof ").is_some_and(grows);
        if after != before && !(may_grow && after > before) {
            out.push(format!("{entry} was {before:?} and is {after:?}"));
        }
    }
    // A field in what was padding: older programs have garbage there, within the size that they state.
    for (entry, at) in new.iter().filter(|(entry, _)| !old.contains_key(*entry)) {
        let Some((name, _)) = entry.split_once('.') else { continue };
        if let Some(size) = old.get(&format!("sizeof {name}")).filter(|size| at[0] < size[0]) {
            out.push(format!("{entry} is at {}, expected at {} or later, behind the struct as it was", at[0], size[0]));
        }
    }
    out
}

#[test]
fn layouts_and_constants_are_those_of_the_table() {
    let cc = &native::cc()[0];
    let text = measured(cc, &header::current(), "include", "layout");
    let (old, new) = (table(&read("layout.txt")), table(&text));
    let broken = broken(&old, &new);
    assert!(broken.is_empty(), "compiled programs would break:\n{}", broken.join("\n"));
    if writing() {
        std::fs::write(file("layout.txt"), &text).unwrap();
        return;
    }
    assert!(read("layout.txt") == text, "structs have grown: run `cargo xtask abi` and commit tests/abi/layout.txt");
    println!("{} entries", new.len());
}

/// Every kept header's structs are the beginnings of today's, its constants are today's.
#[test]
fn older_headers_agree_with_the_current_one() {
    let cc = &native::cc()[0];
    let new = table(&measured(cc, &header::current(), "include", "layout-now"));
    for version in super::old_programs::versions() {
        let include = format!("tests/abi/{version}");
        let header = std::fs::read_to_string(super::root().join(&include).join("dgemma.h")).unwrap();
        let old = table(&measured(cc, &header, &include, &format!("layout-{version}")));
        let broken = broken(&old, &new);
        assert!(broken.is_empty(), "programs compiled with {version} would break:\n{}", broken.join("\n"));
        println!("{version}: {} entries", old.len());
    }
}

#[test]
fn the_rules_notice_what_breaks_programs() {
    let old = "sizeof a 16\na.struct_size 0 8\na.x 8 4\nsizeof b 8\nb.y 0 8\nDGEMMA_C 3\nDGEMMA_ABI_VERSION 2";
    let change = |from: &str, to: &str| {
        let new = old.replace(from, to);
        assert_ne!(new, old);
        broken(&table(old), &table(&new))
    };
    assert_eq!(broken(&table(old), &table(old)), [""; 0]);
    assert_eq!(change("sizeof a 16", "sizeof a 24\na.z 16 8"), [""; 0]); // appended
    assert_eq!(change("DGEMMA_ABI_VERSION 2", "DGEMMA_ABI_VERSION 3\nDGEMMA_D 4"), [""; 0]);
    assert_eq!(change("a.x 8 4", "a.x 12 4"), ["a.x was [8, 4] and is [12, 4]"]);
    assert_eq!(change("a.x 8 4", "a.x 8 8"), ["a.x was [8, 4] and is [8, 8]"]);
    assert_eq!(change("a.x 8 4\n", ""), ["a.x is gone"]);
    assert_eq!(change("sizeof a 16", "sizeof a 8"), ["sizeof a was [16] and is [8]"]);
    assert_eq!(change("sizeof b 8", "sizeof b 16"), ["sizeof b was [8] and is [16]"]); // it does not state its size
    assert_eq!(change("DGEMMA_C 3", "DGEMMA_C 4"), ["DGEMMA_C was [3] and is [4]"]);
    let padding = ["a.z is at 12, expected at 16 or later, behind the struct as it was"];
    assert_eq!(change("a.x 8 4", "a.x 8 4\na.z 12 4"), padding);
}

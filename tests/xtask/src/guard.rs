//! Speed that cannot get lost unnoticed: instructions of the hot kernels, compared with `tests/bench/guard.csv`. Counts do
//! not depend on how busy a machine is.
//!
//! - `scalar` and `avx2`: callgrind counts what `tests/bench/guard.rs` executes, once and three times; half the difference
//!   is one run of the kernel. Callgrind does not know AVX-512.
//! - `avx512`: of each loop in the program that holds 8-bit or bf16 dot products on 512-bit registers, and no other loop,
//!   the number of these and of all instructions, read from the disassembly. Loops with the same number of dot products
//!   are one entry: the longest of them.

use crate::tools::{Outcome, need, root};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const TABLE: &str = "tests/bench/guard.csv";
const HEADING: &str = "level,kernel,instructions";
/// More than that is a regression: compilers differ by less between patch releases, and the pool's threads wait now and then.
const TOLERANCE: f64 = 1.02;
/// Loops with fewer dot products are not kernels.
const LEAST_DOTS: usize = 8;

type Counts = BTreeMap<(String, String), u64>;

/// Compares, or writes the table anew.
pub fn guard(write: bool) -> Outcome {
    need("valgrind", &["valgrind"])?;
    need("objdump", &["binutils"])?;
    let program = build()?;
    let mut counts = Counts::new();
    for kernel in output(&mut Command::new(&program))?.0.lines() {
        for level in ["scalar", "avx2"] {
            counts.insert((level.into(), kernel.into()), executed(&program, kernel, level)?);
        }
    }
    counts.extend(loops(&output(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(&program))?.0));
    if write {
        let line = |((level, kernel), n): (&(String, String), &u64)| format!("{level},{kernel},{n}\n");
        let text = format!("{HEADING}\n{}", counts.iter().map(line).collect::<String>());
        return std::fs::write(root().join(TABLE), text).map_err(|e| format!("{TABLE}: {e}"));
    }
    compare(&counts, &committed()?)
}

fn committed() -> Result<Counts, String> {
    let text = std::fs::read_to_string(root().join(TABLE)).map_err(|e| format!("{TABLE}: {e}"))?;
    let entry = |line: &str| {
        let mut fields = line.split(',');
        let key = (fields.next()?.to_owned(), fields.next()?.to_owned());
        Some((key, fields.next()?.parse().ok()?))
    };
    text.lines().skip(1).map(|line| entry(line).ok_or_else(|| format!("{TABLE}: {line:?} is no entry"))).collect()
}

fn compare(found: &Counts, committed: &Counts) -> Outcome {
    let mut worse = Vec::new();
    for ((level, kernel), &was) in committed {
        let Some(&is) = found.get(&(level.clone(), kernel.clone())) else {
            worse.push(format!("{level} {kernel} is gone"));
            continue;
        };
        let ratio = is as f64 / was as f64;
        println!("{level:<7} {kernel:<22} {is:>10} instructions, {:+.2} %", 100.0 * (ratio - 1.0));
        if ratio > TOLERANCE {
            worse.push(format!("{level} {kernel} takes {is} instructions instead of {was}"));
        } else if ratio < 2.0 - TOLERANCE {
            println!("  better than committed: `cargo xtask guard-write` notes it down");
        }
    }
    let new =
        found.keys().filter(|key| !committed.contains_key(*key)).map(|(level, kernel)| format!("{level} {kernel}"));
    worse.extend(new.map(|what| format!("{what} is not in {TABLE}")));
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!("{}; `cargo xtask guard-write` writes {TABLE} anew if that is meant to be", worse.join("; ")))
}

/// The program with the kernels.
fn build() -> Result<PathBuf, String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--bench", "guard", "--message-format=json-render-diagnostics"]);
    let messages = output(&mut cargo)?.0;
    let path =
        messages.lines().filter_map(|line| line.split("\"executable\":\"").nth(1)?.split('"').next()).next_back();
    path.map(PathBuf::from).ok_or_else(|| "cargo built no guard".into())
}

/// Instructions of one run of a kernel.
fn executed(program: &Path, kernel: &str, level: &str) -> Result<u64, String> {
    let count = |times: &str| {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args([kernel, level, times]);
        let said = output(&mut valgrind)?.1;
        let number = said.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse::<u64>().ok());
        number.ok_or_else(|| format!("callgrind counted nothing: {said}"))
    };
    Ok((count("3")?.saturating_sub(count("1")?)) / 2)
}

/// The loops with dot products in a disassembly.
fn loops(disassembly: &str) -> Counts {
    let mut found = Counts::new();
    let mut function: Vec<(u64, &str)> = Vec::new();
    for line in disassembly.lines().chain([""]) {
        // `  1234:\tmnemonic operands`, functions between empty lines.
        match line.split_once(":\t").and_then(|(at, what)| Some((u64::from_str_radix(at.trim(), 16).ok()?, what))) {
            Some(instruction) => function.push(instruction),
            None if line.is_empty() => loops_of(&std::mem::take(&mut function), &mut found),
            None => {}
        }
    }
    found
}

fn loops_of(function: &[(u64, &str)], found: &mut Counts) {
    if !function.iter().any(|(_, what)| dot(what).is_some()) {
        return;
    }
    let index = |at: u64| function.binary_search_by_key(&at, |(address, _)| *address).ok();
    // Jumps back: (first, last) instruction of a loop.
    let jumps = function.iter().enumerate().filter_map(|(last, (_, what))| {
        let target = what.strip_prefix('j')?.split_whitespace().nth(1)?;
        let first = index(u64::from_str_radix(target, 16).ok()?)?;
        (first <= last).then_some((first, last))
    });
    let jumps: Vec<(usize, usize)> = jumps.collect();
    for &(first, last) in &jumps {
        if jumps.iter().any(|&(f, l)| (f, l) != (first, last) && f >= first && l <= last) {
            continue; // another loop is inside
        }
        for name in ["vpdpbusd", "vdpbf16ps"] {
            let dots = function[first..=last].iter().filter(|(_, what)| dot(what) == Some(name)).count();
            if dots >= LEAST_DOTS {
                let longest = found.entry(("avx512".into(), format!("{dots}-{name}"))).or_default();
                *longest = (*longest).max((last - first + 1) as u64);
            }
        }
    }
}

/// Which dot product on 512-bit registers an instruction is.
fn dot(what: &str) -> Option<&'static str> {
    ["vpdpbusd", "vdpbf16ps"].into_iter().find(|name| what.starts_with(name) && what.contains("zmm"))
}

/// Standard output and standard error of a program that must succeed.
fn output(command: &mut Command) -> Result<(String, String), String> {
    let shown = format!("{command:?}");
    let out = command.current_dir(root()).output().map_err(|e| format!("{shown}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&out.stdout), text(&out.stderr));
    if out.status.success() { Ok((said, complained)) } else { Err(format!("{shown}: {}: {complained}", out.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop of eight dot products in one that repeats it, and one of seven.
    #[test]
    fn innermost_loops_are_counted() {
        let line = |at: u64, what: &str| format!("  {at:x}:\t{what}\n");
        let dots =
            |from: u64, n: u64| (from..from + n).map(|at| line(at, "vpdpbusd %zmm1,%zmm2,%zmm3")).collect::<String>();
        let inner = dots(0x11, 8) + &line(0x19, "add    $0x1,%rax") + &line(0x1a, "jne    11 <f+0x1>");
        let text = format!("0000000000000010 <f>:\n{}{inner}{}\n", line(0x10, "nop"), line(0x1b, "jb     10 <f>"));
        let seven = format!("0000000000000020 <g>:\n{}{}\n", dots(0x20, 7), line(0x27, "jmp    20 <g>"));
        let expected: Counts = [(("avx512".to_owned(), "8-vpdpbusd".to_owned()), 10)].into();
        assert_eq!(loops(&(text + &seven)), expected);
    }

    #[test]
    fn more_instructions_and_missing_kernels_are_found() {
        let counts = |n: u64| Counts::from([(("avx2".to_owned(), "dense".to_owned()), n)]);
        assert_eq!(compare(&counts(1019), &counts(1000)), Ok(()));
        assert_eq!(compare(&counts(500), &counts(1000)), Ok(()));
        assert!(compare(&counts(1021), &counts(1000)).unwrap_err().contains("1021 instructions instead of 1000"));
        assert!(compare(&Counts::new(), &counts(1000)).unwrap_err().contains("is gone"));
        assert!(compare(&counts(1000), &Counts::new()).unwrap_err().contains("is not in"));
    }
}

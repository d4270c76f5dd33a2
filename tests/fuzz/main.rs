//! The fuzz targets without a fuzzer: the committed inputs, the seeds, and a fixed sequence of changed ones, in the ordinary
//! `cargo test`. `cargo xtask fuzz` searches with libFuzzer; README.md has the rest.

mod common;
mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use targets::{TARGETS, Target, named};

/// The meter of memory is one for the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn check(name: &str) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let target = named(name);
    let seeds = (target.seeds)();
    for (n, seed) in seeds.iter().enumerate() {
        assert!(attempt(target, seed), "{name}: seed {n} is not taken");
    }
    let good = seeds.len();
    let inputs: Vec<Vec<u8>> = seeds.into_iter().chain(committed(name)).collect();
    let taken = inputs.iter().filter(|input| attempt(target, input)).count();
    let mut random = mutate::Random(7);
    let changed = (0..target.changed).filter(|_| attempt(target, &mutate::changed(&inputs, good, &mut random))).count();
    println!("{name}: {taken} of {} inputs and {changed} of {} changed ones were taken", inputs.len(), target.changed);
    std::fs::remove_dir_all(common::folder(name)).unwrap();
    assert!(changed > 0, "{name}: no change gets past the first check: nothing is tested");
}

/// Runs one input; one that fails is kept.
fn attempt(target: &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|panic| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}-failed", target.name));
        std::fs::write(&path, input).unwrap();
        eprintln!("{}: the input that failed is in {}", target.name, path.display());
        std::panic::resume_unwind(panic)
    })
}

/// The committed inputs, in the order of their names.
fn committed(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Where `DGEMMA_FUZZ_SEEDS` names a folder, the seeds are written there, for libFuzzer to begin with.
#[test]
fn seeds() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = std::env::var_os("DGEMMA_FUZZ_SEEDS").map(PathBuf::from);
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert_eq!((target.seeds)(), seeds, "{}: seeds differ from run to run", target.name);
        std::fs::remove_dir_all(common::folder(target.name)).unwrap();
        let Some(folder) = wanted.as_ref().map(|folder| folder.join(target.name)) else { continue };
        std::fs::create_dir_all(&folder).unwrap();
        seeds.iter().enumerate().for_each(|(n, seed)| std::fs::write(folder.join(format!("seed-{n}")), seed).unwrap());
    }
}

/// One of 165 KB took more than 90 MB.
#[test]
fn a_long_special_token_takes_little_memory() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let characters = (0..60_000).filter_map(|n| char::from_u32(0x80 + n * 7919 % 0x780));
    let token = characters.collect::<String>();
    assert!((named("tokenizer").run)(&common::joined(&[&[0], &[b"\x03", token.as_bytes()].concat(), b"", b"a"])));
}

macro_rules! tests {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )*};
}

tests! { gguf model tokenizer chat checkpoint imatrix snapshot capi }

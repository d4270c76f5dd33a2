//! A test that finds no device says so, is counted, and fails where a device is required. True of every test of this program.

use std::process::Command;

/// What a run of this program says, without this file's tests, where there is no device: no stand-in driver, and a real one
/// that hides its devices.
fn without_a_device(require: &str) -> (Option<i32>, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--skip", "skips::", "--test-threads=2"]);
    command.env_remove("LD_LIBRARY_PATH").env("CUDA_VISIBLE_DEVICES", "").env("DGEMMA_REQUIRE_CUDA", require);
    // A checker's runtime loads by itself, but its reports are not of interest here.
    let output = command.env_remove("LD_PRELOAD").output().unwrap();
    (output.status.code(), [output.stdout, output.stderr].map(|o| String::from_utf8(o).unwrap()).concat())
}

fn number_before(text: &str, what: &str) -> usize {
    let before = text.split(what).next().unwrap().rsplit([' ', ';']).find(|word| !word.is_empty()).unwrap();
    before.parse().unwrap_or_else(|_| panic!("{before:?} before {what:?} in {text}"))
}

#[test]
fn every_skip_is_printed_and_counted() {
    let (status, said) = without_a_device("0");
    assert_eq!(status, Some(0), "{said}");
    let passed = number_before(&said, " passed");
    assert!(passed > 20, "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with(": no CUDA device")).count(), passed, "{said}");
    assert!((1..=passed).all(|n| said.contains(&format!("skipped {n}: "))), "{said}");
}

#[test]
fn every_skip_is_a_failure_where_cuda_is_required() {
    let (status, said) = without_a_device("1");
    assert_eq!(status, Some(101), "{said}");
    assert_eq!(number_before(&said, " passed"), 0, "{said}");
    assert!(number_before(&said, " failed") > 20, "{said}");
}

//! A conversion that does not come to its end: killed at any moment, or with no room to write. Either the file is complete
//! or it is not there (or its old self), and nothing else is left behind.

use crate::hf::{Scratch, golden, stderr};
use dgemma::gguf::Gguf;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Converting this takes some tens of milliseconds, many of them writing.
fn converter(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    command.arg("convert").arg(golden().join("tiny-k/hf")).arg(out).args(more);
    if !more.contains(&"--type") {
        command.args(["--type", "f32"]);
    }
    command.stdin(Stdio::null());
    command
}

/// All files beside `out`, by name.
fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(out.parent().unwrap()).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
        })
        .collect()
}

fn clear(out: &Path) {
    for name in files(out).keys() {
        std::fs::remove_file(out.with_file_name(name)).unwrap();
    }
}

/// A moment of the conversion, 0 its start and 1 its end, spread by the golden ratio so that no two are close.
fn moment(i: u32) -> f64 {
    (f64::from(i) * 0.618_034).fract()
}

/// Kills the conversion at 50 moments, and has `check` look at what is there. Some must have been too early and, the last
/// moments being past the end, some too late: else the test would have missed what it is about.
fn kill_at_many_moments(
    name: &str,
    more: &[&str],
    old: &[(&str, &[u8])],
    check: impl Fn(&BTreeMap<String, Vec<u8>>) -> bool,
) {
    let scratch = Scratch::new(name);
    let out = scratch.out();
    let whole = (0..3).map(|_| {
        let clock = Instant::now();
        assert!(converter(&out, more).status().unwrap().success());
        clock.elapsed()
    });
    let whole = whole.min().unwrap(); // the others were disturbed
    let (mut early, mut late) = (0, 0);
    for i in 0..50 {
        clear(&out);
        for (name, bytes) in old {
            std::fs::write(out.with_file_name(name), bytes).unwrap();
        }
        let mut child = converter(&out, more).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(1.3 * moment(i)));
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        let complete = check(&files(&out));
        assert!(complete || !ended, "moment {i}: the program ended without its file");
        *if complete { &mut late } else { &mut early } += 1;
    }
    println!("{name}: {whole:?} undisturbed; killed before the end {early} times, after it {late} times");
    assert!(early >= 10 && late >= 1, "killed {early} times before the end, {late} times after it");
}

#[test]
fn killed_at_any_moment() {
    let scratch = Scratch::new("complete");
    assert!(converter(&scratch.out(), &[]).status().unwrap().success());
    let complete = std::fs::read(scratch.out()).unwrap();
    kill_at_many_moments("killed", &[], &[], |files| match files.get("model.gguf") {
        Some(bytes) => {
            assert!(*bytes == complete, "a file of {} bytes, expected {}", bytes.len(), complete.len());
            assert_eq!(files.len(), 1);
            true
        }
        None => {
            assert_eq!(files.keys().next(), None, "left behind");
            false
        }
    });
}

#[test]
fn killed_while_replacing_a_file() {
    kill_at_many_moments("replacing", &[], &[("model.gguf", b"old")], |files| {
        // Between its two names, a complete file may have the temporary one: rename is the only way to replace.
        let file = &files["model.gguf"];
        assert!(file == b"old" || file.starts_with(b"GGUF"));
        file != b"old"
    });
}

/// Part 1 appears last and an older part 1 goes first, so that whoever can open the set finds all of the new one.
#[test]
fn killed_while_writing_parts() {
    let old: &[u8] = b"old";
    let first = "model-00001-of-00010.gguf";
    let more = ["--split-max-size", "2M"];
    kill_at_many_moments("parts", &more, &[(first, old), ("model-00002-of-00010.gguf", old)], |files| {
        match files.get(first) {
            Some(part) if part == old => {
                assert!(files["model-00002-of-00010.gguf"] == old && files.len() == 2, "old and new parts together");
                false
            }
            Some(_) => {
                let scratch = Scratch::new("parts-found");
                for (name, bytes) in files {
                    std::fs::write(scratch.out().with_file_name(name), bytes).unwrap();
                }
                let file = Gguf::open(&scratch.out().with_file_name(first)).unwrap();
                assert_eq!(file.parts(), 10);
                true
            }
            None => false,
        }
    });
}

/// A limit on the size of files stands for a full disk: reserving the space fails. Nothing of it stays.
#[test]
fn no_room() {
    let scratch = Scratch::new("no-room");
    let mut command = converter(&scratch.out(), &[]);
    // SAFETY: two calls that may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: 100_000, rlim_max: 100_000 };
            if libc::setrlimit(libc::RLIMIT_FSIZE, &limit) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), format!("error: {}: File too large (os error 27)\n", scratch.out().display()));
    assert_eq!(files(&scratch.out()).len(), 0);
}

#[test]
fn sizes_of_parts() {
    let scratch = Scratch::new("sizes");
    for (text, message) in [("0", "'0'"), ("x", "'x'"), ("1.5G", "'1.5G'"), ("-1", "'-1'")] {
        let output = converter(&scratch.out(), &[&format!("--split-max-size={text}")]).output().unwrap();
        assert!(!output.status.success());
        assert!(stderr(&output).contains(message) && stderr(&output).contains("expected a size like 4G"));
    }
    assert!(converter(&scratch.out(), &["--split-max-size", "1G", "--threads", "1"]).status().unwrap().success());
    let single = std::fs::read(scratch.out()).unwrap();
    assert_eq!(files(&scratch.out()).len(), 1);
    assert!(converter(&scratch.out(), &["--threads", "3"]).status().unwrap().success());
    assert!(std::fs::read(scratch.out()).unwrap() == single, "the file depends on the number of threads");
}

/// Every format of a mix passes its own check, with and without threads. (That the check finds errors is shown by a unit
/// test of the pipeline.)
#[test]
fn verified_conversions() {
    let scratch = Scratch::new("verified");
    for mix in
        ["F16", "BF16", "Q8_0", "Q6_K", "Q5_K_S", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K", "IQ4_XS", "IQ4_NL", "MXFP4_MOE"]
    {
        let output = converter(&scratch.out(), &["--verify", "--type", mix]).output().unwrap();
        assert!(output.status.success(), "{mix}: {}", stderr(&output));
    }
}

//! Progress: a bar with throughput and remaining time on a terminal, and not a byte anywhere else.

use crate::hf::{Scratch, golden};
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::process::Command;

fn convert(scratch: &Scratch) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    command.arg("convert").args([golden().join("tiny-k/hf"), scratch.out()]).args(["--type", "Q4_K_M"]);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command
}

/// Both ends of a pseudo-terminal of 100 columns.
fn terminal() -> (File, File) {
    let (mut ours, mut theirs) = (0, 0);
    let size = libc::winsize { ws_row: 25, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: two places to be filled, no name, no settings, a size.
    let opened = unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size) };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: two fresh descriptors that nobody else owns.
    unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) }
}

#[test]
fn bars_are_for_terminals() {
    let scratch = Scratch::new("progress");
    let output = convert(&scratch).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());

    let (mut screen, stderr) = terminal();
    let mut command = convert(&scratch);
    let mut child = command.stderr(stderr).spawn().unwrap();
    drop(command); // and with it the terminal's other end
    let mut seen = Vec::new();
    // The end of a terminal is an error.
    let _ = screen.read_to_end(&mut seen);
    assert!(child.wait().unwrap().success());
    let seen = String::from_utf8_lossy(&seen);
    for part in ["B/s", "MiB/", "s"] {
        assert!(seen.contains(part), "no {part:?} in {seen:?}");
    }
}

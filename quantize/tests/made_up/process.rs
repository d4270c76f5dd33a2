//! What a program needs: time, processor time, memory.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Instant;

/// Of one run.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)] // tests look at the memory only
pub struct Usage {
    pub seconds: f64,
    /// Of all threads, the system's share included.
    pub processor_seconds: f64,
    /// The most that was resident at a time, pages of mapped files included.
    pub peak_bytes: u64,
}

/// Runs `command` to its end. The peak is never less than that of the calling process, whose memory a child has for a moment.
#[allow(clippy::zombie_processes)] // wait4 waits for it, and says more than `Child::wait`
pub fn measured(command: &mut Command) -> Usage {
    let clock = Instant::now();
    let child = command.spawn().unwrap();
    // SAFETY: all zeros is a valid value of a struct of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: a child of ours that nobody else waits for, and two places to be filled.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    let seconds = clock.elapsed().as_secs_f64();
    assert_eq!(waited, child.id() as libc::pid_t);
    assert!(ExitStatus::from_raw(status).success(), "{command:?} failed");
    let time = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let processor_seconds = time(usage.ru_utime) + time(usage.ru_stime);
    Usage { seconds, processor_seconds, peak_bytes: 1024 * usage.ru_maxrss as u64 }
}

//! Resident memory of this process, from /proc; nothing elsewhere.

/// In bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The most that was resident since [`forget_peak`].
    pub peak: u64,
    /// Pages of mapped files that are resident now.
    pub file: u64,
}

/// What the system says, if it does.
pub fn read() -> Option<Memory> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    };
    Some(Memory { peak: field("VmHWM")?, file: field("RssFile")? })
}

/// Gives freed memory back to the system and starts the count of the peak anew; whether that worked.
pub fn forget_peak() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: no arguments that could be wrong.
    unsafe {
        libc::malloc_trim(0);
    }
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

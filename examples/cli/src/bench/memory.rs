//! Resident memory of this process, from /proc; nothing elsewhere.

/// In bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The most that was resident since [`forget_peak`].
    pub peak: u64,
    /// Pages of mapped files that are resident now.
    pub file: u64,
    /// Those of them that are huge pages.
    pub huge: Option<u64>,
}

/// What the system says, if it does.
pub fn read() -> Option<Memory> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let maps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let huge = field(&maps, "FilePmdMapped");
    Some(Memory { peak: field(&status, "VmHWM")?, file: field(&status, "RssFile")?, huge })
}

/// Bytes, of a list of `name: n kB`.
fn field(list: &str, name: &str) -> Option<u64> {
    let line = list.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
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

//! Pages of 2 MB for memory that is read from end to end, such as weights: with those of 4 KB, a processor spends a fifth of a
//! pass of 16 rows per expert on finding them (`tests/bench/SPEED.md`).
//!
//! The system is asked, not forced. Linux gives private memory such pages when it is first touched, and a mapped file when it
//! reads it from the disk, on file systems that hold files in large pieces (ext4 since Linux 6.16, XFS since 5.18). What a file
//! has in memory already stays as it is.

/// Asks for huge pages for this memory, which may not be touched yet.
pub fn advise<T>(memory: &[T]) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a question about this system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let at = memory.as_ptr() as usize;
        let (begin, end) = (at.next_multiple_of(page), (at + size_of_val(memory)) / page * page);
        if begin < end {
            // SAFETY: whole pages of the caller's memory, which keep what they hold. That the system will not is no error.
            unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

//! Giving back the memory of what was read from a mapped file and went somewhere else.

/// Takes the pages of `bytes`, and of what shares a page with them, out of the process. Who reads them again gets them from
/// the file, or from the system's copy of it.
///
/// # Safety
/// `bytes` lie in a read-only mapping of a file.
pub unsafe fn release(bytes: &[u8]) {
    #[cfg(target_os = "linux")]
    // SAFETY: from the start of a page on; the mapping begins with one. Nothing in it can have been written, so that no byte
    // changes. Where the system refuses (locked pages), they stay.
    unsafe {
        let into_page = bytes.as_ptr().addr() % libc::sysconf(libc::_SC_PAGESIZE).max(1) as usize;
        let start = bytes.as_ptr().wrapping_sub(into_page).cast_mut();
        libc::madvise(start.cast(), bytes.len() + into_page, libc::MADV_DONTNEED);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

//! What is asked of the system about the pages of memory. It may refuse, which is no error; elsewhere than on Linux nothing is
//! asked.

#[cfg(target_os = "linux")]
use libc::{MADV_DONTNEED, MADV_HUGEPAGE, c_int, c_void};

/// Asks for pages of 2 MB for memory that is read from end to end, such as weights, and may not be touched yet: with those of
/// 4 KB, a processor spends a fifth of a pass of 16 rows per expert on finding them (`tests/bench/SPEED.md`).
///
/// Linux gives private memory such pages when it is first touched, and a mapped file when it reads it from the disk, on file
/// systems that hold files in large pieces (ext4 since Linux 6.16, XFS since 5.18). What a file has in memory already stays
/// as it is.
pub fn ask_for_huge<T>(memory: &[T]) {
    #[cfg(target_os = "linux")]
    {
        let (at, page) = (memory.as_ptr().addr(), size());
        let (begin, end) = (at.next_multiple_of(page), (at + size_of_val(memory)) / page * page);
        // SAFETY: whole pages of the caller's memory, which keep what they hold.
        unsafe { advise(begin, end.saturating_sub(begin), MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Takes the pages of `bytes`, and of what shares a page with them, out of the process. Who reads them again gets them from
/// the file, or from the system's copy of it. Locked pages stay.
///
/// # Safety
/// `bytes` lie in a read-only mapping of a file.
pub unsafe fn release(bytes: &[u8]) {
    #[cfg(target_os = "linux")]
    // SAFETY: from the start of a page on; the mapping begins with one. Nothing in it can have been written, so that no byte
    // changes.
    unsafe {
        let into_page = bytes.as_ptr().addr() % size();
        advise(bytes.as_ptr().addr() - into_page, bytes.len() + into_page, MADV_DONTNEED);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// # Safety
/// The advice does no harm to these bytes.
#[cfg(target_os = "linux")]
unsafe fn advise(at: usize, bytes: usize, advice: c_int) {
    // SAFETY: the caller's promise.
    unsafe { libc::madvise(at as *mut c_void, bytes, advice) };
}

/// Bytes of a small page.
#[cfg(target_os = "linux")]
fn size() -> usize {
    // SAFETY: a question about this system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

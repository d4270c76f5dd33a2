//! A file that weights are read from, in pieces and by several threads. Read and not mapped: pages of a mapping count as
//! memory of the process until the system takes them back, and here it should need no more for a large file than for a small.

use dgemma::{Error, Result};
use std::fs::File;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// An open file and its name, for messages.
pub struct InputFile {
    /// Its name.
    pub path: PathBuf,
    /// Itself.
    pub file: File,
}

impl InputFile {
    /// Opens the file `path`.
    pub fn open(path: &Path) -> Result<InputFile> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        Ok(InputFile { path: path.to_owned(), file })
    }

    /// Fills `bytes` from its byte `offset` on.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|e| Error::io(&self.path, e))
    }

    /// Asks the system to read `count` bytes from byte `offset` on, without waiting for them.
    pub fn prefetch(&self, offset: u64, count: u64) {
        #[cfg(target_os = "linux")]
        // SAFETY: an open file; the call only advises.
        unsafe {
            let (start, count) = (offset as libc::off_t, count as libc::off_t);
            libc::posix_fadvise(self.file.as_raw_fd(), start, count, libc::POSIX_FADV_WILLNEED);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, count);
    }
}

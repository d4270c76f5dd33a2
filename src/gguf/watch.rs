//! Mapped files under watch. The system answers a read behind the end of a mapped file with a signal that ends the process
//! (SIGBUS), and no library can turn that into an error for its host. What can be done is to look before each pass: a file
//! that was cut is named in an error, and only a cut in the middle of a pass, a matter of milliseconds, gets through.

use crate::{Error, Result};
use std::fs::File;
use std::path::PathBuf;

/// A mapped file. Open, so that a file that was replaced is still the old one.
pub struct Watched {
    pub path: PathBuf,
    pub file: File,
    /// Bytes that are mapped.
    pub bytes: u64,
}

impl Watched {
    /// Refuses a file that is shorter than its mapping.
    pub fn check(&self) -> Result<()> {
        let now = self.file.metadata().map_err(|e| Error::io(&self.path, e))?.len();
        if now >= self.bytes {
            return Ok(());
        }
        let what = format!("was cut from {} to {now} bytes while it was mapped", self.bytes);
        Err(Error::file(&self.path, what))
    }
}

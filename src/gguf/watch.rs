//! Mapped files under watch. The system answers a read behind the end of a mapped file with a signal that ends the process
//! (SIGBUS). So one looks before each pass whether a file was cut, and, if it is guarded (`cut.rs`), after it whether it was cut
//! meanwhile: the error names the file.

use super::Owner;
use super::cut::Guarded;
use crate::{Error, Result};
use std::fs::File;
use std::path::PathBuf;

/// A mapped file. Open, so that a file that was replaced is still the old one.
pub struct Watched {
    pub path: PathBuf,
    pub file: File,
    /// Bytes that are mapped.
    pub bytes: u64,
    pub mapping: Owner,
    pub guarded: Option<Guarded>,
}

impl Watched {
    /// Reads find zeros from now on where the file has no bytes any more.
    pub fn guard(&mut self) {
        self.guarded.get_or_insert_with(|| Guarded::new(&self.mapping));
    }

    /// Refuses a file that is shorter than its mapping, or was when somebody read it.
    pub fn check(&self) -> Result<()> {
        self.check_reads()?;
        let now = self.file.metadata().map_err(|e| Error::io(&self.path, e))?.len();
        if now >= self.bytes {
            return Ok(());
        }
        let what = format!("was cut from {} to {now} bytes while it was mapped", self.bytes);
        Err(Error::file(&self.path, what))
    }

    /// Refuses a file of which a read found less than its mapping.
    pub fn check_reads(&self) -> Result<()> {
        if !self.guarded.as_ref().is_some_and(Guarded::is_damaged) {
            return Ok(());
        }
        let what = format!("was cut from {} bytes, or its disk failed, while it was read; load it anew", self.bytes);
        Err(Error::file(&self.path, what))
    }
}

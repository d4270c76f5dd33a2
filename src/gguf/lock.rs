//! Keeping a file's bytes in memory, so that the system does not push them out while a model waits for its next request.

use super::Owner;
use crate::{Error, Result};
use std::io;
use std::path::Path;

/// Bytes locked in memory until this is dropped.
pub struct Locked(#[cfg_attr(not(unix), allow(dead_code))] Owner);

/// Locks all of `owner`; `path` is for the message.
#[cfg(unix)]
pub fn lock(path: &Path, owner: &Owner) -> Result<Locked> {
    let bytes = (**owner).as_ref();
    // SAFETY: the range belongs to `owner`, which the result keeps alive.
    if unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) } == 0 {
        return Ok(Locked(owner.clone()));
    }
    let system = io::Error::last_os_error();
    let hint = "raise the limit of locked memory (ulimit -l) or load without locking";
    let what = format!("cannot lock {} bytes in memory: {system}; {hint}", bytes.len());
    Err(Error::io(path, io::Error::new(system.kind(), what)))
}

/// Locks all of `owner`; `path` is for the message.
#[cfg(not(unix))]
pub fn lock(path: &Path, _owner: &Owner) -> Result<Locked> {
    let what = "locking memory is not supported on this system; load without it";
    Err(Error::io(path, io::Error::new(io::ErrorKind::Unsupported, what)))
}

#[cfg(unix)]
impl Drop for Locked {
    fn drop(&mut self) {
        let bytes = (*self.0).as_ref();
        // SAFETY: locked by `lock`, and still alive. Pages stay valid whether or not the call succeeds.
        unsafe { libc::munlock(bytes.as_ptr().cast(), bytes.len()) };
    }
}

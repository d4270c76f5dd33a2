//! A file that does not exist until it is complete.
//!
//! On Linux it has no name while it is written (`O_TMPFILE`), so that nothing is left behind even by a process that is
//! killed; where the file system cannot do that, it has a temporary name beside the target, which is removed on failure.
//! Its space is reserved at the start: a disk that is too small is noticed before the work, not after it.

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
pub(super) struct NewFile {
    target: PathBuf,
    file: File,
    /// The name it has for now, if any.
    temporary: Option<PathBuf>,
}

impl NewFile {
    /// A file of `bytes` zeros that is to become `target`.
    pub fn create(target: &Path, bytes: u64) -> Result<NewFile> {
        if target.is_dir() {
            return Err(Error::file(target, "is a directory, expected a file name"));
        }
        let failed = |e| Error::io(target, e);
        let new = match linux::unnamed(directory(target)) {
            Some(file) => NewFile { target: target.to_owned(), file, temporary: None },
            None => {
                let name = temporary_name(target);
                let file = OpenOptions::new().read(true).write(true).create_new(true).open(&name).map_err(failed)?;
                NewFile { target: target.to_owned(), file, temporary: Some(name) }
            }
        };
        linux::reserve(&new.file, bytes).and_then(|()| new.file.set_len(bytes)).map_err(failed)?;
        Ok(new)
    }

    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| Error::io(&self.target, e))
    }

    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|e| Error::io(&self.target, e))
    }

    /// Waits until all of it is on the disk, and has the system forget it: it was written in pieces, and what stays in memory
    /// in small pages is mapped in such (see `pages.rs`).
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(&self.target, e))?;
        linux::forget(&self.file);
        Ok(())
    }

    /// Removes what had the target's name before.
    pub fn remove_old(&self) -> Result<()> {
        match std::fs::remove_file(&self.target) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.target, e)),
            _ => Ok(()),
        }
    }

    /// Gives it its name, in place of what had that before.
    pub fn publish(mut self) -> Result<()> {
        let failed = |e| Error::io(&self.target, e);
        if self.temporary.is_none() {
            // A new name can be given directly, one that is taken only by way of a rename.
            match linux::link(&self.file, &self.target) {
                Ok(()) => {
                    sync_directory(&self.target);
                    return Ok(());
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    let name = temporary_name(&self.target);
                    linux::link(&self.file, &name).map_err(failed)?;
                    self.temporary = Some(name);
                }
                Err(e) => return Err(failed(e)),
            }
        }
        if let Some(name) = &self.temporary {
            std::fs::rename(name, &self.target).map_err(failed)?;
        }
        self.temporary = None;
        sync_directory(&self.target);
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(name) = self.temporary.take() {
            // Nobody to tell; the name says what it was.
            let _ = std::fs::remove_file(name);
        }
    }
}

/// An error if the disk of `target` has no room for `bytes`. What it says may be outdated at once; reserving decides.
pub(super) fn check_space(target: &Path, bytes: u64) -> Result<()> {
    match linux::free_bytes(directory(target)) {
        Some(free) if free < bytes => {
            let what = format!("needs {bytes} bytes, but only {free} are free on its disk");
            Err(Error::file(target, what))
        }
        _ => Ok(()),
    }
}

fn directory(target: &Path) -> &Path {
    target.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The new name is safe once the directory is. Not every system can sync one; the data are safe anyway.
fn sync_directory(target: &Path) {
    let _ = File::open(directory(target)).and_then(|d| d.sync_all());
}

/// `<target>.tmp-<process>-<number>`: in the same directory, so that a rename is enough, and nobody else's.
fn temporary_name(target: &Path) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".tmp-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

/// What only Linux has, and the calls that std lacks.
#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CString;
    use std::fs::{File, OpenOptions};
    use std::io::{Error, Result};
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    /// A file without a name, if it can be had, and named later (which goes by way of /proc).
    pub fn unnamed(directory: &Path) -> Option<File> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(directory).ok()?;
        Path::new(&own_path(&file)).exists().then_some(file)
    }

    fn own_path(file: &File) -> String {
        format!("/proc/self/fd/{}", file.as_raw_fd())
    }

    /// Gives an unnamed file a name that is not taken.
    pub fn link(file: &File, name: &Path) -> Result<()> {
        let (from, to) = (CString::new(own_path(file))?, CString::new(name.as_os_str().as_bytes())?);
        // SAFETY: two strings with terminators.
        let done = unsafe {
            libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
        };
        if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
    }

    /// Reserves space; file systems that cannot are forgiven.
    pub fn reserve(file: &File, bytes: u64) -> Result<()> {
        let Ok(bytes @ 1..) = libc::off_t::try_from(bytes) else { return Ok(()) };
        // SAFETY: an open file.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } == 0 {
            return Ok(());
        }
        let error = Error::last_os_error();
        if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Ok(()) } else { Err(error) }
    }

    /// Drops what the system keeps of a file in memory, if it can.
    pub fn forget(file: &File) {
        // SAFETY: an open file.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }

    /// Bytes that this user may still write there.
    pub fn free_bytes(directory: &Path) -> Option<u64> {
        let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
        let mut stat = MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: a string with its terminator, and a struct to fill; it is filled if the answer is 0.
        let stat = unsafe {
            if libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
                return None;
            }
            stat.assume_init()
        };
        (stat.f_bavail as u64).checked_mul(stat.f_frsize as u64)
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use std::fs::File;
    use std::io::{Error, ErrorKind, Result};
    use std::path::Path;

    pub fn unnamed(_: &Path) -> Option<File> {
        None
    }

    pub fn link(_: &File, _: &Path) -> Result<()> {
        Err(Error::from(ErrorKind::Unsupported))
    }

    pub fn reserve(_: &File, _: u64) -> Result<()> {
        Ok(())
    }

    pub fn forget(_: &File) {}

    pub fn free_bytes(_: &Path) -> Option<u64> {
        None
    }
}

//! What crosses the border: the program's pointers as slices, and results into the program's buffers.
//!
//! A result of unknown length goes out by one rule. The function fills `buffer` of `cap` entries and reports the length
//! in `*len`; if the buffer is too small (or NULL, with a `cap` of 0) nothing but `*len` is written, the answer is
//! DGEMMA_STATUS_BUFFER_TOO_SMALL, and the call can be repeated. Texts get a NUL behind them, which `cap` must have room
//! for and `*len` does not count.

use crate::error::{Error, Result};
use std::ffi::{CStr, c_char, c_void};

/// `pointer`, or the error that it is NULL.
///
/// # Safety
/// `pointer` is NULL, or valid for reads as long as the caller uses the result.
pub(super) unsafe fn required<'a, T>(pointer: *const T, name: &'static str) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| Error::argument(name, "is NULL"))
}

/// Refuses a NULL output.
pub(super) fn output<T>(pointer: *mut T, name: &'static str) -> Result<()> {
    if pointer.is_null() { Err(Error::argument(name, "is NULL")) } else { Ok(()) }
}

/// `len` entries at `pointer`, which may be NULL when there are none.
///
/// # Safety
/// `pointer` is NULL or valid for `len` entries as long as the caller uses the result.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, len: usize, name: &'static str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Error::argument(name, format!("is NULL, expected {len} entries")));
    }
    if !pointer.is_aligned() {
        return Err(Error::argument(name, format!("is not aligned to {} bytes", align_of::<T>())));
    }
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(Error::argument(name, format!("of {len} entries cannot be")));
    }
    // SAFETY: not NULL, aligned, of a length that can be, and valid by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// A C string that must be there and be UTF-8.
///
/// # Safety
/// `text` is NULL or NUL-terminated, and lives as long as the caller uses the result.
pub(super) unsafe fn utf8<'a>(text: *const c_char, name: &'static str) -> Result<&'a str> {
    if text.is_null() {
        return Err(Error::argument(name, "is NULL"));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|e| Error::argument(name, format!("is not UTF-8: {e}")))
}

/// `len` bytes of text, which may hold NULs; NULL when there are none.
///
/// # Safety
/// As [`slice`].
pub(super) unsafe fn text<'a>(text: *const c_char, len: usize, name: &'static str) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(text.cast::<u8>(), len, name)? };
    std::str::from_utf8(bytes).map_err(|e| Error::argument(name, format!("is not UTF-8: {e}")))
}

/// Refuses a buffer that is not there but said to be.
pub(super) fn check_buffer<T>(buffer: *mut T, name: &'static str, cap: usize) -> Result<()> {
    if buffer.is_null() && cap > 0 {
        return Err(Error::argument(name, format!("is NULL, but its cap is {cap}")));
    }
    if !buffer.is_aligned() {
        return Err(Error::argument(name, format!("is not aligned to {} bytes", align_of::<T>())));
    }
    Ok(())
}

/// Fills `buffer`, the argument `name`, by the rule above.
///
/// # Safety
/// `buffer` is NULL or has room for `cap` entries; `len` is NULL or writable.
pub(super) unsafe fn give<T: Copy>(
    values: &[T],
    (buffer, name): (*mut T, &'static str),
    cap: usize,
    len: *mut usize,
) -> Result<()> {
    check_buffer(buffer, name, cap)?;
    // SAFETY: the caller's promise.
    unsafe { deliver(values, buffer, cap, len, values.len()) }
}

/// [`give`] for texts: a NUL behind them.
///
/// # Safety
/// As [`give`].
pub(super) unsafe fn give_text(text: &str, buffer: *mut c_char, cap: usize, len: *mut usize) -> Result<()> {
    check_buffer(buffer, "buffer", cap)?;
    // SAFETY: the caller's promise; `deliver` has checked that `cap` is larger than the text.
    unsafe {
        deliver(text.as_bytes(), buffer.cast::<u8>(), cap, len, text.len() + 1)?;
        buffer.cast::<u8>().add(text.len()).write(0);
    }
    Ok(())
}

/// # Safety
/// As [`give`].
unsafe fn deliver<T: Copy>(values: &[T], buffer: *mut T, cap: usize, len: *mut usize, needed: usize) -> Result<()> {
    if !len.is_null() {
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { len.write(values.len()) };
    }
    if needed > cap {
        return Err(Error::BufferTooSmall { needed, cap });
    }
    if !values.is_empty() {
        // SAFETY: room for `cap` entries by the caller's promise, and `values` are no more.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), buffer, values.len()) };
    }
    Ok(())
}

/// The caller's pointer, which only the caller follows.
#[derive(Clone, Copy)]
pub(super) struct Address(pub *mut c_void);

impl Address {
    pub fn get(self) -> *mut c_void {
        self.0
    }
}

// SAFETY: the address is handed back, never followed; the documentation says that several threads may get it.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

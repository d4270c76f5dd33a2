//! The text of the last failure, per thread.

use std::cell::RefCell;
use std::ffi::{CString, c_char};

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Keeps `text` for [`dgemma_last_error`] on this thread.
pub(super) fn set(text: &str) {
    // A NUL inside (from a file's own text) would cut the message: show it instead.
    let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
    LAST.with_borrow_mut(|last| *last = text);
}

/// The text of the last call that failed on the calling thread: one line of UTF-8 that names the file, tensor, key or
/// argument and says what was expected. Empty if none failed yet; a call that succeeds leaves it as it is.
///
/// Lifetime: valid until the next call of the library on this thread. Do not free it.
///
/// Threads: each has its own text. A binding whose calls move between threads must fetch it on the thread of the failed
/// call, before anything else runs there.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_last_error() -> *const c_char {
    // The pointer outlives the borrow: the string is replaced only by the next failing call on this thread.
    LAST.with_borrow(|last| last.as_ptr())
}

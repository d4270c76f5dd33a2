//! What stands between C and the engine: panics become a status, errors leave their text. `poison.rs` tests what follows.

use super::last_error;
use super::status::dgemma_status;
use crate::error::{Error, Result};
use std::cell::Cell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` and answers with its status. State that a panic left half done is only reachable through the objects of the
/// call, which are behind locks that the panic poisons.
pub(super) fn guard(f: impl FnOnce() -> Result<()>) -> dgemma_status {
    guard_with(&mut Caller::default(), |_| f())
}

/// Where else the text of a failure goes: a buffer of the program's, named in its params.
pub(super) struct Caller {
    pub error_text: *mut c_char,
    pub cap: usize,
}

impl Default for Caller {
    fn default() -> Self {
        Caller { error_text: std::ptr::null_mut(), cap: 0 }
    }
}

/// [`guard`]; `f` says where the program wants the text as soon as it knows. The pointer that it notes must have room for
/// `cap` bytes (the program's promise).
pub(super) fn guard_with(caller: &mut Caller, f: impl FnOnce(&mut Caller) -> Result<()>) -> dgemma_status {
    let Err(error) = catch(|| f(caller)) else { return dgemma_status::Ok };
    let text = error.to_string();
    last_error::set(&text);
    if !caller.error_text.is_null() && caller.cap > 0 {
        let end = text.floor_char_boundary(caller.cap - 1);
        // SAFETY: room for `cap` bytes by the program's promise; `end` is less.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), caller.error_text.cast::<u8>(), end);
            caller.error_text.cast::<u8>().add(end).write(0);
        }
    }
    dgemma_status::from(&error)
}

/// A panic of `f` as an error.
pub(super) fn catch<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    quiet_panics();
    let outer = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    INSIDE.set(outer);
    result.unwrap_or_else(|payload| Err(Error::Internal(format!("panic: {}", text(&*payload)))))
}

fn text(payload: &(dyn std::any::Any + Send)) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("no text")
}

/// The library never prints: panics inside a guarded call, or on the backend's threads on its behalf, bypass the hook
/// that would write to stderr. Panics of the host keep the hook that was there before.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = INSIDE.get() || std::thread::current().name().is_some_and(|n| n.starts_with("dgemma-"));
            if !ours {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn a_panic_becomes_a_status_with_its_text() {
        assert_eq!(guard(|| panic!("tile {} is gone", 7)), dgemma_status::Internal);
        // SAFETY: the pointer is valid until the next call on this thread.
        let text = unsafe { CStr::from_ptr(super::super::dgemma_last_error()) };
        assert_eq!(text.to_str().unwrap(), "internal error: panic: tile 7 is gone");
        assert_eq!(guard(|| Ok(())), dgemma_status::Ok);
    }
}

//! What stands between C and the engine: panics become a status, errors leave their text.

use super::last_error;
use super::status::dgemma_status;
use crate::error::{Error, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` and answers with its status. State that a panic left half done is only reachable through the objects of the
/// call, which the documentation of DGEMMA_STATUS_INTERNAL declares fit for freeing only.
pub(super) fn guard(f: impl FnOnce() -> Result<()>) -> dgemma_status {
    quiet_panics();
    let outer = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    INSIDE.set(outer);
    let error = match result {
        Ok(Ok(())) => return dgemma_status::Ok,
        Ok(Err(error)) => error,
        Err(payload) => Error::Internal(format!("panic: {}", text(&*payload))),
    };
    last_error::set(&error.to_string());
    dgemma_status::from(&error)
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

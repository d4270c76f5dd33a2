//! The host's ear for messages that are not errors.

use super::buffer::Address;
use super::guard::guard;
use super::status::dgemma_status;
use crate::log::{Level, set_sink};
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

/// dgemma_log_callback's level: the result may not be what you want.
pub const DGEMMA_LOG_WARN: u32 = 1;
/// dgemma_log_callback's level: worth knowing once.
pub const DGEMMA_LOG_INFO: u32 = 2;

/// Receives a message: `level` is a DGEMMA_LOG_* value, `text` one line of UTF-8, lent for the time of the call.
pub type dgemma_log_callback = Option<unsafe extern "C" fn(level: u32, text: *const c_char, user_data: *mut c_void)>;

/// Sends the messages of the whole process to `callback`, or nowhere (NULL, which is how it starts). `user_data` is handed
/// to it as it is.
///
/// Answers DGEMMA_STATUS_OK.
///
/// Threads: any. The callback runs on the thread whose call has something to say, so on several at once when several are
/// at work; a call that is under way elsewhere may still use the previous callback for a moment after this one returns.
/// It may call the library, but must not free what the call under way was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_log_set(callback: dgemma_log_callback, user_data: *mut c_void) -> dgemma_status {
    guard(|| {
        let user_data = Address(user_data);
        set_sink(callback.map(|callback| {
            Arc::new(move |level: Level, text: &str| {
                let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
                // SAFETY: the text lives for the call; the function is the caller's.
                unsafe { callback(level as u32, text.as_ptr(), user_data.get()) }
            }) as crate::log::Sink
        }));
        Ok(())
    })
}

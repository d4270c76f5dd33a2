//! Stopping from another thread.

use super::buffer::{output, required};
use super::context::{dgemma_context, shared};
use super::guard::guard;
use super::status::dgemma_status;
use crate::engine::CancelToken;

/// A context's stop button for other threads. It may outlive the context.
pub struct dgemma_canceller(CancelToken);

/// Makes a stop button for a context.
///
/// `context`: not NULL; may be in use. `out`: receives the canceller, to be freed with dgemma_canceller_free(); not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_canceller_create(
    context: *const dgemma_context,
    out: *mut *mut dgemma_canceller,
) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let token = unsafe { shared(context)? }.cancel.clone();
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(Box::into_raw(Box::new(dgemma_canceller(token)))) };
        Ok(())
    })
}

/// Stops the call that runs on the context within the time of one layer: a generation ends as a success with
/// DGEMMA_STOP_REASON_CANCELLED, prefill, step and scoring answer DGEMMA_STATUS_CANCELLED. If nothing runs, the next of
/// those calls stops at once; dgemma_canceller_clear() takes that back.
///
/// `canceller`: not NULL. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_canceller_cancel(canceller: *const dgemma_canceller) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { required(canceller, "canceller")? }.0.cancel();
        Ok(())
    })
}

/// Takes back a cancel that no call has used up. Before a call that must not be stopped by a cancel meant for the one
/// before it.
///
/// `canceller`: not NULL. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_canceller_clear(canceller: *const dgemma_canceller) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { required(canceller, "canceller")? }.0.clear();
        Ok(())
    })
}

/// Frees a canceller; NULL is fine. No other call may be using it. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_canceller_free(canceller: *mut dgemma_canceller) {
    guard(|| {
        if !canceller.is_null() {
            // SAFETY: made by Box::into_raw in dgemma_canceller_create, and not freed yet by the caller's promise.
            drop(unsafe { Box::from_raw(canceller) });
        }
        Ok(())
    });
}

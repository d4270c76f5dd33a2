//! Stopping a generation from another thread.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A context's stop button; clone it to any thread. The call under way ends within one layer's time and uses the press
/// up; a press while nothing runs stops the next call at once, unless [`CancelToken::clear`] comes first.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Presses the button.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes back a press that nothing has used up.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it is pressed.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Passes a call's result on; a press that ended the call is used up.
    pub(super) fn used_up<T>(&self, result: Result<T>) -> Result<T> {
        if matches!(result, Err(Error::Cancelled)) {
            self.clear();
        }
        result
    }
}

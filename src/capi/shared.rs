//! What contexts, blocks and cancellers have in common: one engine context, its lock, its last failure.

use super::guard::catch;
use crate::engine::{CancelToken, Context};
use crate::error::{Error, Result};
use std::sync::{Mutex, TryLockError};

/// An engine context that several C objects hold.
pub(super) struct Shared {
    context: Mutex<Context>,
    /// The text of the last failure.
    failure: Mutex<String>,
    pub cancel: CancelToken,
    pub seed: u64,
}

impl Shared {
    pub fn new(context: Context, seed: u64) -> Self {
        let cancel = context.cancel_token();
        Shared { context: Mutex::new(context), failure: Mutex::default(), cancel, seed }
    }

    /// Runs `f` with the context to itself, or answers that somebody else has it. A call from inside a callback of `f`
    /// finds the lock taken, too. A panic in `f` poisons the lock: later calls say so and touch nothing.
    pub fn run<T>(&self, f: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
        let result = catch(|| match self.context.try_lock() {
            Ok(mut context) => f(&mut context),
            Err(TryLockError::WouldBlock) => Err(Error::Busy("the context")),
            Err(TryLockError::Poisoned(_)) => Err(Error::Internal("the context failed before; free it".into())),
        });
        if let Err(error) = &result
            && !matches!(error, Error::Busy(_))
        {
            *self.failure.lock().unwrap_or_else(|e| e.into_inner()) = error.to_string();
        }
        result
    }

    pub fn failure(&self) -> String {
        self.failure.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

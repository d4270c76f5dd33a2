//! Work space of single operations: grows to the largest need, then stays. Locked while an operation is put on the stream;
//! the stream's order does the rest, so operations of several contexts can share it.

use super::driver::{Device, Memory};
use crate::error::Result;
use std::sync::Arc;

/// Memory for one purpose.
#[derive(Default)]
pub struct Room(Option<Memory>);

impl Room {
    /// At least `bytes` of it. Contents are undefined.
    pub fn of(&mut self, device: &Arc<Device>, bytes: usize) -> Result<&mut Memory> {
        if self.0.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            self.0 = None; // freed first: both may not fit
            self.0 = Some(Memory::new(device, bytes, "work space")?);
        }
        self.0.as_mut().ok_or_else(|| crate::Error::Internal("work space went missing".into()))
    }

    /// What there is of it.
    pub fn held(&self) -> Option<&Memory> {
        self.0.as_ref()
    }
}

/// What operations need beside their arguments.
#[derive(Default)]
pub struct Scratch {
    /// Activations as a product takes them.
    pub operand: Room,
    /// Token ids of an embedding.
    pub ids: Room,
    /// Results of splits of attention.
    pub partial: Room,
    /// Logits of a chunk of the vocabulary.
    pub logits: Room,
    /// The head's rows, run sums and maxima.
    pub rows: Room,
    pub run_sums: Room,
    pub maxima: Room,
    /// Pairs whose log-probabilities are wanted, and those.
    pub given: Room,
    pub found: Room,
}

//! Work space of single operations: grows to the largest need, then stays. Locked while an operation is put on the stream;
//! the stream's order does the rest, so operations of several contexts can share it.

use super::driver::{Device, Memory};
use super::graph;
use super::streamed::Streamed;
use super::weight::Rounding;
use super::{attention, head};
use crate::error::Result;
use std::sync::Arc;

/// Memory for one purpose.
#[derive(Default)]
pub struct Room(Option<Memory>);

impl Room {
    /// At least `bytes` of it. Contents are undefined.
    pub fn of(&mut self, device: &Arc<Device>, bytes: usize) -> Result<&mut Memory> {
        if self.0.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            graph::refuse_to_record()?;
            device.note_growth();
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

/// What decides how large the work space gets.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Rows of the longest pass.
    pub rows: usize,
    /// Rows of a canvas.
    pub canvas: usize,
    /// Tokens.
    pub vocab: usize,
    /// Bytes that a row takes as the operand of the widest product.
    pub operand_row: usize,
    /// Query heads.
    pub heads: usize,
    /// The device's.
    pub limits: Limits,
}

/// What the cut of attention depends on beside its shape.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Multiprocessors of the device.
    pub processors: usize,
    /// Most bytes of shared memory that a block can have there.
    pub shared: usize,
    /// How products round.
    pub rounding: Rounding,
}

impl Work {
    /// Bytes of work space, once every operation ran. Each of `attention` is a layer's K/V heads, their width, and the most
    /// positions that its rows see.
    pub fn bytes(&self, attention: impl Iterator<Item = (usize, usize, usize)>) -> usize {
        let (mut partial, mut operand) = (0, self.rows * self.operand_row);
        let kinds: std::collections::HashSet<_> = attention.collect();
        for (kv_heads, dim, seen) in kinds {
            let shape = (self.heads, kv_heads, dim);
            partial = partial.max(attention::work_bytes(self.rows, shape, seen, self.limits));
            operand = operand.max(attention::operand_bytes(self.rows, shape));
        }
        let ids = self.rows * size_of::<u32>();
        operand + ids + partial + head::work_bytes(self.canvas, self.vocab)
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
    /// What brings weights that live on the host; here, so that whoever fetches one is alone until its kernels are on the
    /// stream.
    pub streamed: Option<Streamed>,
}

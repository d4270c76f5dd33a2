//! The GGUF file format.
//!
//! [`Gguf::open`] maps a file (or a split set) and checks everything that can be checked without touching a tensor; see
//! `reader.rs`. What it returns is cheap to clone from: a [`Tensor`] shares the mapping.

use crate::quant::Format;
use std::ops::Deref;
use std::sync::Arc;

/// A read-only byte range of a mapped file; keeps the mapping alive.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    start: usize,
    len: usize,
}

impl Bytes {
    /// The range `start..start + len` of `owner`. Panics when it lies outside: the reader checks first.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize, len: usize) -> Self {
        assert!(start.checked_add(len).is_some_and(|end| end <= (*owner).as_ref().len()));
        Bytes { owner, start, len }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.start..self.start + self.len]
    }
}

/// A tensor as it lies in the file.
#[derive(Clone)]
pub struct Tensor {
    /// Name in the file.
    pub name: String,
    /// Dimensions in ggml order: `shape[0]` is contiguous (the row length).
    pub shape: Vec<usize>,
    /// How the elements are stored.
    pub format: &'static Format,
    /// `product(shape) / format.block * format.block_bytes` bytes.
    pub data: Bytes,
}

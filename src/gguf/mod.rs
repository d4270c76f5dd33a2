//! The GGUF file format.
//!
//! [`Gguf::open`] maps a file (or a split set) and checks everything that can be checked without touching a tensor; see
//! `part.rs`. What it returns is cheap to clone from: a [`Tensor`] shares the mapping.
//!
//! One part of a file, all little-endian, in this order:
//!
//! | section | content |
//! |---|---|
//! | header | `"GGUF"`, u32 version, u64 number of tensors, u64 number of keys |
//! | metadata | per key: string, u32 value type, value |
//! | tensor infos | per tensor: string, u32 dimensions, u64 each, u32 format id, u64 offset |
//! | padding | up to the alignment (key `general.alignment`, else 32) |
//! | data | the tensors in the order of their infos, each padded up to the alignment |
//!
//! `value.rs`, `array.rs` and `metadata.rs` are the middle of that table, `split.rs` is a set of several parts, `writer.rs` the way
//! back.

mod array;
mod cursor;
mod cut;
mod lock;
mod metadata;
mod new_file;
mod part;
mod reader;
mod split;
mod value;
mod watch;
pub mod writer;

pub use array::{Array, Strings};
pub use metadata::Metadata;
pub use reader::Gguf;
pub use value::Value;

use crate::pages;
use crate::quant::Format;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// What a file lies in: a mapping, a vector, a static array.
pub type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A read-only byte range of a mapped file; keeps the mapping alive.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    start: usize,
    len: usize,
    /// Whether `owner` is a mapped file.
    mapped: bool,
}

impl Bytes {
    /// The range `start..start + len` of `owner`. Panics when it lies outside: the reader checks first.
    pub fn new(owner: Owner, start: usize, len: usize) -> Self {
        let end = start.checked_add(len);
        assert!(end.is_some_and(|end| end <= (*owner).as_ref().len()));
        Bytes { owner, start, len, mapped: false }
    }

    /// Says that `part` of these bytes was read for the last time in a long while: if they are mapped from a file, its memory
    /// goes back to the system, and who reads it after all waits for the file. Bytes in memory stay.
    pub fn release(&self, part: &[u8]) {
        assert!(self.as_ptr_range().start <= part.as_ptr() && part.as_ptr_range().end <= self.as_ptr_range().end);
        if self.mapped {
            // SAFETY: a part of the mapping that `part::open` made.
            unsafe { pages::release(part) }
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.start..self.start + self.len]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({}..+{})", self.start, self.len)
    }
}

/// A tensor as it lies in the file.
#[derive(Clone, Debug)]
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

/// One entry of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the file.
    pub name: String,
    /// Dimensions in ggml order: `shape[0]` is contiguous (the row length).
    pub shape: Vec<usize>,
    /// How the elements are stored.
    pub format: &'static Format,
    /// The part of a split set the tensor lies in, from 0; 0 in a single file.
    pub part: usize,
    /// Where its bytes start in that part, from the beginning of the file.
    pub start: usize,
    /// How many bytes it has, padding excluded.
    pub bytes: usize,
}

/// The alignment of a file without the key `general.alignment`.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// The longest tensor name, in bytes.
pub const MAX_NAME: usize = 63;

/// The most dimensions a tensor can have.
pub const MAX_DIMS: usize = 4;

/// The bytes of a tensor, or what is wrong with its shape. Every size in this module comes from here.
fn tensor_bytes(shape: &[usize], format: &Format) -> Result<usize, String> {
    let (name, block) = (format.name, format.block);
    if shape.is_empty() || shape.len() > MAX_DIMS {
        return Err(format!("{} dimensions, expected 1 to {MAX_DIMS}", shape.len()));
    }
    if shape.contains(&0) {
        return Err(format!("a dimension of {shape:?} is zero"));
    }
    if !shape[0].is_multiple_of(block) {
        return Err(format!("rows of {} elements are no multiple of {name}'s block of {block}", shape[0]));
    }
    // ggml counts elements and bytes in i64.
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
    elements
        .filter(|&n| n <= i64::MAX as u64)
        .and_then(|n| (n / block as u64).checked_mul(format.block_bytes as u64))
        .filter(|&n| n <= i64::MAX as u64)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| format!("shape {shape:?} has more elements than a file can hold"))
}

/// What the tensors of a file with these keys start at multiples of.
fn alignment(metadata: &Metadata) -> crate::Result<usize> {
    let key = "general.alignment";
    match metadata.get(key) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(n)) if n.is_power_of_two() => Ok(*n as usize),
        Some(Value::U32(n)) => Err(metadata.error(key, format!("{n} is not a power of two"))),
        Some(other) => Err(metadata.error(key, format!("is {}, expected u32", other.type_name()))),
    }
}

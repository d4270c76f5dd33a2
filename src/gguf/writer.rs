//! Writing a file, or a split set, without holding more than a chunk of it.
//!
//! Everything up to the first tensor follows from the plan ([`Header`]), so every byte has its place from the start, and
//! several threads can write at once. The file has no name until [`Writer::finish`] (see `new_file.rs`): whatever happens
//! before, the target is either absent (or its old self) or complete.

use super::new_file::{self, NewFile};
use super::split;
use super::value::{Value, write_string};
use super::{MAX_NAME, Metadata, alignment, tensor_bytes};
use crate::quant::Format;
use crate::{Error, Result};
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name in the file, at most 63 bytes.
    pub name: String,
    /// Dimensions in ggml order.
    pub shape: Vec<usize>,
    /// How the elements are stored.
    pub format: &'static Format,
}

/// Everything before the data section, padding included, and the sizes that follow from the plan.
#[derive(Debug)]
pub struct Header {
    /// The bytes of the file up to the first tensor.
    pub bytes: Vec<u8>,
    /// Bytes of each tensor, without padding.
    pub sizes: Vec<usize>,
    /// What each tensor, the last one included, is padded to a multiple of.
    pub alignment: usize,
    /// The size of the whole file.
    pub file_bytes: u64,
}

impl Header {
    /// The header of a file with these keys and tensors, in this order. `file` is for messages.
    pub fn new(file: &Path, metadata: &[(String, Value)], tensors: &[Plan]) -> Result<Header> {
        let alignment = alignment(&Metadata::new(file, metadata.to_vec())?)?;
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            write_string(&mut bytes, key);
            bytes.extend(value.type_id().to_le_bytes());
            value.write(&mut bytes);
        }
        let mut sizes = Vec::with_capacity(tensors.len());
        let mut names = HashSet::new();
        let mut offset: u64 = 0;
        for Plan { name, shape, format } in tensors {
            let wrong = |what: String| Error::tensor(file, name, what);
            let size = tensor_bytes(shape, format).map_err(wrong)?;
            if name.len() > MAX_NAME {
                return Err(wrong(format!("the name has {} bytes, at most {MAX_NAME} are allowed", name.len())));
            }
            if !names.insert(name) {
                return Err(wrong("appears twice".to_owned()));
            }
            write_string(&mut bytes, name);
            bytes.extend((shape.len() as u32).to_le_bytes());
            bytes.extend(shape.iter().flat_map(|&d| (d as u64).to_le_bytes()));
            bytes.extend(format.id.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset = (size as u64)
                .checked_next_multiple_of(alignment as u64)
                .and_then(|padded| offset.checked_add(padded))
                .ok_or_else(|| wrong("the sizes of the tensors overflow".to_owned()))?;
            sizes.push(size);
        }
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        let file_bytes = offset
            .checked_add(bytes.len() as u64)
            .ok_or_else(|| Error::file(file, "the sizes of the tensors overflow"))?;
        Ok(Header { bytes, sizes, alignment, file_bytes })
    }
}

/// A small file in memory, for tests and built-in models.
pub fn to_bytes(metadata: &[(String, Value)], tensors: &[(Plan, Vec<u8>)]) -> Result<Vec<u8>> {
    let file = Path::new("(memory)");
    let plans: Vec<Plan> = tensors.iter().map(|(plan, _)| plan.clone()).collect();
    let Header { mut bytes, sizes, alignment, .. } = Header::new(file, metadata, &plans)?;
    for ((plan, data), size) in tensors.iter().zip(sizes) {
        if data.len() != size {
            return Err(Error::tensor(file, &plan.name, format!("{} bytes given, expected {size}", data.len())));
        }
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
    }
    Ok(bytes)
}

/// A file, or a split set, being written. Dropped without [`Writer::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    target: PathBuf,
    files: Vec<NewFile>,
    places: Vec<Place>,
    file_bytes: u64,
}

/// Where a tensor goes, and how many of its bytes are there.
#[derive(Debug)]
struct Place {
    name: String,
    file: usize,
    start: u64,
    bytes: usize,
    written: AtomicUsize,
}

impl Writer {
    /// Reserves the space on the disk and writes everything but the tensors.
    pub fn create(target: &Path, metadata: &[(String, Value)], tensors: &[Plan]) -> Result<Writer> {
        Self::of_parts(target, vec![(target.to_owned(), metadata.to_vec(), 0..tensors.len())], tensors)
    }

    /// A set of files of at most `max_bytes` of tensors each, or of one tensor where that is more; one plain file if all
    /// fits into one. The parts of `model.gguf` are called `model-00001-of-00003.gguf` and so on.
    pub fn create_split(
        target: &Path,
        metadata: &[(String, Value)],
        tensors: &[Plan],
        max_bytes: u64,
    ) -> Result<Writer> {
        let sizes = Header::new(target, metadata, tensors)?.sizes;
        let ranges = cut(&sizes, max_bytes);
        if ranges.len() == 1 {
            return Self::create(target, metadata, tensors);
        }
        let count = ranges.len();
        let parts = ranges.into_iter().enumerate().map(|(number, range)| {
            let mut keys = if number == 0 { metadata.to_vec() } else { Vec::new() };
            keys.extend(split::keys(number, count, tensors.len())?);
            Ok((split::part_path(target, number, count)?, keys, range))
        });
        Self::of_parts(target, parts.collect::<Result<_>>()?, tensors)
    }

    fn of_parts(target: &Path, parts: Vec<Part>, tensors: &[Plan]) -> Result<Writer> {
        let mut headers = Vec::new();
        for (path, keys, range) in &parts {
            headers.push(Header::new(path, keys, &tensors[range.clone()])?);
        }
        let file_bytes = headers.iter().map(|header| header.file_bytes).sum();
        new_file::check_space(target, file_bytes)?;
        let mut writer = Writer { target: target.to_owned(), files: Vec::new(), places: Vec::new(), file_bytes };
        for ((path, _, range), header) in parts.into_iter().zip(headers) {
            let file = NewFile::create(&path, header.file_bytes)?;
            file.write_at(&header.bytes, 0)?;
            let mut start = header.bytes.len() as u64;
            for (plan, bytes) in tensors[range].iter().zip(header.sizes) {
                let written = AtomicUsize::new(0);
                writer.places.push(Place { name: plan.name.clone(), file: writer.files.len(), start, bytes, written });
                start += bytes.next_multiple_of(header.alignment) as u64;
            }
            writer.files.push(file);
        }
        Ok(writer)
    }

    /// The size that the finished file, or all parts together, will have.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Writes a piece of a tensor, `tensor` being its index in the plan, from its byte `offset` on. Any order, any
    /// threads; each byte exactly once.
    pub fn write_at(&self, tensor: usize, offset: usize, bytes: &[u8]) -> Result<()> {
        let (place, at) = self.place(tensor, offset, bytes.len())?;
        self.files[place.file].write_at(bytes, at)?;
        place.written.fetch_add(bytes.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Reads back what was written to a tensor, from its byte `offset` on.
    pub fn read_at(&self, tensor: usize, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let (place, at) = self.place(tensor, offset, bytes.len())?;
        self.files[place.file].read_at(bytes, at)
    }

    fn place(&self, tensor: usize, offset: usize, len: usize) -> Result<(&Place, u64)> {
        let none = || Error::Internal(format!("there is no tensor {tensor} to write"));
        let place = self.places.get(tensor).ok_or_else(none)?;
        if offset.checked_add(len).is_none_or(|end| end > place.bytes) {
            let what = format!("{len} bytes at {offset} lie outside the {} bytes of its shape", place.bytes);
            return Err(Error::tensor(&self.target, &place.name, what));
        }
        Ok((place, place.start + offset as u64))
    }

    /// Makes sure that everything was written and is on the disk, and gives the file its name. Of a set, part 1 gets its
    /// name last: whoever finds it finds all.
    pub fn finish(mut self) -> Result<()> {
        if let Some(place) = self.places.iter().find(|p| p.written.load(Ordering::Relaxed) != p.bytes) {
            return Err(Error::tensor(&self.target, &place.name, "was not written to its end"));
        }
        for file in &self.files {
            file.sync()?;
        }
        let first = self.files.remove(0);
        if !self.files.is_empty() {
            // Part 1 of an older set must not meet the other parts of this one.
            first.remove_old()?;
        }
        for file in self.files.into_iter().rev() {
            file.publish()?;
        }
        first.publish()
    }
}

/// A part of a set: its path, its keys, its tensors.
type Part = (PathBuf, Vec<(String, Value)>, Range<usize>);

/// Cuts a list of tensor sizes so that no piece is larger than `max_bytes`, unless it is a single tensor.
fn cut(sizes: &[usize], max_bytes: u64) -> Vec<Range<usize>> {
    let (mut pieces, mut begin, mut bytes) = (Vec::new(), 0, 0u64);
    for (i, &size) in sizes.iter().enumerate() {
        if i > begin && bytes + size as u64 > max_bytes {
            pieces.push(begin..i);
            (begin, bytes) = (i, 0);
        }
        bytes += size as u64;
    }
    pieces.push(begin..sizes.len());
    pieces
}

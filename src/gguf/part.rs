//! One file. All checks happen here, before anything is used: whoever holds a `Part` holds a table of tensors whose sizes
//! fit their formats and whose bytes lie inside the file. A file is read as if somebody had made it to do harm: every sum
//! is checked, every count is compared with the bytes that are left, and nothing panics.

use super::cursor::{Cursor, What};
use super::metadata::Metadata;
use super::value::Value;
use super::watch::Watched;
use super::{MAX_DIMS, MAX_NAME, Owner, TensorInfo, tensor_bytes};
use crate::quant::{self, Format};
use crate::{Error, Result, pages};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file of a set, checked for itself.
pub struct Part {
    pub path: PathBuf,
    pub owner: Owner,
    /// The file, if it is mapped.
    pub mapped: Option<Watched>,
    pub version: u32,
    pub alignment: usize,
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
}

/// How a file's bytes come into the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mapped: read when used, shared between processes. The file must not be changed meanwhile.
    Map,
    /// The same, and a cut meanwhile does not end the process: see [`Gguf::guard_reads`](super::Gguf::guard_reads).
    MapGuarded,
    /// Read as a whole: the file may be changed or removed afterwards.
    Read,
}

/// Maps or reads one file and parses it.
pub fn open(path: &Path, access: Access) -> Result<Part> {
    let failed = |e| Error::io(path, e);
    // Asked before opening, because opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::file(path, "is not a regular file"));
    }
    let mut file = File::open(path).map_err(failed)?;
    if access == Access::Read {
        let bytes = usize::try_from(file.metadata().map_err(failed)?.len()).unwrap_or(usize::MAX);
        let mut data = Vec::new();
        data.try_reserve_exact(bytes).map_err(|_| Error::OutOfMemory { bytes, what: "a file" })?;
        pages::ask_for_huge(data.spare_capacity_mut());
        file.read_to_end(&mut data).map_err(failed)?;
        return Part::parse(path, Arc::new(data));
    }
    // SAFETY: the mapping is private and read-only. That nobody truncates or rewrites the file meanwhile is up to the
    // caller, as `Gguf::open` says; no safe way to map a file can promise more.
    let mapping = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
    pages::ask_for_huge(&mapping);
    let (bytes, mapping) = (mapping.len() as u64, Arc::new(mapping));
    let mut mapped = Watched { path: path.to_owned(), file, bytes, mapping: mapping.clone(), guarded: None };
    if access == Access::MapGuarded {
        mapped.guard();
    }
    Ok(Part { mapped: Some(mapped), ..Part::parse(path, mapping)? })
}

/// The numbers of the header.
struct Header {
    version: u32,
    tensors: u64,
    keys: u64,
}

impl Part {
    /// Header, keys and tensor table of one file.
    pub fn parse(path: &Path, owner: Owner) -> Result<Part> {
        let data = (*owner).as_ref();
        let mut c = Cursor::new(data);
        let header = read_header(&mut c).map_err(|what| Error::file(path, what))?;
        let metadata = read_metadata(path, &mut c, header.keys)?;
        let alignment = super::alignment(&metadata)?;
        let tensors = read_tensors(path, &mut c, header.tensors, alignment, data.len())?;
        Ok(Part { path: path.to_owned(), mapped: None, version: header.version, alignment, metadata, tensors, owner })
    }
}

fn read_header(c: &mut Cursor) -> What<Header> {
    let in_header = |what| format!("header: {what}");
    let magic = c.bytes(4).map_err(|_| "is too short for a GGUF file".to_owned())?;
    if magic != b"GGUF" {
        return Err(format!("is not a GGUF file: it begins with {}", magic.escape_ascii()));
    }
    let version = c.u32().map_err(in_header)?;
    match version {
        2 | 3 => {}
        // A small number with its bytes swapped.
        v if v != 0 && v & 0xffff == 0 => {
            return Err("is a big-endian GGUF file, only little-endian ones are supported".to_owned());
        }
        v => {
            return Err(format!("GGUF version {v} is not supported, expected 2 or 3"));
        }
    }
    let tensors = c.u64().map_err(in_header)?;
    let keys = c.u64().map_err(in_header)?;
    // The smallest key has one letter and a one-byte value; the smallest tensor has no name and one dimension.
    for (count, min_bytes, what) in [(keys, 8 + 1 + 4 + 1, "keys"), (tensors, 8 + 4 + 8 + 4 + 8, "tensors")] {
        if count > (c.left() / min_bytes) as u64 {
            return Err(format!("header: {count} {what} cannot fit into the {} bytes left", c.left()));
        }
    }
    Ok(Header { version, tensors, keys })
}

fn read_metadata(path: &Path, c: &mut Cursor, keys: u64) -> Result<Metadata> {
    let mut entries = Vec::with_capacity(keys as usize);
    for i in 0..keys {
        let key = c.string().map_err(|what| Error::file(path, format!("name of key number {i}: {what}")))?;
        let value = c.u32().and_then(|id| Value::read(id, c));
        entries.push((key.to_owned(), value.map_err(|what| Error::key(path, key, what))?));
    }
    Metadata::new(path, entries)
}

/// The tensor table. Offsets may be anything in theory; ggml insists on tensors lying back to back in table order, and so
/// do we, which rules out gaps and overlaps at once.
fn read_tensors(
    path: &Path,
    c: &mut Cursor,
    count: u64,
    alignment: usize,
    file_bytes: usize,
) -> Result<Vec<TensorInfo>> {
    let mut tensors = Vec::with_capacity(count as usize);
    let mut expected: usize = 0;
    for i in 0..count {
        let name = read_name(c).map_err(|what| Error::file(path, format!("name of tensor number {i}: {what}")))?;
        let wrong = |what| Error::tensor(path, name, what);
        let (shape, format, offset) = read_info(c).map_err(wrong)?;
        let bytes = tensor_bytes(&shape, format).map_err(wrong)?;
        if offset != expected as u64 {
            return Err(wrong(format!("starts at {offset} of the data section, expected {expected}")));
        }
        // `start` is relative to the data section until its place is known.
        tensors.push(TensorInfo { name: name.to_owned(), shape, format, part: 0, start: expected, bytes });
        expected = bytes
            .checked_next_multiple_of(alignment)
            .and_then(|padded| expected.checked_add(padded))
            .ok_or_else(|| wrong("the sizes of the tensors overflow".to_owned()))?;
    }
    let data_start = c.at.checked_next_multiple_of(alignment);
    for info in &mut tensors {
        let start = data_start.and_then(|data| data.checked_add(info.start));
        let end = start.and_then(|start| start.checked_add(info.bytes));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(Error::tensor(path, &info.name, "its place in the file overflows"));
        };
        if end > file_bytes {
            let what = format!("ends at byte {end}, but the file has {file_bytes}: truncated?");
            return Err(Error::tensor(path, &info.name, what));
        }
        info.start = start;
    }
    Ok(tensors)
}

fn read_name<'a>(c: &mut Cursor<'a>) -> What<&'a str> {
    let name = c.string()?;
    if name.len() > MAX_NAME {
        return Err(format!("`{name}` has {} bytes, at most {MAX_NAME} are allowed", name.len()));
    }
    Ok(name)
}

/// Shape, format and offset.
fn read_info(c: &mut Cursor) -> What<(Vec<usize>, &'static Format, u64)> {
    let n_dims = c.u32()? as usize;
    if n_dims == 0 || n_dims > MAX_DIMS {
        return Err(format!("{n_dims} dimensions, expected 1 to {MAX_DIMS}"));
    }
    let dim = |n: u64| usize::try_from(n).map_err(|_| format!("dimension {n} is too large"));
    let shape = (0..n_dims).map(|_| c.u64().and_then(dim)).collect::<What<_>>()?;
    let id = c.u32()?;
    let format = quant::by_id(id).ok_or_else(|| match type_name(id) {
        Some(name) => format!("type {name} (id {id}) is not supported"),
        None => format!("unknown type id {id}"),
    })?;
    Ok((shape, format, c.u64()?))
}

/// ggml's name of a type, decoded by this library or not, so that the message helps to pick another file.
fn type_name(id: u32) -> Option<&'static str> {
    const RETIRED: &str = "";
    #[rustfmt::skip]
    const NAMES: [&str; 43] = [
        "F32", "F16", "Q4_0", "Q4_1", RETIRED, RETIRED, "Q5_0", "Q5_1", "Q8_0", "Q8_1",
        "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
        "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M",
        "BF16", RETIRED, RETIRED, RETIRED, "TQ1_0", "TQ2_0", RETIRED, RETIRED, RETIRED, "MXFP4",
        "NVFP4", "Q1_0", "Q2_0",
    ];
    NAMES.get(id as usize).copied().filter(|&name| name != RETIRED)
}

//! Writing a file, tensor by tensor, without holding more than a chunk. The bytes go to a temporary name beside the
//! target, which [`Writer::finish`] moves into place: the target is either absent (or its old self) or complete.

use super::value::{Value, write_string};
use super::{MAX_NAME, Metadata, alignment, tensor_bytes};
use crate::quant::Format;
use crate::{Error, Result};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

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

/// A file being written. Dropped without [`Writer::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    target: PathBuf,
    temporary: PathBuf,
    file: Option<File>,
    names: Vec<String>,
    sizes: Vec<usize>,
    alignment: usize,
    file_bytes: u64,
    /// The tensor being written and how much of it is.
    current: usize,
    written: usize,
}

impl Writer {
    /// Creates the temporary file and writes everything but the tensors.
    pub fn create(target: &Path, metadata: &[(String, Value)], tensors: &[Plan]) -> Result<Writer> {
        let Header { bytes, sizes, alignment, file_bytes } = Header::new(target, metadata, tensors)?;
        if target.is_dir() {
            return Err(Error::file(target, "is a directory, expected a file name"));
        }
        let temporary = temporary_name(target);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary);
        let file = file.map_err(|e| Error::io(&temporary, e))?;
        let mut writer = Writer {
            target: target.to_owned(),
            temporary,
            file: Some(file),
            names: tensors.iter().map(|plan| plan.name.clone()).collect(),
            sizes,
            alignment,
            file_bytes,
            current: 0,
            written: 0,
        };
        writer.put(&bytes)?;
        Ok(writer)
    }

    /// The size the finished file will have.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Appends a chunk of the tensor `name`. Tensors come in the order of the plan, each to its last byte.
    pub fn write(&mut self, name: &str, chunk: &[u8]) -> Result<()> {
        let wrong = |what: String| Error::tensor(&self.target, name, what);
        match self.names.get(self.current) {
            Some(expected) if expected == name => {}
            Some(expected) => {
                return Err(wrong(format!("written out of order, expected `{expected}`")));
            }
            None => return Err(wrong("written after the last tensor".to_owned())),
        }
        let size = self.sizes[self.current];
        if chunk.len() > size - self.written {
            return Err(wrong(format!("more than the {size} bytes of its shape were written")));
        }
        self.put(chunk)?;
        self.written += chunk.len();
        if self.written == size {
            self.put(&vec![0; size.next_multiple_of(self.alignment) - size])?;
            (self.current, self.written) = (self.current + 1, 0);
        }
        Ok(())
    }

    /// Makes sure that the file is complete and on the disk, and moves it to its name.
    pub fn finish(mut self) -> Result<()> {
        if let Some(name) = self.names.get(self.current) {
            return Err(Error::tensor(&self.target, name, "was not written to its end"));
        }
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let failed = |e| Error::io(&self.target, e);
        let moved = file.sync_all().and_then(|()| std::fs::rename(&self.temporary, &self.target));
        if moved.is_err() {
            self.file = Some(file);
        }
        moved.map_err(failed)?;
        // The new name is safe once the directory is. Not every system can sync one; the data are safe anyway.
        if let Some(directory) = self.target.parent() {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            let _ = File::open(directory).and_then(|d| d.sync_all());
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(|e| Error::io(&self.temporary, e)),
            None => Err(Error::Internal("write to a finished file".to_owned())),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Nobody to tell; the name says what it was.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// `<target>.tmp-<process>-<number>`: in the same directory, so that a rename is enough, and nobody else's.
fn temporary_name(target: &Path) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".tmp-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

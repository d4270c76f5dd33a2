//! An open file. [`Gguf::open`] is also where a reader of the code starts: it maps the parts (`part.rs`), puts a split
//! set together (`split.rs`), and builds the index of tensors.

use super::lock::{Locked, lock};
use super::metadata::Metadata;
use super::part::{Access, Part, open};
use super::watch::Watched;
use super::{Bytes, Owner, Tensor, TensorInfo, split};
use crate::{Error, Result, pages};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open file, or an open split set.
pub struct Gguf {
    /// Of the parts, in order.
    paths: Vec<PathBuf>,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    /// What the parts lie in, in order.
    owners: Vec<Owner>,
    /// Those of them that are mapped files.
    mapped: Vec<Watched>,
    /// Those of them that are locked in memory.
    locked: Vec<Locked>,
    version: u32,
    alignment: usize,
}

impl Gguf {
    /// Opens `path`, and with it all other parts when it is part 1 of a split set. The files are mapped and must not be
    /// changed or truncated while the result, or a tensor of it, is in use.
    pub fn open(path: &Path) -> Result<Gguf> {
        Gguf::open_as(path, Access::Map)
    }

    /// [`Gguf::open`], but the files are read into memory: they may be changed or removed afterwards.
    pub fn read(path: &Path) -> Result<Gguf> {
        Gguf::open_as(path, Access::Read)
    }

    /// [`Gguf::open`] with [`Gguf::guard_reads`] from the first byte on.
    pub fn open_guarded(path: &Path) -> Result<Gguf> {
        Gguf::open_as(path, Access::MapGuarded)
    }

    fn open_as(path: &Path, access: Access) -> Result<Gguf> {
        Gguf::from_parts(split::open_set(open(path, access)?, access)?)
    }

    /// Locks all bytes in memory until this is dropped, so that the system never pushes them out.
    ///
    /// [`Error::Io`]: the system refuses, usually because of its limit of locked memory.
    pub fn lock_memory(&mut self) -> Result<()> {
        self.locked = self.owners.iter().map(|owner| lock(&self.paths[0], owner)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Makes a cut of a mapped file while a tensor is read survivable, on Linux: what is missing reads as zeros, and
    /// [`Gguf::check_reads`] tells. Without this the system ends the process. Installs, once for the process, a handler of
    /// SIGBUS that passes on what is not about a file of this kind. Whoever asks for it promises to throw away what was made
    /// of tensors when `check_reads` fails afterwards.
    pub fn guard_reads(&mut self) {
        self.mapped.iter_mut().for_each(Watched::guard);
    }

    /// Looks whether the mapped files are still as long as their mappings: reading a tensor would end the process, or give
    /// zeros, if not. A system call for each file.
    ///
    /// [`Error::File`]: one was cut.
    pub fn check_mapping(&self) -> Result<()> {
        self.mapped.iter().try_for_each(Watched::check)
    }

    /// Looks whether what was read since [`Gguf::guard_reads`] was there. No system call.
    ///
    /// [`Error::File`]: a part was missing. Stays so: the zeros in its place do not go.
    pub fn check_reads(&self) -> Result<()> {
        self.mapped.iter().try_for_each(Watched::check_reads)
    }

    /// [`Bytes::release`](super::Bytes::release) of all mapped files.
    pub fn release(&self) {
        // SAFETY: the mappings that `part::open` made.
        self.mapped.iter().for_each(|file| unsafe { pages::release((*file.mapping).as_ref()) });
    }

    /// Reads a file that is in memory already, for example one built into a program. `name` is for messages.
    pub fn from_bytes(name: &Path, bytes: Vec<u8>) -> Result<Gguf> {
        Gguf::from_owner(name, Arc::new(bytes))
    }

    /// [`Gguf::from_bytes`] without a copy, for a `&'static [u8]` or a mapping.
    pub fn from_owner(name: &Path, owner: Owner) -> Result<Gguf> {
        let part = Part::parse(name, owner)?;
        split::refuse(&part)?;
        Gguf::from_parts(vec![part])
    }

    fn from_parts(parts: Vec<Part>) -> Result<Gguf> {
        let mut parts = parts.into_iter().enumerate();
        let (_, first) = parts.next().ok_or_else(|| Error::Internal("a file without parts".to_owned()))?;
        let Part { path, owner, mapped, version, alignment, metadata, tensors } = first;
        let mut gguf = Gguf {
            paths: vec![path.clone()],
            metadata,
            tensors: Vec::new(),
            index: HashMap::new(),
            owners: vec![owner],
            mapped: mapped.into_iter().collect(),
            locked: Vec::new(),
            version,
            alignment,
        };
        gguf.add_tensors(&path, 0, tensors)?;
        for (number, part) in parts {
            gguf.add_tensors(&part.path, number, part.tensors)?;
            gguf.paths.push(part.path);
            gguf.owners.push(part.owner);
            gguf.mapped.extend(part.mapped);
        }
        Ok(gguf)
    }

    fn add_tensors(&mut self, file: &Path, part: usize, tensors: Vec<TensorInfo>) -> Result<()> {
        for info in tensors {
            if self.index.insert(info.name.clone(), self.tensors.len()).is_some() {
                return Err(Error::tensor(file, &info.name, "appears twice"));
            }
            self.tensors.push(TensorInfo { part, ..info });
        }
        Ok(())
    }

    /// The file's name; of a split set that of part 1.
    pub fn path(&self) -> &Path {
        &self.paths[0]
    }

    /// The name of part `part`, counted from 0. Panics when there is no such part.
    pub fn part_path(&self, part: usize) -> &Path {
        &self.paths[part]
    }

    /// The bytes of all parts together.
    pub fn file_bytes(&self) -> u64 {
        self.owners.iter().map(|owner| (**owner).as_ref().len() as u64).sum()
    }

    /// How many files it is.
    pub fn parts(&self) -> usize {
        self.owners.len()
    }

    /// Format version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What tensors start at multiples of; of a split set that of part 1.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let info = &self.tensors[*self.index.get(name)?];
        Some(Tensor {
            name: info.name.clone(),
            shape: info.shape.clone(),
            format: info.format,
            data: Bytes {
                // Parts of a set are mapped all, or none.
                mapped: !self.mapped.is_empty(),
                ..Bytes::new(self.owners[info.part].clone(), info.start, info.bytes)
            },
        })
    }

    /// The tensor called `name`, or the error that says it is missing.
    pub fn require(&self, name: &str) -> Result<Tensor> {
        self.tensor(name).ok_or_else(|| Error::tensor(self.path(), name, "is missing"))
    }
}

impl std::fmt::Debug for Gguf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Gguf({}, {} keys, {} tensors)",
            self.path().display(),
            self.metadata.entries().len(),
            self.tensors.len()
        )
    }
}

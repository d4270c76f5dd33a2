//! The weights of a checkpoint: `model.safetensors`, or the shards that `model.safetensors.index.json` lists. Headers are
//! parsed through a mapping, weights are read in pieces, so that memory does not grow with the model.

use crate::input_file::InputFile;
use crate::json::File as Json;
use crate::source::Source;
use dgemma::quant::{self, Format};
use dgemma::{Error, Result};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All tensors of a checkpoint.
pub struct Checkpoint {
    /// The one file, or the index of several.
    pub path: PathBuf,
    tensors: BTreeMap<String, Stored>,
}

/// One tensor of a checkpoint.
#[derive(Clone)]
pub struct Stored {
    /// Its name there.
    pub name: String,
    /// PyTorch order: the last dimension is contiguous.
    pub shape: Vec<usize>,
    dtype: Dtype,
    /// Where its bytes are.
    start: u64,
    file: Arc<InputFile>,
}

impl Checkpoint {
    /// Reads the headers of all files in `directory`.
    pub fn open(directory: &Path) -> Result<Checkpoint> {
        let (file, index) = (directory.join("model.safetensors"), directory.join("model.safetensors.index.json"));
        let mut tensors = BTreeMap::new();
        let path = match Json::read_if_there(&index)? {
            None => {
                read_shard(&file, &mut tensors)?;
                file
            }
            Some(list) => {
                read_shards(directory, &list, &mut tensors)?;
                index
            }
        };
        Ok(Checkpoint { path, tensors })
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// All tensors by name.
    pub fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.tensors.values()
    }
}

fn read_shards(directory: &Path, index: &Json, tensors: &mut BTreeMap<String, Stored>) -> Result<()> {
    let map = index.root().need("weight_map")?;
    let mut shards = BTreeSet::new();
    for (_, file) in map.members()? {
        let name = file.str()?;
        // A path could lead anywhere.
        if Path::new(name).file_name().is_none_or(|n| n != name) {
            return Err(file.error(format!("{name:?} is not a plain file name")));
        }
        shards.insert(name);
    }
    for name in shards {
        read_shard(&directory.join(name), tensors)?;
    }
    for (name, file) in map.members()? {
        let shard = directory.join(file.str()?);
        match tensors.get(name) {
            Some(tensor) if tensor.file.path == shard => {}
            Some(tensor) => {
                return Err(tensor.error(format!("the index says it is in {}", shard.display())));
            }
            None => {
                return Err(Error::tensor(&shard, name, "is missing, but the index lists it"));
            }
        }
    }
    Ok(())
}

fn read_shard(path: &Path, tensors: &mut BTreeMap<String, Stored>) -> Result<()> {
    let file = Arc::new(InputFile::open(path)?);
    let (data_start, header) = read_header(&file)?;
    // By name, so that of several mistakes it is always the same that is reported.
    let by_name: BTreeMap<_, _> = header.tensors().into_iter().collect();
    for (name, info) in by_name {
        let start = data_start + info.data_offsets.0 as u64;
        let source =
            Stored { name: name.clone(), shape: info.shape.clone(), dtype: info.dtype, start, file: file.clone() };
        if let Some(other) = tensors.insert(name, source) {
            return Err(other.error(format!("is also in {}", path.display())));
        }
    }
    Ok(())
}

/// Where the data start, and what they are. The crate checks that the tensors fill the file exactly.
fn read_header(InputFile { path, file }: &InputFile) -> Result<(u64, Metadata)> {
    // SAFETY: a read-only mapping that lives no longer than this function; the file is the user's own, and nobody is
    // expected to truncate it while it is being converted.
    let mapping = unsafe { memmap2::Mmap::map(file) }.map_err(|e| Error::io(path, e))?;
    let (length, header) = SafeTensors::read_metadata(&mapping)
        .map_err(|e| Error::file(path, format!("is truncated or not a safetensors file: {e}")))?;
    check_unique(path, &mapping[8..8 + length])?;
    Ok((8 + length as u64, header))
}

/// Of a name that the header has twice, the crate would take the last entry and say nothing.
fn check_unique(path: &Path, header: &[u8]) -> Result<()> {
    let mut seen = BTreeSet::new();
    let names = serde_json::from_slice::<Names>(header).map_err(|e| Error::file(path, format!("header: {e}")))?;
    match names.0.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(Error::tensor(path, name, "appears twice in the header")),
        None => Ok(()),
    }
}

/// The names in a JSON object, all of them.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Names, D::Error> {
        deserializer.deserialize_map(Names(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = Names;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<Names, A::Error> {
        while let Some((name, IgnoredAny)) = map.next_entry()? {
            self.0.push(name);
        }
        Ok(self)
    }
}

impl Stored {
    /// An error about this tensor.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::tensor(&self.file.path, &self.name, what)
    }

    /// How its elements are stored, in the words of safetensors.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether it has one element.
    pub fn is_scalar(&self) -> bool {
        self.shape.iter().all(|&n| n == 1)
    }

    /// An error if it is not stored as `dtype` in this shape.
    pub fn expect(&self, dtype: Dtype, shape: &[usize]) -> Result<()> {
        if self.dtype != dtype {
            return Err(self.error(format!("is stored as {:?}, expected {dtype:?}", self.dtype)));
        }
        match self.shape == shape {
            true => Ok(()),
            false => Err(self.error(format!("has shape {:?}, expected {shape:?}", self.shape))),
        }
    }

    /// All elements of a small tensor. They must be finite.
    pub fn numbers(&self) -> Result<Vec<f32>> {
        let format = self.format()?;
        let mut numbers = vec![0.0; self.shape.iter().product()];
        let mut bytes = vec![0; numbers.len() * format.block_bytes];
        self.read_bytes(0, &mut bytes)?;
        (format.decode)(&bytes, &mut numbers);
        match numbers.iter().position(|x: &f32| !x.is_finite()) {
            Some(at) => Err(self.error(format!("element {at} is {}", numbers[at]))),
            None => Ok(numbers),
        }
    }

    /// How its elements are stored, if in a way that weights can be.
    pub fn format(&self) -> Result<&'static Format> {
        let name = match self.dtype {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            other => {
                return Err(self.error(format!("is stored as {other:?}, expected F32, F16 or BF16")));
            }
        };
        quant::by_name(name).ok_or_else(|| Error::Internal(format!("no format {name}")))
    }

    /// Fills `bytes` from its byte `offset` on.
    pub fn read_bytes(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_at(self.start + offset, bytes)
    }

    /// Asks the system to read `count` bytes from byte `offset` on, without waiting for them.
    pub fn prefetch_bytes(&self, offset: u64, count: u64) {
        self.file.prefetch(self.start + offset, count);
    }
}

/// A tensor in a [`Format`], as most are.
pub struct Plain {
    tensor: Stored,
    format: &'static Format,
}

impl Plain {
    /// `tensor`, if it is one.
    pub fn new(tensor: Stored) -> Result<Plain> {
        let format = tensor.format()?;
        Ok(Plain { tensor, format })
    }
}

impl Source for Plain {
    fn error(&self, what: &str) -> Error {
        self.tensor.error(what)
    }

    fn format(&self) -> Option<&'static Format> {
        Some(self.format)
    }

    fn prefetch(&self, start: usize, count: usize) {
        let bytes = |elements: usize| (elements / self.format.block * self.format.block_bytes) as u64;
        self.tensor.prefetch_bytes(bytes(start), bytes(count));
    }

    fn read_stored(&self, start: usize, out: &mut [u8]) -> Result<()> {
        self.tensor.read_bytes((start / self.format.block * self.format.block_bytes) as u64, out)
    }
}

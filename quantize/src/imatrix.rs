//! Importance matrices: for each weight, how strongly each column of its input is driven. An error in a strong column costs
//! more, so an encoder that knows them spends its precision there.
//!
//! The file is llama.cpp's (`tools/imatrix/imatrix.cpp`, GGUF since mid-2025), readable by its `llama-quantize` and the other
//! way round:
//!
//! | key | type | meaning |
//! |---|---|---|
//! | `general.type` | string | `imatrix` |
//! | `imatrix.datasets` | array of string | names of the texts |
//! | `imatrix.chunk_count` | u32 | chunks of text that were run |
//! | `imatrix.chunk_size` | u32 | tokens of a chunk |
//!
//! | tensor, F32 | shape (row length first) | meaning |
//! |---|---|---|
//! | `<weight>.in_sum2` | `[columns, matrices]` | sum of squares of each input column |
//! | `<weight>.counts` | `[1, matrices]` | input rows summed; of an expert, the rows routed to it |
//!
//! A plain matrix counts as a stack of one. The importance of a column is its mean square, `in_sum2 / counts`. An expert that no
//! row was routed to gets the mean of the others in its stack (llama.cpp gives it ones); if all are unused, ones.

use crate::plan::Step;
use dgemma::backend::recording::ColumnSums;
use dgemma::gguf::writer::{Plan, Writer};
use dgemma::gguf::{Array, Gguf, Tensor, Value};
use dgemma::quant::{self, Format};
use dgemma::{Error, Result, log};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

/// What was measured on one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Elements per row.
    pub columns: usize,
    /// `[matrices, columns]`: sums of squares.
    pub sums: Vec<f32>,
    /// `[matrices]`: rows summed.
    pub counts: Vec<f32>,
}

/// An importance matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Imatrix {
    /// The file it is from, or was made for; for messages.
    pub path: PathBuf,
    /// Names of the texts it was measured on.
    pub datasets: Vec<String>,
    /// Chunks of text that were run.
    pub chunk_count: u32,
    /// Tokens of a chunk.
    pub chunk_size: u32,
    /// By the weight's name.
    pub entries: BTreeMap<String, Entry>,
}

impl Entry {
    /// What a recording heard; nothing if the weight was never used.
    pub fn from_sums(sums: &ColumnSums) -> Option<Entry> {
        let used = sums.counts.iter().any(|&n| n > 0);
        used.then(|| Entry {
            columns: sums.columns,
            sums: sums.squares.iter().map(|&x| x as f32).collect(),
            counts: sums.counts.iter().map(|&n| n as f32).collect(),
        })
    }

    /// `[matrices, columns]`: the mean squares.
    fn importance(&self) -> Vec<f32> {
        let mut out: Vec<f32> = Vec::with_capacity(self.sums.len());
        let matrices = || self.sums.chunks_exact(self.columns).zip(&self.counts);
        let used = matrices().filter(|(_, count)| **count > 0.0);
        let mut mean = vec![0.0; self.columns];
        for (sums, count) in used.clone() {
            mean.iter_mut().zip(sums).for_each(|(m, s)| *m += s / count);
        }
        match used.count() {
            0 => mean.fill(1.0),
            n => mean.iter_mut().for_each(|m| *m /= n as f32),
        }
        for (sums, &count) in matrices() {
            if count > 0.0 {
                out.extend(sums.iter().map(|s| s / count));
            } else {
                out.extend(&mean);
            }
        }
        out
    }
}

impl Imatrix {
    /// Reads a file in llama.cpp's GGUF form.
    pub fn open(path: &Path) -> Result<Imatrix> {
        let file = Gguf::open(path)?;
        let keys = file.metadata();
        match keys.opt_str("general.type")? {
            Some("imatrix") => {}
            Some(other) => return Err(keys.error("general.type", format!("is {other:?}, expected \"imatrix\""))),
            None => return Err(keys.error("general.type", "is missing, expected \"imatrix\"")),
        }
        let mut entries = BTreeMap::new();
        for info in file.tensors() {
            if let Some(weight) = info.name.strip_suffix(SUMS) {
                entries.insert(weight.to_owned(), entry(&file, weight)?);
            } else if info.name.strip_suffix(COUNTS).is_some_and(|w| file.tensor(&format!("{w}{SUMS}")).is_none()) {
                return Err(Error::tensor(path, &info.name, "comes without its sums (`.in_sum2`)"));
            }
        }
        if entries.is_empty() {
            return Err(Error::file(path, "has no sums of squares (`.in_sum2`) in it"));
        }
        Ok(Imatrix {
            path: path.to_owned(),
            datasets: keys.strings(DATASETS)?.iter().map(str::to_owned).collect(),
            chunk_count: keys.u32(CHUNK_COUNT)?,
            chunk_size: keys.u32(CHUNK_SIZE)?,
            entries,
        })
    }

    /// Writes the file `path`, which appears when it is complete.
    pub fn write(&self, path: &Path) -> Result<()> {
        let keys = [
            ("general.type".to_owned(), Value::String("imatrix".to_owned())),
            (DATASETS.to_owned(), Value::Array(Array::String(self.datasets.iter().collect()))),
            (CHUNK_COUNT.to_owned(), Value::U32(self.chunk_count)),
            (CHUNK_SIZE.to_owned(), Value::U32(self.chunk_size)),
        ];
        let format = f32_format()?;
        let plan = |name: String, shape: Vec<usize>| Plan { name, shape, format };
        let both = |(name, e): (&String, &Entry)| {
            let matrices = e.counts.len();
            [
                plan(format!("{name}{SUMS}"), vec![e.columns, matrices]),
                plan(format!("{name}{COUNTS}"), vec![1, matrices]),
            ]
        };
        let plans: Vec<Plan> = self.entries.iter().flat_map(both).collect();
        let writer = Writer::create(path, &keys, &plans)?;
        let values = self.entries.values().flat_map(|e| [&e.sums, &e.counts]);
        for (i, values) in values.enumerate() {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            writer.write_at(i, 0, &bytes)?;
        }
        writer.finish()
    }

    /// What errors cost in the weight `name` of shape `shape` (row length first): `[columns]`, or `[matrices, columns]`.
    /// `None` if the weight was not measured.
    pub fn importance(&self, name: &str, shape: &[usize]) -> Result<Option<Arc<[f32]>>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let (columns, matrices): (usize, usize) = (shape.first().copied().unwrap_or(1), shape.iter().skip(2).product());
        let wrong = |what: String| Error::tensor(&self.path, &format!("{name}{SUMS}"), what);
        if entry.columns != columns {
            return Err(wrong(format!("has {} columns, but the weight has {columns}", entry.columns)));
        }
        if entry.counts.len() != 1 && entry.counts.len() != matrices {
            return Err(wrong(format!("is of {} matrices, but the weight has {matrices}", entry.counts.len())));
        }
        Ok(Some(entry.importance().into()))
    }

    /// Gives each step that will be quantized its importance. An importance matrix of another model is an error; weights
    /// that it has nothing about are only worth a warning.
    pub fn apply(&self, steps: &mut [Step]) -> Result<()> {
        self.check_names(steps.iter().map(|step| step.plan.name.as_str()))?;
        let mut without: Vec<String> = Vec::new();
        for step in steps {
            let Plan { name, shape, format } = &step.plan;
            let importance = self.importance(name, shape)?;
            if format.block == 1 {
                continue; // every number by itself: nothing to weigh against each other
            }
            if importance.is_none() {
                without.push(name.clone());
            }
            step.importance = importance;
        }
        if let Some(first) = without.first() {
            let (file, n) = (self.path.display(), without.len());
            log::warn(|| {
                format!("{file}: has nothing about `{first}` ({n} such weights), which are quantized without")
            });
        }
        Ok(())
    }

    /// Refuses an importance matrix of another model: each of its weights must be among `names`.
    pub fn check_names<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let names: std::collections::HashSet<&str> = names.into_iter().collect();
        match self.entries.keys().find(|name| !names.contains(name.as_str())) {
            Some(name) => {
                let what = "belongs to a weight that the model does not have";
                Err(Error::tensor(&self.path, &format!("{name}{SUMS}"), what))
            }
            None => Ok(()),
        }
    }

    /// The keys that say in a quantized file what it was made with, as llama.cpp's quantizer writes them.
    pub fn keys(&self) -> Vec<(String, Value)> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        vec![
            ("quantize.imatrix.file".to_owned(), Value::String(name(&self.path))),
            ("quantize.imatrix.dataset".to_owned(), Value::String(self.datasets.join(", "))),
            ("quantize.imatrix.entries_count".to_owned(), Value::U32(self.entries.len() as u32)),
            ("quantize.imatrix.chunks_count".to_owned(), Value::U32(self.chunk_count)),
        ]
    }
}

fn f32_format() -> Result<&'static Format> {
    quant::by_name("F32").ok_or_else(|| Error::Internal("no format F32".to_owned()))
}

/// The entry of `weight`, whose sums are there.
fn entry(file: &Gguf, weight: &str) -> Result<Entry> {
    let (sums, counts) = (file.require(&format!("{weight}{SUMS}"))?, file.require(&format!("{weight}{COUNTS}"))?);
    let columns = sums.shape[0];
    let matrices: usize = sums.shape[1..].iter().product();
    let entry = Entry { columns, sums: values(file, &sums)?, counts: values(file, &counts)? };
    if entry.counts.len() != matrices {
        let what = format!("has {} numbers, expected {matrices}, one for each matrix of the sums", entry.counts.len());
        return Err(Error::tensor(file.path(), &counts.name, what));
    }
    Ok(entry)
}

/// The numbers of a tensor of statistics: F32, finite and not negative.
fn values(file: &Gguf, tensor: &Tensor) -> Result<Vec<f32>> {
    let wrong = |what: String| Error::tensor(file.path(), &tensor.name, what);
    if tensor.format != f32_format()? {
        return Err(wrong(format!("is {}, expected F32", tensor.format.name)));
    }
    let values: Vec<f32> = tensor.data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    match values.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
        Some(at) => Err(wrong(format!("element {at} is {}, expected a finite number of 0 or more", values[at]))),
        None => Ok(values),
    }
}

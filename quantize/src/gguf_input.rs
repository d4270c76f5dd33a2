//! Another GGUF file as the input: its tensors in other types, its keys as they are.
//!
//! Files are written in one layout, whatever their input had: where another branch of llama.cpp calls a tensor
//! `self_cond_norm.weight`, it becomes `self_cond_pre_norm.weight`, and `ffn_gate_exps` and `ffn_up_exps` become one
//! `ffn_gate_up_exps`. Tensors that readers have a substitute for may be missing, and stay so.
//!
//! A tensor whose type stays the same is copied byte by byte. One in a type that has lost something already is not blown up
//! to a larger type, unless that is asked for: the result would look better than it is.

use crate::config::Config;
use crate::convert::{Options, Prepared};
use crate::input_file::InputFile;
use crate::names;
use crate::plan::Step;
use crate::source::Source;
use crate::stack::Stack;
use crate::types::{Chosen, Named};
use dgemma::gguf::writer::Plan;
use dgemma::gguf::{Gguf, TensorInfo, Value};
use dgemma::quant::Format;
use dgemma::{Error, Result, model};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Reads everything in the file `path` but the weights themselves, and checks it. Of a split set, `path` is part 1.
pub fn prepare(path: &Path, options: &Options) -> Result<Prepared> {
    let file = Gguf::open(path)?;
    let config = shape(&model::Config::from_gguf(&file)?);
    let files = (0..file.parts()).map(|part| InputFile::open(file.part_path(part)).map(Arc::new));
    let files = files.collect::<Result<Vec<_>>>()?;
    let found = Found::all(&file, &files, &config)?;
    let shapes: Vec<Vec<usize>> = found.iter().map(|tensor| tensor.shape.iter().rev().copied().collect()).collect();
    let named: Vec<Named> = found.iter().zip(&shapes).map(|(t, shape)| (t.name.as_str(), shape.as_slice())).collect();
    let chosen = options.types.choose(&named, &(&config).into())?;
    let step = |((tensor, shape), chosen): ((Found, Vec<usize>), Chosen)| {
        if !options.allow_requantize {
            tensor.check_not_blown_up(chosen.format)?;
        }
        let plan = Plan { name: tensor.name.clone(), shape, format: chosen.format };
        Ok(Step { plan, wanted: chosen.wanted, source: tensor.source()?, importance: None })
    };
    let steps = found.into_iter().zip(shapes).zip(chosen).map(step).collect::<Result<Vec<_>>>()?;
    Ok(Prepared { keys: keys(&file, options), steps })
}

/// The keys of the input, but for those about how its tensors are stored and cut into parts.
fn keys(file: &Gguf, options: &Options) -> Vec<(String, Value)> {
    let file_type = ("general.file_type", Value::U32(options.types.mix.file_type));
    let new = [("general.quantization_version", Value::U32(2)), file_type];
    let stale = |key: &str| key.starts_with("split.") || key.starts_with("quantize.imatrix.");
    let entries = file.metadata().entries().iter();
    let mut keys: Vec<(String, Value)> = entries.filter(|(key, _)| !stale(key)).cloned().collect();
    let name = options.name.iter().map(|name| ("general.name", Value::String(name.clone())));
    for (key, value) in new.into_iter().chain(name) {
        match keys.iter_mut().find(|(k, _)| k == key) {
            Some(entry) => entry.1 = value,
            None => keys.push((key.to_owned(), value)),
        }
    }
    keys
}

/// The numbers that tensor names and shapes follow from.
fn shape(c: &model::Config) -> Config {
    let head_dim = |sliding: bool| {
        let layer = c.layers.iter().find(|layer| layer.window.is_some() == sliding);
        layer.map_or(0, |layer| layer.head_dim as u32)
    };
    Config {
        hidden: c.hidden as u32,
        ffn: c.ffn as u32,
        expert_ffn: c.expert_ffn as u32,
        experts: c.experts as u32,
        experts_used: c.top_k as u32,
        heads: c.heads as u32,
        sliding: c.layers.iter().map(|layer| layer.window.is_some()).collect(),
        kv_heads: c.layers.iter().map(|layer| layer.kv_heads as u32).collect(),
        head_dim: head_dim(true),
        head_dim_full: head_dim(false),
        window: c.layers.iter().find_map(|layer| layer.window).unwrap_or_default() as u32,
        context: c.context_length as u32,
        vocab: c.vocab as u32,
        canvas: c.canvas as u32,
        eps: c.eps,
        softcap: c.softcap,
        rope_base: c.rope_base_sliding,
        rope_base_full: c.rope_base_full,
        // Only generated tensors depend on it, and nothing is generated here.
        rotated_pairs_full: 0,
    }
}

/// A tensor of the new file, and what it is made of.
struct Found {
    /// Its name there.
    name: String,
    /// In PyTorch's order.
    shape: Vec<usize>,
    /// One tensor of the input; or gate and up of a layer's experts.
    parts: Vec<Stored>,
}

/// A tensor of the input.
#[derive(Clone)]
struct Stored {
    info: TensorInfo,
    file: Arc<InputFile>,
}

impl Stored {
    fn error(&self, what: &str) -> Error {
        Error::tensor(&self.file.path, &self.info.name, what)
    }
}

impl Found {
    /// All tensors of the new file, in its order.
    fn all(file: &Gguf, files: &[Arc<InputFile>], config: &Config) -> Result<Vec<Found>> {
        let stored = |info: &TensorInfo| Stored { info: info.clone(), file: files[info.part].clone() };
        let all: HashMap<&str, Stored> = file.tensors().iter().map(|i| (i.name.as_str(), stored(i))).collect();
        let mut expected: Vec<(String, Vec<usize>)> =
            names::expected(config).into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
        expected.extend(possible(config).into_iter().filter(|(name, _)| all.contains_key(name.as_str())));
        expected.sort_by_cached_key(|(name, _)| (layer(name).map_or(0, |n| n + 1), name.clone()));
        let mut found = Vec::with_capacity(expected.len());
        for (name, shape) in expected {
            found.extend(Found::one(file.path(), &all, name, shape)?);
        }
        let used: HashSet<&str> =
            found.iter().flat_map(|tensor| &tensor.parts).map(|part| part.info.name.as_str()).collect();
        match file.tensors().iter().find(|tensor| !used.contains(tensor.name.as_str())) {
            Some(other) => Err(stored(other).error("is not part of a DiffusionGemma with these keys")),
            None => Ok(found),
        }
    }

    /// `file` is for the message about a tensor that is nowhere.
    fn one(file: &Path, all: &HashMap<&str, Stored>, name: String, shape: Vec<usize>) -> Result<Option<Found>> {
        let get = |name: &str| all.get(name).cloned();
        let require = |name: &String| get(name).ok_or_else(|| Error::tensor(file, name, "is missing"));
        let parts = match (get(&name), other_names(&name)) {
            (Some(tensor), _) => vec![tensor],
            (None, Some(others)) if get(&others[0]).is_some() => others.iter().map(require).collect::<Result<_>>()?,
            (None, _) if is_optional(&name) => return Ok(None),
            (None, _) => return Err(Error::tensor(file, &name, "is missing")),
        };
        let mut part_shape = shape.clone();
        if let [_, rows, _] = &mut part_shape[..] {
            *rows /= parts.len();
        }
        // Trailing ones carry no meaning; some writers pad with them.
        let significant = |s: &[usize]| s.iter().copied().skip_while(|&n| n == 1).collect::<Vec<_>>();
        for part in &parts {
            let has: Vec<usize> = part.info.shape.iter().rev().copied().collect();
            if significant(&has) != significant(&part_shape) {
                let wanted: Vec<usize> = part_shape.iter().rev().copied().collect();
                let what = format!("has shape {:?}, expected {wanted:?} (row length first)", part.info.shape);
                return Err(part.error(&what));
            }
        }
        Ok(Some(Found { name, shape, parts }))
    }

    /// An error if a part has lost something and would be stored in more bits than it has.
    fn check_not_blown_up(&self, target: &Format) -> Result<()> {
        for part in &self.parts {
            let Format { block, block_bytes: bytes, .. } = *part.info.format;
            if block > 1 && target.block_bytes * block > bytes * target.block {
                let what = format!(
                    "{} would become {}, which is larger but no better: start from the original, or use --allow-requantize",
                    part.info.format.name, target.name
                );
                return Err(part.error(&what));
            }
        }
        Ok(())
    }

    /// Its elements. Split experts are put together one by one, gate in front of up.
    fn source(self) -> Result<Box<dyn Source>> {
        let pieces = if self.parts.len() == 1 { 1 } else { self.shape[0] };
        let elements = self.shape.iter().product::<usize>() / pieces / self.parts.len();
        let mut members: Vec<Box<dyn Source>> = Vec::with_capacity(pieces * self.parts.len());
        for piece in 0..pieces {
            for part in &self.parts {
                members.push(Box::new(Slice { start: piece * elements, tensor: part.clone() }));
            }
        }
        match members.len() {
            1 => Ok(members.remove(0)),
            _ => Ok(Box::new(Stack::new(members, elements)?)),
        }
    }
}

/// N of `blk.N.`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// What other writers have in the place of a tensor.
fn other_names(name: &str) -> Option<Vec<String>> {
    if name == "self_cond_pre_norm.weight" {
        return Some(vec!["self_cond_norm.weight".to_owned()]);
    }
    let layer = name.strip_suffix("ffn_gate_up_exps.weight")?;
    Some(vec![format!("{layer}ffn_gate_exps.weight"), format!("{layer}ffn_up_exps.weight")])
}

/// Tensors that readers can do without.
fn is_optional(name: &str) -> bool {
    name == "rope_freqs.weight" || name.ends_with(".enc_layer_output_scale.weight")
}

/// Tensors that no file of ours has, but that readers take: a head that is not the embedding, V on full layers.
fn possible(c: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, vocab) = (c.hidden as usize, c.vocab as usize);
    let v = |n: usize| {
        let rows = c.kv_heads[n] as usize * c.head_dim_of(n) as usize;
        (format!("blk.{n}.attn_v.weight"), vec![rows, hidden])
    };
    let full = (0..c.layers()).filter(|&n| !c.sliding[n]);
    full.map(v).chain([("output.weight".to_owned(), vec![vocab, hidden])]).collect()
}

/// A tensor of a file from its element `start` on.
struct Slice {
    tensor: Stored,
    start: usize,
}

impl Slice {
    /// Where its element `at` is in the file; it begins a block.
    fn place(&self, at: usize) -> u64 {
        let TensorInfo { format, start, .. } = self.tensor.info;
        (start + (self.start + at) / format.block * format.block_bytes) as u64
    }
}

impl Source for Slice {
    fn error(&self, what: &str) -> Error {
        self.tensor.error(what)
    }

    fn error_at(&self, element: usize, what: &str) -> Error {
        self.error(&format!("element {} {what}", self.start + element))
    }

    fn format(&self) -> Option<&'static Format> {
        Some(self.tensor.info.format)
    }

    fn prefetch(&self, start: usize, count: usize) {
        let from = self.place(start);
        self.tensor.file.prefetch(from, self.place(start + count) - from);
    }

    fn read_stored(&self, start: usize, out: &mut [u8]) -> Result<()> {
        self.tensor.file.read_at(self.place(start), out)
    }
}

//! Which model it is: a number that another file of other weights will not share, without reading all of this one.

use super::hash::Hash64;
use crate::gguf::{Gguf, Value};
use crate::quant::Format;

/// Bytes of each tensor that are looked at, at its beginning and in its middle.
const SAMPLE: usize = 64;
/// Lists longer than this (the vocabulary) count by their length.
const LONG: usize = 1000;

/// A hash of the architecture's keys, the tensor table and a sample of every tensor. Splitting a file, or changing its
/// name, licence or chat template, leaves it as it is.
pub fn fingerprint(file: &Gguf) -> u64 {
    let mut hash = Hash64::default();
    let mut keys: Vec<_> = file.metadata().entries().iter().filter(|(key, _)| matters(key)).collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    for (key, value) in keys {
        let text = match value {
            Value::Array(list) if list.len() > LONG => format!("{} entries", list.len()),
            other => format!("{other:?}"),
        };
        hash.add(format!("{key}={text}\n").as_bytes());
    }
    let mut tensors: Vec<_> = file.tensors().iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    for info in tensors {
        let Format { name: format, .. } = info.format;
        hash.add(format!("{} {:?} {format}\n", info.name, info.shape).as_bytes());
        let Some(tensor) = file.tensor(&info.name) else { continue };
        let data: &[u8] = &tensor.data;
        for at in [0, data.len() / 2] {
            hash.add(&data[at..data.len().min(at + SAMPLE)]);
        }
    }
    hash.finish()
}

/// What the network and the vocabulary depend on.
fn matters(key: &str) -> bool {
    key.starts_with("diffusion") || key.starts_with("tokenizer.ggml.")
}

//! What is in a file, for people.

use dgemma::gguf::{Gguf, Value};
use dgemma::{Error, Result};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Characters of a text that are shown.
const SHOWN: usize = 60;

/// Lists the file `path` on `out`. A reader that goes away early is not an error.
pub fn run(path: &Path, out: &mut impl Write) -> Result<()> {
    let file = Gguf::open(path)?;
    match list(&file, out) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io(Path::new("(standard output)"), e)),
        _ => Ok(()),
    }
}

fn list(file: &Gguf, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", file.path().display())?;
    let parts = if file.parts() > 1 { format!(", {} parts", file.parts()) } else { String::new() };
    let bytes = file.file_bytes();
    writeln!(out, "GGUF version {}, alignment {}, {bytes} bytes{parts}", file.version(), file.alignment())?;
    let entries = file.metadata().entries();
    writeln!(out, "\n{} keys", entries.len())?;
    for (key, value) in entries {
        let count = if let Value::Array(array) = value { format!("[{}]", array.len()) } else { String::new() };
        writeln!(out, "  {key}: {}{count} = {}", value.type_name(), shown(value))?;
    }
    writeln!(out, "\n{} tensors (shape: row length first)", file.tensors().len())?;
    let mut totals = BTreeMap::new();
    for tensor in file.tensors() {
        let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        writeln!(out, "  {:40} {:5} {shape:24} {:>14}", tensor.name, tensor.format.name, tensor.bytes)?;
        let (number, elements, bytes) = totals.entry(tensor.format.name).or_insert((0u64, 0u64, 0u64));
        *number += 1;
        *elements += tensor.shape.iter().map(|&d| d as u64).product::<u64>();
        *bytes += tensor.bytes as u64;
    }
    writeln!(out, "\nper type: tensors, elements, bytes")?;
    for (name, (number, elements, bytes)) in &totals {
        writeln!(out, "  {name:5} {number:6} {elements:>16} {bytes:>16}")?;
    }
    let sum = |f: fn(&(u64, u64, u64)) -> u64| totals.values().map(f).sum::<u64>();
    writeln!(out, "  {:5} {:6} {:>16} {:>16}", "all", sum(|t| t.0), sum(|t| t.1), sum(|t| t.2))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > SHOWN => {
            format!("{:?}... ({} bytes)", text.chars().take(SHOWN).collect::<String>(), text.len())
        }
        other => other.to_string(),
    }
}

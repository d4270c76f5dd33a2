//! What is in a file, for people; `inspect_json.rs` says it to programs.

use crate::listing::{self, Row};
use dgemma::Result;
use dgemma::gguf::{Gguf, Value};
use std::io::{self, Write};
use std::path::Path;

/// Characters of a text that are shown.
const SHOWN: usize = 60;

/// Lists the file `path` on `out`.
pub fn run(path: &Path, out: &mut impl Write) -> Result<()> {
    listing::shown(list(&Gguf::open(path)?, out))
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
    listing::print(&file.tensors().iter().map(Row::from).collect::<Vec<_>>(), out)
}

/// A value, or the beginning of a long one.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > SHOWN => {
            format!("{:?}... ({} bytes)", text.chars().take(SHOWN).collect::<String>(), text.len())
        }
        other => other.to_string(),
    }
}

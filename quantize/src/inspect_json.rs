//! What is in a file, for programs: one JSON object.
//!
//! ```json
//! {"file": "model.gguf", "version": 3, "alignment": 32, "bytes": 307776, "parts": 1,
//!  "keys": [{"key": "general.type", "type": "string", "value": "model"},
//!           {"key": "tokenizer.ggml.scores", "type": "array of f32", "length": 512, "value": [-1000.0, ...]}],
//!  "tensors": [{"name": "token_embd.weight", "type": "Q8_0", "shape": [64, 512], "part": 0, "offset": 19488,
//!               "bytes": 34816}],
//!  "totals": {"Q8_0": {"tensors": 30, "elements": 260096, "bytes": 276352}},
//!  "total": {"tensors": 75, "elements": 263080, "bytes": 288288}}
//! ```
//!
//! `shape` starts with the row length; `offset` counts from the beginning of the file, of part number `part` in a split set.
//! Arrays are complete unless fewer elements are asked for; `length` is the whole length always. Numbers that JSON does
//! not have are the strings `NaN`, `inf` and `-inf`.

use crate::listing::{self, Row, Total};
use dgemma::Result;
use dgemma::gguf::{Array, Gguf, TensorInfo, Value};
use serde_json::{Map, Value as Json, json};
use std::io::Write;
use std::path::Path;

/// Prints the file `path` on `out`, of each array at most `elements`.
pub fn run(path: &Path, elements: usize, out: &mut impl Write) -> Result<()> {
    let object = object(&Gguf::open(path)?, elements);
    listing::shown(writeln!(out, "{object}"))
}

fn object(file: &Gguf, elements: usize) -> Json {
    let rows: Vec<Row> = file.tensors().iter().map(Row::from).collect();
    let (by_type, all) = listing::totals(&rows);
    let totals: Map<_, _> = by_type.into_iter().map(|(name, sum)| (name.to_owned(), total(sum))).collect();
    json!({
        "file": file.path().display().to_string(),
        "version": file.version(),
        "alignment": file.alignment(),
        "bytes": file.file_bytes(),
        "parts": file.parts(),
        "keys": file.metadata().entries().iter().map(|(k, value)| key(k, value, elements)).collect::<Vec<_>>(),
        "tensors": file.tensors().iter().map(tensor).collect::<Vec<_>>(),
        "totals": totals,
        "total": total(all),
    })
}

fn key(key: &str, value: &Value, elements: usize) -> Json {
    match value {
        Value::Array(array) => json!({
            "key": key,
            "type": value.type_name(),
            "length": array.len(),
            "value": list(array, elements),
        }),
        _ => json!({ "key": key, "type": value.type_name(), "value": single(value) }),
    }
}

fn list(array: &Array, elements: usize) -> Vec<Json> {
    (0..array.len().min(elements)).filter_map(|i| array.get(i)).map(|value| single(&value)).collect()
}

fn single(value: &Value) -> Json {
    match value {
        Value::Array(array) => list(array, usize::MAX).into(),
        Value::String(text) => text.as_str().into(),
        Value::Bool(b) => (*b).into(),
        // The shortest number that reads back as the same f32: 0.4 rather than 0.4000000059604645.
        Value::F32(x) => x.to_string().parse().map_or(Json::Null, number),
        Value::F64(x) => number(*x),
        Value::U64(n) => (*n).into(),
        // Every other integer fits.
        other => other.as_integer().and_then(|n| i64::try_from(n).ok()).map_or(Json::Null, Json::from),
    }
}

fn number(x: f64) -> Json {
    if x.is_finite() { x.into() } else { x.to_string().into() }
}

fn tensor(info: &TensorInfo) -> Json {
    json!({
        "name": info.name,
        "type": info.format.name,
        "shape": info.shape,
        "part": info.part,
        "offset": info.start,
        "bytes": info.bytes,
    })
}

fn total(Total { tensors, elements, bytes }: Total) -> Json {
    json!({ "tensors": tensors, "elements": elements, "bytes": bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_as_they_were() {
        let text = |value: Value| single(&value).to_string();
        assert_eq!(text(Value::F32(0.4)), "0.4");
        assert_eq!(text(Value::F32(1e30)), "1e+30");
        assert_eq!(text(Value::F64(0.1 + 0.2)), "0.30000000000000004");
        assert_eq!((text(Value::U64(u64::MAX)), text(Value::I8(-3))), ("18446744073709551615".into(), "-3".into()));
        assert_eq!(
            (text(Value::F32(f32::NAN)), text(Value::F64(f64::NEG_INFINITY))),
            ("\"NaN\"".into(), "\"-inf\"".into())
        );
        assert_eq!(list(&Array::I32(vec![1, 2, 3]), 2), [1, 2]);
    }
}

//! A small good file.

use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::gguf::{Array, Value};
use dgemma::quant;

/// A file with every kind of value and several tensors.
pub fn sample() -> Vec<u8> {
    let metadata = [
        ("general.architecture", Value::String("test".to_owned())),
        ("general.alignment", Value::U32(32)),
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-3)),
        ("u16", Value::U16(40000)),
        ("i16", Value::I16(-4)),
        ("i32", Value::I32(-5)),
        ("f32", Value::F32(1.5)),
        ("bool", Value::Bool(true)),
        ("u64", Value::U64(1 << 40)),
        ("i64", Value::I64(-6)),
        ("f64", Value::F64(2.5)),
        ("words", Value::Array(Array::String(["a", "", "Ä"].into_iter().collect()))),
        ("flags", Value::Array(Array::Bool(vec![true, false]))),
        ("numbers", Value::Array(Array::U16(vec![1, 2, 3]))),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    let tensors: Vec<_> = ["F32", "Q8_0", "BF16"]
        .iter()
        .map(|name| {
            let format = quant::by_name(name).unwrap();
            let bytes = format.row_bytes(64).unwrap() * 2;
            (Plan { name: format!("t.{name}"), shape: vec![64, 2], format }, vec![0x11; bytes])
        })
        .collect();
    to_bytes(&metadata, &tensors).unwrap()
}

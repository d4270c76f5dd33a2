//! What is different between two files: keys, tensors, types, shapes, bytes, and how far the numbers are apart.
//!
//! The order of keys and tensors, padding and the cut into parts carry no meaning and are not compared.

use crate::compare::Difference;
use crate::inspect::shown;
use crate::listing;
use dgemma::Result;
use dgemma::gguf::{Array, Gguf, Tensor, Value};
use std::io::{self, Write};
use std::path::Path;

/// Lists on `out` what differs between the files `a` and `b`, a line each. Whether nothing does.
pub fn run(a: &Path, b: &Path, out: &mut impl Write) -> Result<bool> {
    let (a, b) = (Gguf::open(a)?, Gguf::open(b)?);
    let mut differing = 0;
    let mut line = |text: String| {
        differing += 1;
        writeln!(out, "{text}")
    };
    let printed = keys(&a, &b, &mut line).and_then(|()| tensors(&a, &b, &mut line));
    listing::shown(printed.and_then(|()| match differing {
        0 => writeln!(out, "equal: {} keys, {} tensors", a.metadata().entries().len(), a.tensors().len()),
        _ => writeln!(out, "{differing} differences"),
    }))?;
    Ok(differing == 0)
}

/// Takes what is to be said about one key or tensor.
type Line<'a> = dyn FnMut(String) -> io::Result<()> + 'a;

fn keys(a: &Gguf, b: &Gguf, line: &mut Line) -> io::Result<()> {
    for (key, left) in a.metadata().entries() {
        match b.metadata().get(key) {
            None => line(format!("key {key}: only in {}: {}", a.path().display(), shown(left)))?,
            Some(right) if left != right => line(format!("key {key}: {}", values(left, right)))?,
            Some(_) => {}
        }
    }
    for (key, right) in b.metadata().entries() {
        if a.metadata().get(key).is_none() {
            line(format!("key {key}: only in {}: {}", b.path().display(), shown(right)))?;
        }
    }
    Ok(())
}

/// Two values that differ. Of lists, the first place where they do.
fn values(a: &Value, b: &Value) -> String {
    if a.type_name() != b.type_name() {
        return format!("{} {} | {} {}", a.type_name(), shown(a), b.type_name(), shown(b));
    }
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => elements(a, b),
        (Value::String(a), Value::String(b)) => {
            let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
            let [a, b] = [a, b].map(|text| shown(&Value::String(text.clone())));
            format!("{a} | {b}, from byte {same} on")
        }
        _ => format!("{a} | {b}"),
    }
}

fn elements(a: &Array, b: &Array) -> String {
    let length = if a.len() == b.len() { String::new() } else { format!("{} | {} elements, ", a.len(), b.len()) };
    let end = a.len().min(b.len());
    match (0..end).find(|&i| a.get(i) != b.get(i)) {
        None => format!("{length}the first {end} are equal"),
        Some(at) => {
            let of = |array: &Array| array.get(at).map_or(String::new(), |value| shown(&value));
            format!("{length}element {at}: {} | {}", of(a), of(b))
        }
    }
}

fn tensors(a: &Gguf, b: &Gguf, line: &mut Line) -> io::Result<()> {
    for info in a.tensors() {
        let text = match (a.tensor(&info.name), b.tensor(&info.name)) {
            (Some(left), Some(right)) => difference(&left, &right),
            _ => Some(format!("only in {}", a.path().display())),
        };
        if let Some(text) = text {
            line(format!("tensor {}: {text}", info.name))?;
        }
    }
    for info in b.tensors() {
        if a.tensor(&info.name).is_none() {
            line(format!("tensor {}: only in {}", info.name, b.path().display()))?;
        }
    }
    Ok(())
}

/// What differs between two tensors of one name, if anything.
fn difference(a: &Tensor, b: &Tensor) -> Option<String> {
    if a.shape != b.shape {
        let of = |tensor: &Tensor| format!("{} {}", tensor.format.name, listing::dimensions(&tensor.shape));
        return Some(format!("{} | {}", of(a), of(b)));
    }
    if a.format != b.format {
        return Some(format!("{} | {}: {}", a.format.name, b.format.name, Difference::between(a, b)));
    }
    if *a.data == *b.data {
        return None;
    }
    let bytes = a.data.iter().zip(&*b.data).filter(|(a, b)| a != b).count();
    Some(format!("{bytes} of {} bytes ({}): {}", a.data.len(), a.format.name, Difference::between(a, b)))
}

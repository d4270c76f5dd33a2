//! Arrays of metadata values. Vocabularies are the large ones: a quarter of a million tokens, twice as many merges.

use super::cursor::{Cursor, What};
use super::value::{Value, write_string};
use std::fmt;

/// An array value. There are no arrays of arrays.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Strings),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Many strings in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// Where each string ends in `text`; it starts where the one before ends.
    ends: Vec<usize>,
}

impl Strings {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String number `i`.
    pub fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)?;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        Some(&self.text[start..end])
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.text[std::mem::replace(&mut start, end)..end])
    }

    /// Adds one at the end.
    pub fn push(&mut self, s: &str) {
        self.text.push_str(s);
        self.ends.push(self.text.len());
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(items: I) -> Self {
        let mut strings = Strings::default();
        items.into_iter().for_each(|s| strings.push(s.as_ref()));
        strings
    }
}

impl Array {
    /// The type id of the elements.
    pub fn type_id(&self) -> u32 {
        match self {
            Array::U8(_) => 0,
            Array::I8(_) => 1,
            Array::U16(_) => 2,
            Array::I16(_) => 3,
            Array::U32(_) => 4,
            Array::I32(_) => 5,
            Array::F32(_) => 6,
            Array::Bool(_) => 7,
            Array::String(_) => 8,
            Array::U64(_) => 10,
            Array::I64(_) => 11,
            Array::F64(_) => 12,
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` as a value of its own.
    pub fn get(&self, i: usize) -> Option<Value> {
        Some(match self {
            Array::U8(v) => Value::U8(*v.get(i)?),
            Array::I8(v) => Value::I8(*v.get(i)?),
            Array::U16(v) => Value::U16(*v.get(i)?),
            Array::I16(v) => Value::I16(*v.get(i)?),
            Array::U32(v) => Value::U32(*v.get(i)?),
            Array::I32(v) => Value::I32(*v.get(i)?),
            Array::F32(v) => Value::F32(*v.get(i)?),
            Array::Bool(v) => Value::Bool(*v.get(i)?),
            Array::String(v) => Value::String(v.get(i)?.to_owned()),
            Array::U64(v) => Value::U64(*v.get(i)?),
            Array::I64(v) => Value::I64(*v.get(i)?),
            Array::F64(v) => Value::F64(*v.get(i)?),
        })
    }

    /// Reads element type, count and elements.
    pub(super) fn read(c: &mut Cursor) -> What<Array> {
        let id = c.u32()?;
        // The smallest string is its length field.
        let min_bytes = match id {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err("arrays of arrays are not supported".to_owned()),
            _ => return Err(format!("unknown element type {id}")),
        };
        let n = c.count(min_bytes, "elements")?;
        Ok(match id {
            0 => Array::U8(c.numbers(n, u8::from_le_bytes)?),
            1 => Array::I8(c.numbers(n, i8::from_le_bytes)?),
            2 => Array::U16(c.numbers(n, u16::from_le_bytes)?),
            3 => Array::I16(c.numbers(n, i16::from_le_bytes)?),
            4 => Array::U32(c.numbers(n, u32::from_le_bytes)?),
            5 => Array::I32(c.numbers(n, i32::from_le_bytes)?),
            6 => Array::F32(c.numbers(n, f32::from_le_bytes)?),
            7 => Array::Bool((0..n).map(|_| c.bool()).collect::<What<_>>()?),
            8 => Array::String(read_strings(c, n)?),
            10 => Array::U64(c.numbers(n, u64::from_le_bytes)?),
            11 => Array::I64(c.numbers(n, i64::from_le_bytes)?),
            _ => Array::F64(c.numbers(n, f64::from_le_bytes)?),
        })
    }

    /// Appends element type, count and elements.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.type_id().to_le_bytes());
        out.extend((self.len() as u64).to_le_bytes());
        match self {
            Array::U8(v) => out.extend(v),
            Array::I8(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
            Array::U16(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
            Array::I16(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
            Array::U32(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
            Array::I32(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
            Array::F32(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
            Array::Bool(v) => out.extend(v.iter().map(|&b| u8::from(b))),
            Array::String(v) => v.iter().for_each(|s| write_string(out, s)),
            Array::U64(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
            Array::I64(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
            Array::F64(v) => out.extend(v.iter().flat_map(|n| n.to_le_bytes())),
        }
    }
}

fn read_strings(c: &mut Cursor, n: usize) -> What<Strings> {
    let mut strings = Strings { text: String::new(), ends: Vec::with_capacity(n) };
    for i in 0..n {
        strings.push(c.string().map_err(|what| format!("element {i}: {what}"))?);
    }
    Ok(strings)
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        f.write_str("[")?;
        for i in 0..self.len().min(SHOWN) {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{}", self.get(i).ok_or(fmt::Error)?)?;
        }
        f.write_str(if self.len() > SHOWN { ", ...]" } else { "]" })
    }
}

//! Metadata values: what they are, how they are read, written and shown. `array.rs` has the lists.

use super::array::Array;
use super::cursor::{Cursor, What};
use std::fmt;

/// A metadata value. The discriminants in the file are the numbers in [`Value::type_id`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// The type ids of the file format, in order.
const TYPE_NAMES: [&str; 13] =
    ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];

impl Value {
    /// The type id in the file.
    pub fn type_id(&self) -> u32 {
        match self {
            Value::U8(_) => 0,
            Value::I8(_) => 1,
            Value::U16(_) => 2,
            Value::I16(_) => 3,
            Value::U32(_) => 4,
            Value::I32(_) => 5,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::String(_) => 8,
            Value::Array(_) => 9,
            Value::U64(_) => 10,
            Value::I64(_) => 11,
            Value::F64(_) => 12,
        }
    }

    /// The type in words, e.g. `u32` or `array of string`.
    pub fn type_name(&self) -> String {
        match self {
            Value::Array(a) => format!("array of {}", TYPE_NAMES[a.type_id() as usize]),
            _ => TYPE_NAMES[self.type_id() as usize].to_owned(),
        }
    }

    /// Any integer type.
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Value::U8(n) => Some(n.into()),
            Value::I8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::I16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::I32(n) => Some(n.into()),
            Value::U64(n) => Some(n.into()),
            Value::I64(n) => Some(n.into()),
            _ => None,
        }
    }

    /// Any numeric type, rounded to f32.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => self.as_integer().map(|n| n as f32),
        }
    }

    /// Reads the value of type `id`.
    pub(super) fn read(id: u32, c: &mut Cursor) -> What<Value> {
        Ok(match id {
            0 => Value::U8(c.number(u8::from_le_bytes)?),
            1 => Value::I8(c.number(i8::from_le_bytes)?),
            2 => Value::U16(c.number(u16::from_le_bytes)?),
            3 => Value::I16(c.number(i16::from_le_bytes)?),
            4 => Value::U32(c.number(u32::from_le_bytes)?),
            5 => Value::I32(c.number(i32::from_le_bytes)?),
            6 => Value::F32(c.number(f32::from_le_bytes)?),
            7 => Value::Bool(c.bool()?),
            8 => Value::String(c.string()?.to_owned()),
            9 => Value::Array(Array::read(c)?),
            10 => Value::U64(c.number(u64::from_le_bytes)?),
            11 => Value::I64(c.number(i64::from_le_bytes)?),
            12 => Value::F64(c.number(f64::from_le_bytes)?),
            _ => return Err(format!("unknown value type {id}")),
        })
    }

    /// Appends the value as it lies in a file, type id excluded.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(n) => out.extend(n.to_le_bytes()),
            Value::I8(n) => out.extend(n.to_le_bytes()),
            Value::U16(n) => out.extend(n.to_le_bytes()),
            Value::I16(n) => out.extend(n.to_le_bytes()),
            Value::U32(n) => out.extend(n.to_le_bytes()),
            Value::I32(n) => out.extend(n.to_le_bytes()),
            Value::F32(n) => out.extend(n.to_le_bytes()),
            Value::Bool(b) => out.push((*b).into()),
            Value::String(s) => write_string(out, s),
            Value::Array(a) => a.write(out),
            Value::U64(n) => out.extend(n.to_le_bytes()),
            Value::I64(n) => out.extend(n.to_le_bytes()),
            Value::F64(n) => out.extend(n.to_le_bytes()),
        }
    }
}

/// Appends a string: u64 length, then its bytes.
pub(super) fn write_string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

/// Numbers and bools as they are, strings in quotes, of long arrays the beginning.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(n) => n.fmt(f),
            Value::I8(n) => n.fmt(f),
            Value::U16(n) => n.fmt(f),
            Value::I16(n) => n.fmt(f),
            Value::U32(n) => n.fmt(f),
            Value::I32(n) => n.fmt(f),
            Value::F32(n) => n.fmt(f),
            Value::Bool(b) => b.fmt(f),
            Value::String(s) => write!(f, "{s:?}"),
            Value::Array(a) => a.fmt(f),
            Value::U64(n) => n.fmt(f),
            Value::I64(n) => n.fmt(f),
            Value::F64(n) => n.fmt(f),
        }
    }
}

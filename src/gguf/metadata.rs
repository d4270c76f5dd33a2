//! The keys of a file, with getters that say what is wrong. `str`, `u32` ... want the key; `opt_str`, `opt_u32` ... also
//! accept its absence. A key of the wrong type is an error in both.

use super::array::{Array, Strings};
use super::value::Value;
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The keys and values of a file, in its order.
#[derive(Clone, Debug)]
pub struct Metadata {
    file: PathBuf,
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

/// A required getter beside each optional one.
macro_rules! required {
    ($($(#[$doc:meta])* $name:ident / $opt:ident -> $t:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, key: &str) -> Result<$t> {
            self.$opt(key)?.ok_or_else(|| self.error(key, "is missing"))
        }
    )*};
}

impl Metadata {
    /// The entries of `file`. An empty or repeated key is an error.
    pub fn new(file: &Path, entries: Vec<(String, Value)>) -> Result<Self> {
        let mut index = HashMap::with_capacity(entries.len());
        for (i, (key, _)) in entries.iter().enumerate() {
            if key.is_empty() {
                return Err(Error::file(file, format!("key number {i} is empty")));
            }
            if index.insert(key.clone(), i).is_some() {
                return Err(Error::key(file, key, "appears twice"));
            }
        }
        Ok(Metadata { file: file.to_owned(), entries, index })
    }

    /// The file the keys are from, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// All keys and values in file order.
    pub fn entries(&self) -> &[(String, Value)] {
        &self.entries
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// An [`Error::Key`] about `key`, for callers that check more than the type.
    pub fn error(&self, key: &str, what: impl Into<String>) -> Error {
        Error::key(&self.file, key, what)
    }

    required! {
        /// The string `key`.
        str / opt_str -> &str;
        /// The bool `key`.
        bool / opt_bool -> bool;
        /// The integer `key`, of any integer type, if it fits.
        u32 / opt_u32 -> u32;
        /// The number `key`, of any numeric type.
        f32 / opt_f32 -> f32;
        /// The array of strings `key`.
        strings / opt_strings -> &Strings;
        /// The array of bools `key`.
        bools / opt_bools -> &[bool];
        /// The array `key` of any integer type, if all elements fit.
        u32s / opt_u32s -> Vec<u32>;
        /// The array `key` of any integer type, if all elements fit.
        i32s / opt_i32s -> Vec<i32>;
        /// The array `key` of any numeric type.
        f32s / opt_f32s -> Vec<f32>;
    }

    /// The string `key`, if there.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "string", |v| match v {
            Value::String(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// The bool `key`, if there.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "bool", |v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// The integer `key`, of any integer type, if there.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        let value = self.typed(key, "an integer", Value::as_integer)?;
        let fits = |n: i128| u32::try_from(n).map_err(|_| self.error(key, format!("{n} does not fit a u32")));
        value.map(fits).transpose()
    }

    /// The number `key`, of any numeric type, if there.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", Value::as_f32)
    }

    /// The array of strings `key`, if there.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&Strings>> {
        self.typed(key, "array of string", |v| match v {
            Value::Array(Array::String(s)) => Some(s),
            _ => None,
        })
    }

    /// The array of bools `key`, if there.
    pub fn opt_bools(&self, key: &str) -> Result<Option<&[bool]>> {
        self.typed(key, "array of bool", |v| match v {
            Value::Array(Array::Bool(b)) => Some(b.as_slice()),
            _ => None,
        })
    }

    /// The array `key` of any integer type, if there.
    pub fn opt_u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.elements(key, "array of non-negative 32-bit integers", |v| u32::try_from(v.as_integer()?).ok())
    }

    /// The array `key` of any integer type, if there.
    pub fn opt_i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.elements(key, "array of 32-bit integers", |v| i32::try_from(v.as_integer()?).ok())
    }

    /// The array `key` of any numeric type, if there.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.elements(key, "array of numbers", |v| v.as_f32())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let wrong = || self.error(key, format!("is {}, expected {expected}", value.type_name()));
        convert(value).map(Some).ok_or_else(wrong)
    }

    fn elements<T>(&self, key: &str, expected: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<Vec<T>>> {
        let array = self.typed(key, expected, |v| match v {
            Value::Array(Array::String(_) | Array::Bool(_)) => None,
            Value::Array(a) => Some(a),
            _ => None,
        })?;
        let Some(array) = array else { return Ok(None) };
        let mut elements = Vec::with_capacity(array.len());
        for (i, value) in (0..array.len()).filter_map(|i| array.get(i)).enumerate() {
            let wrong = || self.error(key, format!("element {i} is {value}, expected {expected}"));
            elements.push(convert(&value).ok_or_else(wrong)?);
        }
        Ok(Some(elements))
    }
}

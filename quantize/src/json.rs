//! JSON files whose every access can say which file and which key it was about.

use dgemma::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A JSON file in memory.
pub struct File {
    path: PathBuf,
    value: Value,
}

impl File {
    /// Reads `path`.
    pub fn read(path: &Path) -> Result<File> {
        let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let value = serde_json::from_slice(&text).map_err(|e| Error::file(path, format!("is not valid JSON: {e}")))?;
        Ok(File { path: path.to_owned(), value })
    }

    /// Reads `path`, or nothing if there is no such file.
    pub fn read_if_there(path: &Path) -> Result<Option<File>> {
        if path.exists() { File::read(path).map(Some) } else { Ok(None) }
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node { file: &self.path, key: String::new(), value: &self.value }
    }
}

/// A value and where it is.
#[derive(Clone)]
pub struct Node<'a> {
    file: &'a Path,
    key: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    /// An error about this place.
    pub fn error(&self, what: impl Into<String>) -> Error {
        if self.key.is_empty() { Error::file(self.file, what) } else { Error::key(self.file, &self.key, what) }
    }

    /// An error about the member `key`, there or not.
    pub fn error_at(&self, key: &str, what: impl Into<String>) -> Error {
        Error::key(self.file, &self.join(key), what)
    }

    fn join(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    /// The member `key`, if it is there and not null.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|v| !v.is_null())?;
        Some(Node { file: self.file, key: self.join(key), value })
    }

    /// The member `key`.
    pub fn need(&self, key: &str) -> Result<Node<'a>> {
        self.get(key).ok_or_else(|| self.error_at(key, "is missing"))
    }

    /// Whether the member `key` is there and null.
    pub fn is_null(&self, key: &str) -> bool {
        self.value.get(key).is_some_and(Value::is_null)
    }

    fn wrong(&self, expected: &str) -> Error {
        let mut shown = self.value.to_string();
        if shown.len() > 40 {
            shown = shown.chars().take(40).chain("...".chars()).collect();
        }
        self.error(format!("is {shown}, expected {expected}"))
    }

    /// As a u32.
    pub fn u32(&self) -> Result<u32> {
        let number = self.value.as_u64().and_then(|n| n.try_into().ok());
        number.ok_or_else(|| self.wrong("a non-negative 32-bit integer"))
    }

    /// As a positive u32.
    pub fn positive(&self) -> Result<u32> {
        match self.u32()? {
            0 => Err(self.wrong("a positive integer")),
            n => Ok(n),
        }
    }

    /// As a number that an f32 can hold.
    pub fn f64(&self) -> Result<f64> {
        let number = self.value.as_f64().filter(|&x| (x as f32).is_finite());
        number.ok_or_else(|| self.wrong("a number"))
    }

    /// As a number, rounded to f32.
    pub fn f32(&self) -> Result<f32> {
        self.f64().map(|x| x as f32)
    }

    /// As a string.
    pub fn str(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("a string"))
    }

    /// As a bool.
    pub fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    /// As a list.
    pub fn list(&self) -> Result<Vec<Node<'a>>> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("a list"))?;
        let item = |(i, value)| Node { file: self.file, key: format!("{}[{i}]", self.key), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// As an object: its names and members.
    pub fn members(&self) -> Result<Vec<(&'a str, Node<'a>)>> {
        let members = self.value.as_object().ok_or_else(|| self.wrong("an object"))?;
        let member = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), Node { file: self.file, key: self.join(key), value })
        };
        Ok(members.iter().map(member).collect())
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.value.is_object()
    }
}

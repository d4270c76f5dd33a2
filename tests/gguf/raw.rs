//! Files put together by hand, so that they can be wrong in ways the writer refuses.

use dgemma::Result;
use dgemma::gguf::Gguf;
use std::path::Path;

/// Bytes of a file, field by field.
#[derive(Clone, Default)]
pub struct Raw(pub Vec<u8>);

impl Raw {
    /// Magic, version 3 and counts.
    pub fn new(tensors: u64, keys: u64) -> Raw {
        Raw(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    pub fn u8(mut self, n: u8) -> Raw {
        self.0.push(n);
        self
    }

    pub fn u32(mut self, n: u32) -> Raw {
        self.0.extend(n.to_le_bytes());
        self
    }

    pub fn u64(mut self, n: u64) -> Raw {
        self.0.extend(n.to_le_bytes());
        self
    }

    pub fn string(mut self, s: impl AsRef<[u8]>) -> Raw {
        self = self.u64(s.as_ref().len() as u64);
        self.0.extend(s.as_ref());
        self
    }

    /// Key name and value type; the value follows.
    pub fn key(self, name: &str, kind: u32) -> Raw {
        self.string(name).u32(kind)
    }

    /// A whole tensor info.
    pub fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Raw {
        let named = self.string(name).u32(dims.len() as u32);
        dims.iter().fold(named, |raw, &d| raw.u64(d)).u32(kind).u64(offset)
    }

    /// Zeros up to a multiple of 32, and then `n` more.
    pub fn data(mut self, n: usize) -> Raw {
        self.0.resize(self.0.len().next_multiple_of(32) + n, 0);
        self
    }

    /// Reads it.
    pub fn open(self) -> Result<Gguf> {
        Gguf::from_bytes(Path::new("test.gguf"), self.0)
    }

    /// The one-line error that reading it must give.
    pub fn error(self) -> String {
        let message = self.open().expect_err("an error").to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }
}

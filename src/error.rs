//! The one error type. Each message is a single line that names the file, tensor, key or argument and says what was
//! expected; `capi/status.rs` turns the variant into a status code.

use std::path::{Path, PathBuf};

/// `std::result::Result` with the library's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused: not found, not readable, disk full ...
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is malformed outside any single key or tensor.
    #[error("{}: {what}", file.display())]
    File {
        /// The file concerned.
        file: PathBuf,
        /// What is wrong and what was expected.
        what: String,
    },
    /// A metadata key is missing or has an impossible value.
    #[error("{}: key `{key}`: {what}", file.display())]
    Key {
        /// The file concerned.
        file: PathBuf,
        /// The full key.
        key: String,
        /// What is wrong and what was expected.
        what: String,
    },
    /// A tensor is missing, has the wrong shape or type, or lies outside the file.
    #[error("{}: tensor `{tensor}`: {what}", file.display())]
    Tensor {
        /// The file concerned.
        file: PathBuf,
        /// The tensor's name as in the file.
        tensor: String,
        /// What is wrong and what was expected.
        what: String,
    },
    /// The caller passed a value outside its documented range.
    #[error("argument `{name}`: {what}")]
    Argument {
        /// The argument's name in the API.
        name: &'static str,
        /// What is wrong and what was expected.
        what: String,
    },
    /// The tokenizer in the file cannot be built, or a text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template is broken, or refuses the messages.
    #[error("chat template: {0}")]
    Template(String),
    /// More positions are needed than the context holds.
    #[error("context of {capacity} tokens is too small: {needed} needed")]
    ContextFull {
        /// Positions needed: prompt, committed tokens and one canvas.
        needed: usize,
        /// Positions the context was created with.
        capacity: usize,
    },
    /// A buffer could not be had.
    #[error("out of memory: {bytes} bytes for {what}")]
    OutOfMemory {
        /// The size asked for.
        bytes: usize,
        /// What it was for.
        what: &'static str,
    },
    /// A plan needs more memory than there is; nothing was loaded.
    #[error("{0}")]
    TooLittleMemory(String),
    /// The caller's buffer cannot take the result.
    #[error("buffer of {cap} entries is too small: {needed} needed")]
    BufferTooSmall {
        /// Entries needed, a terminator included.
        needed: usize,
        /// Entries the caller had room for.
        cap: usize,
    },
    /// What was asked for is not there.
    #[error("{0} not found")]
    NotFound(String),
    /// Another call is using the object.
    #[error("{0} is in use by another call")]
    Busy(&'static str),
    /// Another thread, or a callback, asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The GPU, its driver or its run-time compiler refused.
    #[error("{call}: {what}")]
    Device {
        /// The driver's call that failed.
        call: &'static str,
        /// What it answered and what was expected.
        what: String,
    },
    /// The library contradicted itself; a report with the message is welcome.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// An [`Error::Io`] about `path`.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_owned(), source }
    }

    /// An [`Error::File`] about `file`.
    pub fn file(file: &Path, what: impl Into<String>) -> Self {
        Error::File { file: file.to_owned(), what: what.into() }
    }

    /// An [`Error::Key`] about `key` in `file`.
    pub fn key(file: &Path, key: &str, what: impl Into<String>) -> Self {
        Error::Key { file: file.to_owned(), key: key.to_owned(), what: what.into() }
    }

    /// An [`Error::Tensor`] about `tensor` in `file`.
    pub fn tensor(file: &Path, tensor: &str, what: impl Into<String>) -> Self {
        Error::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), what: what.into() }
    }

    /// An [`Error::Argument`] about `name`.
    pub fn argument(name: &'static str, what: impl Into<String>) -> Self {
        Error::Argument { name, what: what.into() }
    }
}

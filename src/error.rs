//! The one error type. Each message is a single line that names the file, tensor, key or argument and says what was
//! expected; `capi/status.rs` turns the variant into a status code.

use std::fmt::{self, Display, Write};
use std::path::{Path, PathBuf};

/// `std::result::Result` with the library's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused: not found, not readable, disk full ...
    #[error("{}: {source}", Line(path.display()))]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is malformed outside any single key or tensor.
    #[error("{}: {}", Line(file.display()), Line(what))]
    File {
        /// The file concerned.
        file: PathBuf,
        /// What is wrong and what was expected.
        what: String,
    },
    /// A metadata key is missing or has an impossible value.
    #[error("{}: key `{}`: {}", Line(file.display()), Line(key), Line(what))]
    Key {
        /// The file concerned.
        file: PathBuf,
        /// The full key.
        key: String,
        /// What is wrong and what was expected.
        what: String,
    },
    /// A tensor is missing, has the wrong shape or type, or lies outside the file.
    #[error("{}: tensor `{}`: {}", Line(file.display()), Line(tensor), Line(what))]
    Tensor {
        /// The file concerned.
        file: PathBuf,
        /// The tensor's name as in the file.
        tensor: String,
        /// What is wrong and what was expected.
        what: String,
    },
    /// The caller passed a value outside its documented range.
    #[error("argument `{name}`: {}", Line(what))]
    Argument {
        /// The argument's name in the API.
        name: &'static str,
        /// What is wrong and what was expected.
        what: String,
    },
    /// The tokenizer in the file cannot be built, or a text cannot be encoded.
    #[error("tokenizer: {}", Line(.0))]
    Tokenizer(String),
    /// The chat template is broken, or refuses the messages.
    #[error("chat template: {}", Line(.0))]
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
    #[error("{} not found", Line(.0))]
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

/// Shows control characters as escapes: what a file, or a caller, calls something may have line ends in it.
struct Line<T>(T);

impl<T: Display> Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let escape =
            |c: char| if c.is_control() { f.write_str(&c.escape_default().to_string()) } else { f.write_char(c) };
        text.chars().try_for_each(escape)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: names and values out of files went into messages as they were.
    #[test]
    fn messages_are_one_line() {
        let file = Path::new("a\nb.gguf");
        assert_eq!(Error::key(file, "k\r\n", "is \u{85}").to_string(), r"a\nb.gguf: key `k\r\n`: is \u{85}");
        assert_eq!(Error::tensor(file, "t\0", "Ä").to_string(), r"a\nb.gguf: tensor `t\u{0}`: Ä");
        assert_eq!(Error::NotFound("key `\n`".into()).to_string(), r"key `\n` not found");
    }
}

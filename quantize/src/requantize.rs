//! A model file in other types, for as long as it is needed: it lies in the system's temporary directory and is gone with
//! the last use of it.

use crate::convert::{self, Options};
use dgemma::Result;
use dgemma::gguf::Gguf;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The model file `path` converted as `options` say.
pub fn requantize(path: &Path, options: &Options) -> Result<Gguf> {
    let scratch = Scratch::new();
    convert::run(path, &scratch.0, options)?;
    Gguf::open(&scratch.0) // mapped, and so alive, when the name goes
}

/// A name in the temporary directory; whatever has it is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("dgemma-quantize-{}-{}.gguf", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Scratch(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // it may never have come to be
    }
}

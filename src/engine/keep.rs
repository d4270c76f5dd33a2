//! Contexts copied, saved and loaded, and their memory. Next: `snapshot.rs`, the format.

use super::cancel::CancelToken;
use super::snapshot::{CHECKSUM_BYTES, HEADER_BYTES, Header, LAYER_BYTES, Writer, parse};
use super::{Context, ContextPerf};
use crate::error::{Error, Result};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where a context's memory is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// The model's files, mapped or read; shared by all contexts of the model.
    pub weights: u64,
    /// Cached keys and values at their full size. The system hands out the pages as they are filled.
    pub kv: u64,
    /// Activations. A step needs some more for its time: at the real model's size, less than 64 MB.
    pub activations: u64,
}

impl Context {
    /// What this context's memory is made of.
    pub fn memory(&self) -> MemoryUse {
        let (kv, activations) = self.runner.memory();
        MemoryUse { weights: self.model.file().file_bytes(), kv: kv as u64, activations: activations as u64 }
    }

    /// Number type of the cached keys and values.
    pub fn kv_type(&self) -> crate::backend::KvType {
        self.kv
    }

    /// A copy: tokens, keys and values, sizes. It has a stop button and totals of its own, and blocks of the original cannot
    /// be stepped on it.
    pub fn try_clone(&self) -> Result<Context> {
        let mut runner = self.runner.sibling()?;
        for layer in 0..self.model.config().layers.len() {
            runner.import(layer, &self.runner.export(layer, self.encoded)?)?;
        }
        Ok(Context {
            model: self.model.clone(),
            runner,
            tokens: self.tokens.clone(),
            encoded: self.encoded,
            size: self.size,
            chunk: self.chunk,
            kv: self.kv,
            cancel: CancelToken::default(),
            soft_of: 0,
            hidden_of: 0,
            perf: ContextPerf::default(),
        })
    }

    /// Bytes that [`Context::save`] would write now.
    pub fn saved_bytes(&self) -> u64 {
        let layer = |(i, shape): (usize, &crate::model::LayerShape)| {
            let positions = self.encoded - self.runner.first_held(i, self.encoded);
            LAYER_BYTES + 2 * positions * shape.kv_heads * shape.head_dim * self.kv.bytes()
        };
        let layers: usize = self.model.config().layers.iter().enumerate().map(layer).sum();
        (HEADER_BYTES + 4 * self.tokens.len() + layers + CHECKSUM_BYTES) as u64
    }

    /// Writes tokens, keys and values, with a fingerprint of the model and a checksum; the bytes written. Sampler, totals
    /// and blocks under way are not part of it.
    pub fn save(&self, out: &mut dyn Write) -> Result<u64> {
        let shapes = &self.model.config().layers;
        let mut writer = Writer::new(out);
        writer.header(&Header {
            kv: self.kv,
            fingerprint: self.model.fingerprint(),
            tokens: self.tokens.len(),
            encoded: self.encoded,
            layers: shapes.len(),
        })?;
        writer.tokens(&self.tokens)?;
        for (i, shape) in shapes.iter().enumerate() {
            writer.layer(shape.kv_heads, shape.head_dim, &self.runner.export(i, self.encoded)?)?;
        }
        writer.finish()
    }

    /// [`Context::save`] to a file, which appears when it is complete; an older one of that name is replaced.
    pub fn save_file(&self, path: &Path) -> Result<u64> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = PathBuf::from(name);
        let failed = |e| Error::io(path, e);
        let written = fs::File::create(&part).map_err(failed).and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            let bytes = self.save(&mut out).map_err(|e| named(e, path))?;
            let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
            file.sync_all().map_err(failed)?;
            fs::rename(&part, path).map_err(failed)?;
            Ok(bytes)
        });
        if written.is_err() {
            let _ = fs::remove_file(&part); // the first error is the one to tell
        }
        written
    }

    /// Takes over what [`Context::save`] wrote: the timeline becomes the saved one, encoded as it was. The context may be
    /// of another size or chunk size than the saved one, but has the same K/V type. On failure nothing has changed.
    ///
    /// [`Error::Argument`]: not a saved context, damaged, of another model, or with another K/V type;
    /// [`Error::ContextFull`]: more tokens than this context holds.
    pub fn load(&mut self, bytes: &[u8]) -> Result<()> {
        self.load_checked(bytes, &|what| Error::argument("bytes", what))
    }

    /// [`Context::load`] from a file. [`Error::File`] instead of [`Error::Argument`], and [`Error::Io`].
    pub fn load_file(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
        self.load_checked(&bytes, &|what| Error::file(path, what))
    }

    fn load_checked(&mut self, bytes: &[u8], wrong: &dyn Fn(String) -> Error) -> Result<()> {
        let saved = parse(bytes, self.model.config(), self.model.fingerprint(), self.kv).map_err(wrong)?;
        if saved.tokens.len() > self.size {
            return Err(Error::ContextFull { needed: saved.tokens.len(), capacity: self.size });
        }
        self.truncate(0);
        (self.soft_of, self.hidden_of) = (0, 0);
        for (layer, rows) in saved.layers.iter().enumerate() {
            self.runner.import(layer, rows)?; // fails only if the device does; then the context is empty
        }
        (self.tokens, self.encoded) = (saved.tokens, saved.encoded);
        Ok(())
    }
}

/// An error of writing, with the file's name.
fn named(error: Error, path: &Path) -> Error {
    match error {
        Error::Io { source, .. } => Error::io(path, source),
        other => other,
    }
}

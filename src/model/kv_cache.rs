//! The prompt's keys and values, per layer: a ring on sliding layers, every position on full ones.
//!
//! A sliding row sees window - 1 earlier positions, so the ring needs that many. It has `slack` slots more, the longest
//! prefill chunk: then a chunk that is given up half way has overwritten nothing that its repetition needs, and the
//! context can be cut back by that much without encoding the prompt again.

use super::config::{Config, LayerShape};
use crate::backend::{Backend, KvLayer};
use crate::error::Result;

pub struct KvCache<B: Backend> {
    pub layers: Vec<KvLayer<B::Buffer>>,
    windows: Vec<Option<usize>>,
    /// One past the highest position that any layer may have stored since the last reset: positions below
    /// `written - capacity` are gone for good.
    written: usize,
}

impl<B: Backend> KvCache<B> {
    /// A cache for `context` positions, appended to by at most `slack` at a time.
    pub fn new(backend: &B, config: &Config, context: usize, slack: usize) -> Result<Self> {
        let layer = |shape: &LayerShape| {
            let capacity = shape.window.map_or(context, |w| (w - 1 + slack).min(context)).max(1);
            let len = shape.kv_heads * capacity * shape.head_dim;
            Ok(KvLayer {
                k: backend.buffer(len, "cached keys")?,
                v: backend.buffer(len, "cached values")?,
                capacity,
                kv_heads: shape.kv_heads,
                head_dim: shape.head_dim,
            })
        };
        Ok(KvCache {
            layers: config.layers.iter().map(layer).collect::<Result<_>>()?,
            windows: config.layers.iter().map(|l| l.window).collect(),
            written: 0,
        })
    }

    /// Notes that positions up to `end` are about to be stored.
    pub fn will_write(&mut self, end: usize) {
        self.written = self.written.max(end);
    }

    /// Whether a row at position `n` would still find everything it sees.
    pub fn can_resume_at(&self, n: usize) -> bool {
        self.layers.iter().zip(&self.windows).all(|(layer, window)| {
            let first_needed = window.map_or(0, |w| (n + 1).saturating_sub(w));
            first_needed + layer.capacity >= self.written || n == 0
        })
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.written = 0;
    }
}

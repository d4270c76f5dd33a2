//! The prompt's keys and values, per layer: a ring on sliding layers, every position on full ones.
//!
//! A sliding row sees window - 1 earlier positions, so the ring needs that many. It has `slack` slots more, the longest
//! prefill chunk: then a chunk that is given up half way has overwritten nothing that its repetition needs, and the
//! context can be cut back by that much without encoding the prompt again.

use super::config::{Config, LayerShape};
use crate::backend::{Backend, KvLayer, KvType};
use crate::error::Result;

pub struct KvCache<B: Backend> {
    pub layers: Vec<KvLayer<B::Kv>>,
    windows: Vec<Option<usize>>,
    /// One past the highest position that any layer may have stored since the last reset: positions below
    /// `written - capacity` are gone for good.
    written: usize,
    /// Per layer: positions below were never stored here, since they lay outside of what a saved context had.
    floor: Vec<usize>,
}

/// Positions that a layer of a context of `context` positions keeps.
fn capacity(shape: &LayerShape, context: usize, slack: usize) -> usize {
    shape.window.map_or(context, |w| (w - 1 + slack).min(context)).max(1)
}

/// Bytes of a cache.
pub fn bytes(config: &Config, context: usize, slack: usize, kind: KvType) -> usize {
    let of = |l: &LayerShape| l.kv_heads * capacity(l, context, slack) * l.head_dim;
    2 * kind.bytes() * config.layers.iter().map(of).sum::<usize>()
}

impl<B: Backend> KvCache<B> {
    /// A cache for `context` positions, appended to by at most `slack` at a time.
    pub fn new(backend: &B, config: &Config, context: usize, slack: usize, kind: KvType) -> Result<Self> {
        let layer = |shape: &LayerShape| {
            let capacity = capacity(shape, context, slack);
            let len = shape.kv_heads * capacity * shape.head_dim;
            Ok(KvLayer {
                k: backend.kv_buffer(kind, len, "cached keys")?,
                v: backend.kv_buffer(kind, len, "cached values")?,
                capacity,
                kv_heads: shape.kv_heads,
                head_dim: shape.head_dim,
                kind,
            })
        };
        Ok(KvCache {
            layers: config.layers.iter().map(layer).collect::<Result<_>>()?,
            windows: config.layers.iter().map(|l| l.window).collect(),
            written: 0,
            floor: vec![0; config.layers.len()],
        })
    }

    /// Notes that positions up to `end` are about to be stored.
    pub fn will_write(&mut self, end: usize) {
        self.written = self.written.max(end);
    }

    /// Whether a row at position `n` would still find everything it sees.
    pub fn can_resume_at(&self, n: usize) -> bool {
        n == 0 || (0..self.layers.len()).all(|layer| self.first_needed(layer, n) >= self.first_held(layer))
    }

    /// The first position that a row at position `n` sees on layer `layer`.
    pub fn first_needed(&self, layer: usize, n: usize) -> usize {
        self.windows[layer].map_or(0, |w| (n + 1).saturating_sub(w))
    }

    /// The first position that layer `layer` still holds.
    pub fn first_held(&self, layer: usize) -> usize {
        self.floor[layer].max(self.written.saturating_sub(self.layers[layer].capacity))
    }

    /// Notes that layer `layer` got positions `first..end` from elsewhere.
    pub fn note_import(&mut self, layer: usize, first: usize, end: usize) {
        self.floor[layer] = first;
        self.will_write(end);
    }

    /// Bytes of all layers.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|l| 2 * l.kv_heads * l.capacity * l.head_dim * l.kind.bytes()).sum()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.written = 0;
        self.floor.fill(0);
    }
}

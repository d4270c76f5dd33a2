//! The K/V cache as bytes, layer by layer: what cloning and saving a context need.

use super::kv_cache::KvCache;
use crate::backend::{Backend, KvLayer};
use crate::error::Result;

/// One layer's cached rows as stored: `[kv_heads, positions, head_dim]` in the cache's number type.
#[derive(Clone, Debug, PartialEq)]
pub struct KvBytes<'a> {
    /// First position.
    pub first: usize,
    /// Positions.
    pub positions: usize,
    /// Rotated keys.
    pub k: std::borrow::Cow<'a, [u8]>,
    /// Normed values.
    pub v: std::borrow::Cow<'a, [u8]>,
}

/// Where the rows of positions lie: calls `f(byte range in KvBytes, first element in the cache)` for each row.
fn rows<T>(cache: &KvLayer<T>, first: usize, n: usize, mut f: impl FnMut(usize, usize) -> Result<()>) -> Result<()> {
    for head in 0..cache.kv_heads {
        for i in 0..n {
            f(head * n + i, (head * cache.capacity + (first + i) % cache.capacity) * cache.head_dim)?;
        }
    }
    Ok(())
}

impl<B: Backend> KvCache<B> {
    /// Bytes of one stored row of a head.
    fn row_bytes(&self, layer: usize) -> usize {
        self.layers[layer].head_dim * self.layers[layer].kind.bytes()
    }

    /// Reads layer `layer`'s rows of `positions` back.
    pub fn export(&self, b: &B, layer: usize, positions: std::ops::Range<usize>) -> Result<KvBytes<'static>> {
        let (cache, bytes, n) = (&self.layers[layer], self.row_bytes(layer), positions.len());
        let read = |from: &B::Kv| {
            let mut to = vec![0; cache.kv_heads * n * bytes];
            rows(cache, positions.start, n, |row, at| b.kv_copy_out(from, at, &mut to[row * bytes..][..bytes]))?;
            Ok(to.into())
        };
        Ok(KvBytes { first: positions.start, positions: n, k: read(&cache.k)?, v: read(&cache.v)? })
    }

    /// Stores rows in layer `layer` as if they had been encoded here; those before the last `capacity` are left out.
    pub fn import(&mut self, b: &B, layer: usize, from: &KvBytes) -> Result<()> {
        let (bytes, all) = (self.row_bytes(layer), from.positions);
        let skip = all.saturating_sub(self.layers[layer].capacity);
        let (first, n) = (from.first + skip, all - skip);
        let cache = &mut self.layers[layer];
        let mut places = Vec::with_capacity(cache.kv_heads * n);
        rows(cache, first, n, |row, at| {
            let source = row / n * all + skip + row % n; // the same row among all that were given
            places.push((source * bytes, at));
            Ok(())
        })?;
        for (to, from) in [(&mut cache.k, &from.k), (&mut cache.v, &from.v)] {
            places.iter().try_for_each(|&(source, at)| b.kv_copy_in(&from[source..source + bytes], to, at))?;
        }
        self.note_import(layer, first, first + n);
        Ok(())
    }
}

//! The K/V cache as bytes, layer by layer: what cloning and saving a context need.

use super::kv_cache::KvCache;
use crate::backend::{Backend, KvLayer, KvType};
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

    /// Fills positions `0..len` of every layer with numbers of about the size of real ones, as far as layers hold them.
    pub fn fill(&mut self, b: &B, len: usize) -> Result<()> {
        for layer in 0..self.layers.len() {
            let cache = &self.layers[layer];
            let (kind, first) = (cache.kind, len.saturating_sub(cache.capacity));
            let row = |n: usize| {
                let mut bytes = vec![0; cache.kv_heads * (len - first) * self.row_bytes(layer)];
                // Keys and queries are normed to a mean square of 1 or so; uniform numbers in -1..1 have one of 1/3.
                for (i, number) in bytes.chunks_exact_mut(kind.bytes()).enumerate() {
                    let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(n as u32);
                    let x = (bits >> 40) as f32 / (1 << 23) as f32 - 1.0;
                    match kind {
                        KvType::F32 => number.copy_from_slice(&x.to_le_bytes()),
                        KvType::F16 => number.copy_from_slice(&half::f16::from_f32(x).to_le_bytes()),
                        KvType::Bf16 => number.copy_from_slice(&half::bf16::from_f32(x).to_le_bytes()),
                    }
                }
                bytes
            };
            let rows = KvBytes { first, positions: len - first, k: row(1).into(), v: row(2).into() };
            self.import(b, layer, &rows)?;
        }
        Ok(())
    }
}

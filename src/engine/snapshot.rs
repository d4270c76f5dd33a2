//! Saved contexts. All numbers little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `"DGEMMACX"` |
//! | 4 | version, 1 |
//! | 4 | number type of keys and values: 0 f32, 1 f16, 2 bf16 |
//! | 8 | the model's fingerprint (`fingerprint.rs`) |
//! | 8, 8 | tokens T, encoded positions E |
//! | 4, 4 | layers, 0 |
//! | 4 T | token ids |
//! | per layer: 8 | first held position F |
//! | 4, 4 | K/V heads, elements per head |
//! | 2 x | keys, then values: `[heads, E - F, elements]` |
//! | 8 | hash of everything before (`hash.rs`) |
//!
//! A file is read as if somebody had made it to do harm: nothing is taken over before everything is checked.

use super::hash::Hash64;
use crate::backend::KvType;
use crate::error::{Error, Result};
use crate::model::{Config, KvBytes};
use std::io::Write;
use std::path::Path;

const MAGIC: &[u8; 8] = b"DGEMMACX";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 48;
pub(super) const LAYER_BYTES: usize = 16;
pub(super) const CHECKSUM_BYTES: usize = 8;

/// The types by their numbers in the file.
const KV_TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Bf16];

/// What the header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub kv: KvType,
    pub fingerprint: u64,
    pub tokens: usize,
    pub encoded: usize,
    pub layers: usize,
}

/// Writes and hashes.
pub(super) struct Writer<'a> {
    out: &'a mut dyn Write,
    hash: Hash64,
    bytes: u64,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        Writer { out, hash: Hash64::default(), bytes: 0 }
    }

    fn put(&mut self, data: &[u8]) -> Result<()> {
        self.hash.add(data);
        self.bytes += data.len() as u64;
        self.out.write_all(data).map_err(|e| Error::io(Path::new("saved context"), e))
    }

    pub fn header(&mut self, h: &Header) -> Result<()> {
        self.put(MAGIC)?;
        self.put(&VERSION.to_le_bytes())?;
        let kv = KV_TYPES.iter().position(|&k| k == h.kv).unwrap_or(0) as u32;
        self.put(&kv.to_le_bytes())?;
        for n in [h.fingerprint, h.tokens as u64, h.encoded as u64] {
            self.put(&n.to_le_bytes())?;
        }
        self.put(&(h.layers as u64).to_le_bytes()) // the upper half is the 0
    }

    pub fn tokens(&mut self, tokens: &[u32]) -> Result<()> {
        tokens.iter().try_for_each(|t| self.put(&t.to_le_bytes()))
    }

    pub fn layer(&mut self, heads: usize, dim: usize, rows: &KvBytes) -> Result<()> {
        self.put(&(rows.first as u64).to_le_bytes())?;
        self.put(&(heads as u32).to_le_bytes())?;
        self.put(&(dim as u32).to_le_bytes())?;
        self.put(&rows.k)?;
        self.put(&rows.v)
    }

    /// The checksum; bytes written in all.
    pub fn finish(mut self) -> Result<u64> {
        let hash = self.hash.finish();
        self.put(&hash.to_le_bytes())?;
        self.out.flush().map_err(|e| Error::io(Path::new("saved context"), e))?;
        Ok(self.bytes)
    }
}

/// A checked file.
pub(super) struct Saved<'a> {
    pub tokens: Vec<u32>,
    pub encoded: usize,
    pub layers: Vec<KvBytes<'a>>,
}

type What<T> = std::result::Result<T, String>;

/// The next `n` bytes of `data`.
fn take<'a>(data: &mut &'a [u8], n: usize) -> What<&'a [u8]> {
    let (head, rest) = data.split_at_checked(n).ok_or("is shorter than it says: damaged")?;
    *data = rest;
    Ok(head)
}

fn u32_of(data: &mut &[u8]) -> What<u32> {
    let bytes = take(data, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn u64_of(data: &mut &[u8]) -> What<u64> {
    let (low, high) = (u32_of(data)?, u32_of(data)?);
    Ok(u64::from(low) | u64::from(high) << 32)
}

fn size_of_u64(n: u64) -> What<usize> {
    usize::try_from(n).map_err(|_| format!("says {n}, more than this machine can count: damaged"))
}

/// Checks `data` against the model it is for and takes it apart.
pub(super) fn parse<'a>(data: &'a [u8], config: &Config, fingerprint: u64, kv: KvType) -> What<Saved<'a>> {
    let mut rest = data;
    if take(&mut rest, MAGIC.len()).ok() != Some(MAGIC) {
        return Err("is not a saved context".into());
    }
    let version = u32_of(&mut rest)?;
    if version != VERSION {
        return Err(format!("is a saved context of version {version}, expected {VERSION}"));
    }
    check_hash(data)?;
    rest = &rest[..rest.len() - CHECKSUM_BYTES];
    let header = header(&mut rest)?;
    if header.fingerprint != fingerprint {
        return Err("was saved with another model".into());
    }
    if header.kv != kv {
        return Err(format!("has {} keys and values, but the context has {}", header.kv.name(), kv.name()));
    }
    let damaged = |what: &str| format!("contradicts itself ({what}): damaged");
    if header.layers != config.layers.len() || header.encoded > header.tokens {
        return Err(damaged("sizes"));
    }
    let ids = take(&mut rest, header.tokens.checked_mul(4).ok_or_else(|| damaged("tokens"))?)?;
    let tokens: Vec<u32> = ids.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
    if tokens.iter().any(|&t| t as usize >= config.vocab) {
        return Err(damaged("token ids"));
    }
    let layers = config.layers.iter().map(|shape| {
        let first = size_of_u64(u64_of(&mut rest)?)?;
        let (heads, dim) = (u32_of(&mut rest)? as usize, u32_of(&mut rest)? as usize);
        let needed = shape.window.map_or(0, |w| (header.encoded + 1).saturating_sub(w)).min(header.encoded);
        if (heads, dim) != (shape.kv_heads, shape.head_dim) || first > needed {
            return Err(damaged("a layer"));
        }
        let positions = header.encoded - first;
        let bytes = positions.checked_mul(heads * dim * kv.bytes()).ok_or_else(|| damaged("a layer"))?;
        Ok(KvBytes { first, positions, k: take(&mut rest, bytes)?.into(), v: take(&mut rest, bytes)?.into() })
    });
    let layers = layers.collect::<What<Vec<_>>>()?;
    if !rest.is_empty() {
        return Err(damaged("its length"));
    }
    Ok(Saved { tokens, encoded: header.encoded, layers })
}

fn check_hash(data: &[u8]) -> What<()> {
    let shortest = HEADER_BYTES + CHECKSUM_BYTES;
    let (body, mut stored) =
        data.split_at_checked(data.len().saturating_sub(CHECKSUM_BYTES)).ok_or("is shorter than it says: damaged")?;
    let mut hash = Hash64::default();
    hash.add(body);
    if data.len() < shortest || hash.finish() != u64_of(&mut stored)? {
        return Err("has a wrong checksum: damaged or cut off".into());
    }
    Ok(())
}

/// Behind magic and version.
fn header(rest: &mut &[u8]) -> What<Header> {
    let kind = u32_of(rest)?;
    let kv = *KV_TYPES.get(kind as usize).ok_or_else(|| format!("has keys and values of unknown type {kind}"))?;
    let fingerprint = u64_of(rest)?;
    let (tokens, encoded) = (size_of_u64(u64_of(rest)?)?, size_of_u64(u64_of(rest)?)?);
    Ok(Header { kv, fingerprint, tokens, encoded, layers: size_of_u64(u64_of(rest)?)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Gguf;
    use std::path::PathBuf;

    fn config() -> Config {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/peer/micro-f32.gguf");
        Config::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
    }

    /// Three tokens, two encoded.
    fn small(config: &Config) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        let layers = config.layers.len();
        writer.header(&Header { kv: KvType::F16, fingerprint: 7, tokens: 3, encoded: 2, layers }).unwrap();
        writer.tokens(&[1, 2, 3]).unwrap();
        for shape in &config.layers {
            let row = vec![0u8; 2 * shape.kv_heads * shape.head_dim * 2];
            let rows = KvBytes { first: 0, positions: 2, k: row.clone().into(), v: row.into() };
            writer.layer(shape.kv_heads, shape.head_dim, &rows).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    /// Any byte before the rows set to any of a few values, with a checksum that fits: never a panic, never more than the
    /// file holds; and a file that is still accepted differs in nothing but token ids.
    #[test]
    fn forged_numbers_are_refused() {
        let config = config();
        let good = small(&config);
        assert_eq!(parse(&good, &config, 7, KvType::F16).map(|s| s.tokens), Ok(vec![1, 2, 3]));
        let first_layer = HEADER_BYTES + 12;
        for at in 12..first_layer + LAYER_BYTES {
            for value in [1, 2, 3, 0x7f, 0x80, 0xff].map(|x: u8| x ^ good[at]) {
                let mut bad = good.clone();
                bad[at] = value;
                let body = bad.len() - CHECKSUM_BYTES;
                let mut hash = Hash64::default();
                hash.add(&bad[..body]);
                bad[body..].copy_from_slice(&hash.finish().to_le_bytes());
                if let Ok(saved) = parse(&bad, &config, 7, KvType::F16) {
                    assert!((HEADER_BYTES..first_layer).contains(&at), "byte {at} set to {value} was accepted");
                    assert!(saved.tokens.iter().all(|&t| (t as usize) < config.vocab));
                }
            }
        }
    }
}

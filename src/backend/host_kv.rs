//! Cached keys and values in host memory, in the number type that the context asked for. The tensor formats of the same
//! names do the conversions.

use super::KvType;
use super::host_weight::zeroed;
use crate::error::Result;
use crate::quant::{self, Format};

/// `len` elements of one type.
#[derive(Debug)]
pub struct HostKv {
    format: &'static Format,
    data: Vec<u8>,
}

fn format(kind: KvType) -> &'static Format {
    match kind {
        KvType::F32 => &quant::f32::F32,
        KvType::F16 => &quant::f16::F16,
        KvType::Bf16 => &quant::bf16::BF16,
    }
}

/// `x` as it comes back from a cache of `kind`.
pub fn round(kind: KvType, x: &mut [f32]) {
    let format = format(kind);
    let mut bytes = vec![0; x.len() * format.block_bytes];
    (format.encode)(x, None, &mut bytes);
    (format.decode)(&bytes, x);
}

impl HostKv {
    /// Zeros.
    pub fn new(kind: KvType, len: usize, what: &'static str) -> Result<Self> {
        let format = format(kind);
        Ok(HostKv { format, data: zeroed(len.saturating_mul(format.block_bytes), what)? })
    }

    /// Elements `at..at + dst.len()`.
    #[inline]
    pub fn load(&self, at: usize, dst: &mut [f32]) {
        let bytes = self.format.block_bytes;
        (self.format.decode)(&self.data[at * bytes..(at + dst.len()) * bytes], dst);
    }

    /// Rounds `src` into elements `at..`.
    #[inline]
    pub fn store(&mut self, src: &[f32], at: usize) {
        let bytes = self.format.block_bytes;
        (self.format.encode)(src, None, &mut self.data[at * bytes..(at + src.len()) * bytes]);
    }

    /// The stored bytes from element `at` on.
    pub fn copy_out(&self, at: usize, dst: &mut [u8]) {
        let start = at * self.format.block_bytes;
        dst.copy_from_slice(&self.data[start..start + dst.len()]);
    }

    /// Puts stored bytes back from element `at` on.
    pub fn copy_in(&mut self, src: &[u8], at: usize) {
        let start = at * self.format.block_bytes;
        self.data[start..start + src.len()].copy_from_slice(src);
    }
}

//! Cached keys and values on the device; launchers of `kv_append.cu`.

use super::driver::{Device, Memory};
use super::{Buffer, Cuda, arguments, grid};
use crate::backend::{KvLayer, KvType};
use crate::error::Result;
use std::sync::Arc;

/// `len` numbers of one type.
pub struct Kv {
    kind: KvType,
    pub(super) memory: Memory,
}

/// The type as kernels know it (`cuda/kv.cuh`).
pub fn number(kind: KvType) -> i32 {
    match kind {
        KvType::F32 => 0,
        KvType::F16 => 1,
        KvType::Bf16 => 2,
    }
}

impl Kv {
    /// Zeros.
    pub fn new(device: &Arc<Device>, kind: KvType, len: usize, what: &'static str) -> Result<Self> {
        Ok(Kv { kind, memory: Memory::zeroed(device, len.saturating_mul(kind.bytes()), what)? })
    }

    /// The stored bytes from element `at` on.
    pub fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<()> {
        self.memory.read(at * self.kind.bytes(), to)
    }

    /// Puts stored bytes back from element `at` on.
    pub fn copy_in(&mut self, from: &[u8], at: usize) -> Result<()> {
        self.memory.write(from, at * self.kind.bytes())
    }

    /// Elements `at ..` as numbers.
    pub fn load(&self, at: usize, to: &mut [f32]) -> Result<()> {
        let mut bytes = vec![0; to.len() * self.kind.bytes()];
        self.copy_out(at, &mut bytes)?;
        let format = match self.kind {
            KvType::F32 => &crate::quant::f32::F32,
            KvType::F16 => &crate::quant::f16::F16,
            KvType::Bf16 => &crate::quant::bf16::BF16,
        };
        (format.decode)(&bytes, to);
        Ok(())
    }
}

pub fn append(cuda: &Cuda, k: &Buffer, v: &Buffer, rows: usize, start: usize, cache: &mut KvLayer<Kv>) -> Result<()> {
    let first = rows.saturating_sub(cache.capacity); // earlier rows would be overwritten at once
    let grid = grid::plane("kv_append", rows - first, cache.kv_heads, 128, 0)?;
    grid::int(start + rows, "position")?;
    let (first, start, capacity) = (first as i32, start as i32, grid::int(cache.capacity, "positions")?);
    let (kv_heads, dim) = (grid::int(cache.kv_heads, "heads")?, grid::int(cache.head_dim, "head width")?);
    let (k_cache, v_cache) = (cache.k.memory.address(0), cache.v.memory.address(0));
    let (k, v, kind) = (k.0.address(0), v.0.address(0), number(cache.kind));
    // SAFETY: (k, v, first, start, capacity, kv_heads, dim, kind, k_cache, v_cache): rows of k and v by the trait's contract,
    // caches of kv_heads * capacity * dim numbers of `kind`.
    unsafe {
        cuda.launch(
            "kv_append",
            None,
            "kv_append",
            grid,
            arguments![k, v, first, start, capacity, kv_heads, dim, kind, k_cache, v_cache],
        )
    }
}

pub fn round(cuda: &Cuda, kind: KvType, x: &Buffer, len: usize) -> Result<()> {
    if kind == KvType::F32 {
        return Ok(());
    }
    let grid = grid::per_element("kv_round", len, 256)?;
    // SAFETY: (x, kind, n), with n numbers in x.
    unsafe { cuda.launch("kv_append", None, "kv_round", grid, arguments![x.0.address(0), number(kind), len as i64]) }
}

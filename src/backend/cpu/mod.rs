//! The fast backend for processors: every operation shared between the threads of a pool of its own, matrices decoded a
//! tile at a time from where the file mapping left them. Reading order: `gemm.rs`, `int8/mod.rs`, `matmul.rs`,
//! `attention.rs`, `experts.rs`, `head.rs`.

mod ahead;
mod attention;
mod bf16;
mod experts;
mod gemm;
mod head;
mod int8;
mod math;
mod matmul;
mod panels;
mod parallel;
mod rope;
mod score;
mod soft;
mod sweep;

use super::host_kv::{self, HostKv};
use super::host_weight::{HostWeight, zeroed};
use super::{
    AttentionShape, Backend, ExpertLoad, ExpertWeights, HeadParams, HeadStats, HeadWeights, HostSampling, KvLayer,
    KvType,
};
use crate::cpu_level::CpuLevel;
use crate::error::{Error, Result};
use crate::gguf::Tensor;
pub use bf16::peak::{peak as peak_bf16, peak_ops as peak_bf16_ops};
pub use experts::{Routes, Slot};
pub use int8::peak::{peak, peak_ops};
use matmul::RowRange;
use parallel::rows_mut;
use std::sync::atomic::AtomicBool;

/// The CPU backend: an instruction set and a thread pool.
pub struct Cpu {
    level: CpuLevel,
    pool: rayon::ThreadPool,
    exact: bool,
}

impl Cpu {
    /// A backend with `threads` threads; 0 means one per available core.
    pub fn new(threads: usize, level: CpuLevel) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("dgemma-{i}"))
            .build()
            .map_err(|e| Error::argument("threads", format!("cannot start {threads} threads: {e}")))?;
        Ok(Cpu { level, pool, exact: false })
    }

    /// The same backend with all products in f32. Otherwise products with quantized weights round their other operand to 8
    /// bits, which is several times faster; see `int8/mod.rs`. Where the processor multiplies BF16 numbers, those with weights
    /// of 16-bit floats round both operands to BF16, which is twice as fast; see `bf16/product.rs`.
    pub fn exact(self, exact: bool) -> Self {
        Cpu { exact, ..self }
    }

    /// What soft embeddings may leave out.
    fn dropped(&self) -> f64 {
        if self.exact { 0.0 } else { soft::DROPPED }
    }
}

impl Backend for Cpu {
    type Weight = HostWeight;
    type Buffer = Vec<f32>;
    type Kv = HostKv;
    type Routes = Routes;
    type Sampler = HostSampling;

    const SHARES_PASSES: bool = true;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.pool.install(f)
    }

    fn weight(&self, tensor: Tensor) -> Result<HostWeight> {
        let mut weight = HostWeight::new(tensor)?;
        if self.exact {
            (weight.codes, weight.pairs) = (None, None);
        }
        Ok(weight)
    }

    fn buffer(&self, len: usize, what: &'static str) -> Result<Vec<f32>> {
        zeroed(len, what)
    }

    fn routes(&self, rows: usize, top_k: usize, ffn: usize, hidden: usize) -> Result<Routes> {
        Routes::new(rows, top_k, ffn, hidden)
    }

    fn write(&self, src: &[f32], dst: &mut Vec<f32>, at: usize) -> Result<()> {
        dst[at..at + src.len()].copy_from_slice(src);
        Ok(())
    }

    fn read(&self, src: &Vec<f32>, at: usize, dst: &mut [f32]) -> Result<()> {
        dst.copy_from_slice(&src[at..at + dst.len()]);
        Ok(())
    }

    fn copy(&self, src: &Vec<f32>, from: usize, len: usize, dst: &mut Vec<f32>, at: usize) -> Result<()> {
        dst[at..at + len].copy_from_slice(&src[from..from + len]);
        Ok(())
    }

    fn kv_buffer(&self, kind: KvType, len: usize, what: &'static str) -> Result<HostKv> {
        HostKv::new(kind, len, what)
    }

    fn kv_round(&self, kind: KvType, x: &mut Vec<f32>, len: usize) -> Result<()> {
        host_kv::round(kind, &mut x[..len]);
        Ok(())
    }

    fn kv_read(&self, src: &HostKv, at: usize, dst: &mut [f32]) -> Result<()> {
        src.load(at, dst);
        Ok(())
    }

    fn kv_copy_out(&self, src: &HostKv, at: usize, dst: &mut [u8]) -> Result<()> {
        src.copy_out(at, dst);
        Ok(())
    }

    fn kv_copy_in(&self, src: &[u8], dst: &mut HostKv, at: usize) -> Result<()> {
        dst.copy_in(src, at);
        Ok(())
    }

    fn embed(&self, table: &HostWeight, ids: &[u32], scale: f32, out: &mut Vec<f32>) -> Result<()> {
        rows_mut(&mut out[..ids.len() * table.cols], table.cols, 2, |i, row| {
            table.decode(ids[i] as usize, 0, row);
            math::scale(self.level, row, scale);
        });
        Ok(())
    }

    fn rms_norm(
        &self,
        x: &Vec<f32>,
        weight: Option<&Vec<f32>>,
        rows: usize,
        dim: usize,
        eps: f32,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        rows_mut(&mut out[..rows * dim], dim, 2, |i, out| {
            math::rms_norm_row(self.level, &x[i * dim..][..dim], weight.map(|w| &w[..dim]), eps, out);
        });
        Ok(())
    }

    fn rms_norm_in_place(
        &self,
        x: &mut Vec<f32>,
        weight: Option<&Vec<f32>>,
        rows: usize,
        dim: usize,
        eps: f32,
    ) -> Result<()> {
        rows_mut(&mut x[..rows * dim], dim, 2, |_, row| {
            math::rms_norm_row_in_place(self.level, row, weight.map(|w| &w[..dim]), eps);
        });
        Ok(())
    }

    fn rms_norm_add(
        &self,
        x: &Vec<f32>,
        weight: &Vec<f32>,
        rows: usize,
        dim: usize,
        eps: f32,
        acc: &mut Vec<f32>,
    ) -> Result<()> {
        rows_mut(&mut acc[..rows * dim], dim, 2, |i, acc| {
            math::rms_norm_add_row(self.level, &x[i * dim..][..dim], &weight[..dim], eps, acc);
        });
        Ok(())
    }

    fn matmul(&self, weight: &HostWeight, x: &Vec<f32>, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        matmul::matmul(self.level, RowRange::new(weight, 0, weight.rows), x, rows, out)
    }

    fn rope(
        &self,
        x: &mut Vec<f32>,
        inv_freq: &Vec<f32>,
        rows: usize,
        heads: usize,
        dim: usize,
        start: usize,
    ) -> Result<()> {
        rope::rope(self.level, &mut x[..rows * heads * dim], inv_freq, heads, dim, start);
        Ok(())
    }

    fn attention(
        &self,
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
        cache: &KvLayer<HostKv>,
        shape: &AttentionShape,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let (queries, keys) = (shape.query_start(), shape.key_start());
        let inputs = attention::Inputs { q: &q[queries..], k: &k[keys..], v: &v[keys..], cache, shape };
        attention::attention(self.level, self.exact, inputs, &mut out[queries..]);
        Ok(())
    }

    fn kv_append(
        &self,
        k: &Vec<f32>,
        v: &Vec<f32>,
        rows: usize,
        start: usize,
        cache: &mut KvLayer<HostKv>,
    ) -> Result<()> {
        let (heads, dim, capacity) = (cache.kv_heads, cache.head_dim, cache.capacity);
        for (from, to) in [(k, &mut cache.k), (v, &mut cache.v)] {
            for row in rows.saturating_sub(capacity)..rows {
                for head in 0..heads {
                    let at = (head * capacity + (start + row) % capacity) * dim;
                    to.store(&from[(row * heads + head) * dim..][..dim], at);
                }
            }
        }
        Ok(())
    }

    fn gelu_mul(&self, gate: &mut Vec<f32>, up: &Vec<f32>, len: usize) -> Result<()> {
        const CHUNK: usize = 4096;
        let whole = len / CHUNK * CHUNK;
        rows_mut(&mut gate[..whole], CHUNK, 16, |i, g| math::gelu_mul(self.level, g, &up[i * CHUNK..][..CHUNK]));
        math::gelu_mul(self.level, &mut gate[whole..len], &up[whole..len]);
        Ok(())
    }

    fn add(&self, x: &Vec<f32>, len: usize, acc: &mut Vec<f32>) -> Result<()> {
        math::add(self.level, &x[..len], &mut acc[..len]);
        Ok(())
    }

    fn scale(&self, x: &mut Vec<f32>, factor: f32, len: usize) -> Result<()> {
        math::scale(self.level, &mut x[..len], factor);
        Ok(())
    }

    fn route(
        &self,
        logits: &Vec<f32>,
        expert_scale: &Vec<f32>,
        rows: usize,
        experts: usize,
        _top_k: usize,
        routes: &mut Routes,
    ) -> Result<()> {
        experts::route(&logits[..rows * experts], expert_scale, experts, routes);
        Ok(())
    }

    fn expert_load(&self, routes: &Routes) -> ExpertLoad {
        routes.load()
    }

    fn experts(
        &self,
        weights: ExpertWeights<HostWeight>,
        x: &Vec<f32>,
        rows: usize,
        routes: &mut Routes,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        experts::experts(self.level, weights, &x[..rows * weights.hidden], routes, &mut out[..rows * weights.hidden])
    }

    fn logits(
        &self,
        table: &HostWeight,
        x: &Vec<f32>,
        rows: usize,
        softcap: Option<f32>,
        out: &mut [f32],
    ) -> Result<()> {
        head::logits(self.level, table, x, rows, softcap, out)
    }

    fn head(
        &self,
        weights: HeadWeights<HostWeight>,
        x: &Vec<f32>,
        rows: usize,
        params: &HeadParams,
        soft: &mut Vec<f32>,
        stats: &mut HeadStats,
    ) -> Result<()> {
        let x = &x[..rows * weights.table.cols];
        head::head(self.level, weights, x, params, self.dropped(), soft, stats)
    }

    fn log_probs(
        &self,
        table: &HostWeight,
        x: &Vec<f32>,
        rows: usize,
        softcap: Option<f32>,
        wanted: &[(usize, u32)],
        cancel: &AtomicBool,
        out: &mut [f32],
    ) -> Result<()> {
        let params =
            HeadParams { temperature: 1.0, softcap, bias: &[], uniforms: &[], likely: &[], soft_scale: 0.0, cancel };
        score::log_probs(self.level, table, &x[..rows * table.cols], &params, wanted, out)
    }

    fn soft_embedding(
        &self,
        embedding: &HostWeight,
        logits: &[f32],
        rows: usize,
        scale: f32,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        soft::of_logits(self.level, embedding, logits, rows, scale, self.dropped(), out)
    }
}

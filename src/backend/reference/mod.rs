//! The oracle: every operation as its formula reads, in f32 with f64 sums, on one thread.

mod attention;
mod experts;
mod head;
mod matmul;
mod rms_norm;
mod rope;
mod route;

use super::host_kv::{self, HostKv};
use super::host_weight::HostWeight;
use super::{
    AttentionShape, Backend, ExpertWeights, HeadParams, HeadStats, HeadWeights, HostSampling, KvLayer, KvType,
};
use crate::error::Result;
use crate::gguf::Tensor;
pub use route::Routes;
use std::sync::atomic::AtomicBool;

/// The reference backend.
#[derive(Debug, Default)]
pub struct Reference;

/// GELU in its tanh form, as the model was trained with (`gelu_pytorch_tanh`).
fn gelu_tanh(x: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

impl Backend for Reference {
    type Weight = HostWeight;
    type Buffer = Vec<f32>;
    type Kv = HostKv;
    type Routes = Routes;
    type Sampler = HostSampling;

    const SHARES_PASSES: bool = true;

    fn name(&self) -> &'static str {
        "reference"
    }

    fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        f()
    }

    fn weight(&self, tensor: Tensor) -> Result<HostWeight> {
        HostWeight::new(tensor)
    }

    fn buffer(&self, len: usize, what: &'static str) -> Result<Vec<f32>> {
        super::host_weight::zeroed(len, what)
    }

    fn routes(&self, _rows: usize, _top_k: usize, _ffn: usize, _hidden: usize) -> Result<Routes> {
        Ok(Routes::default())
    }

    fn write(&self, src: &[f32], dst: &mut Vec<f32>, at: usize) -> Result<()> {
        dst[at..at + src.len()].copy_from_slice(src);
        Ok(())
    }

    fn read(&self, src: &Vec<f32>, at: usize, dst: &mut [f32]) -> Result<()> {
        dst.copy_from_slice(&src[at..at + dst.len()]);
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
        for (&id, row) in ids.iter().zip(out.chunks_exact_mut(table.cols)) {
            table.decode(id as usize, 0, row);
            row.iter_mut().for_each(|x| *x *= scale);
        }
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
        out[..rows * dim].copy_from_slice(&x[..rows * dim]);
        self.rms_norm_in_place(out, weight, rows, dim, eps)
    }

    fn rms_norm_in_place(
        &self,
        x: &mut Vec<f32>,
        weight: Option<&Vec<f32>>,
        rows: usize,
        dim: usize,
        eps: f32,
    ) -> Result<()> {
        rms_norm::rms_norm(&mut x[..rows * dim], weight.map(|w| &w[..dim]), dim, eps);
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
        let mut normed = x[..rows * dim].to_vec();
        rms_norm::rms_norm(&mut normed, Some(&weight[..dim]), dim, eps);
        self.add(&normed, rows * dim, acc)
    }

    fn matmul(&self, weight: &HostWeight, x: &Vec<f32>, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        matmul::matmul(weight, 0, weight.rows, &x[..rows * weight.cols], out);
        Ok(())
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
        rope::rope(&mut x[..rows * heads * dim], inv_freq, heads, dim, start);
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
        attention::attention(&q[queries..], &k[keys..], &v[keys..], cache, shape, &mut out[queries..]);
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
        for row in rows.saturating_sub(capacity)..rows {
            for head in 0..heads {
                let from = (row * heads + head) * dim;
                let to = (head * capacity + (start + row) % capacity) * dim;
                cache.k.store(&k[from..from + dim], to);
                cache.v.store(&v[from..from + dim], to);
            }
        }
        Ok(())
    }

    fn gelu_mul(&self, gate: &mut Vec<f32>, up: &Vec<f32>, len: usize) -> Result<()> {
        gate[..len].iter_mut().zip(up).for_each(|(g, u)| *g = gelu_tanh(*g) * u);
        Ok(())
    }

    fn add(&self, x: &Vec<f32>, len: usize, acc: &mut Vec<f32>) -> Result<()> {
        acc[..len].iter_mut().zip(x).for_each(|(a, x)| *a += x);
        Ok(())
    }

    fn scale(&self, x: &mut Vec<f32>, factor: f32, len: usize) -> Result<()> {
        x[..len].iter_mut().for_each(|x| *x *= factor);
        Ok(())
    }

    fn route(
        &self,
        logits: &Vec<f32>,
        expert_scale: &Vec<f32>,
        rows: usize,
        experts: usize,
        top_k: usize,
        routes: &mut Routes,
    ) -> Result<()> {
        *routes = route::route(&logits[..rows * experts], expert_scale, experts, top_k);
        Ok(())
    }

    fn experts(
        &self,
        weights: ExpertWeights<HostWeight>,
        x: &Vec<f32>,
        rows: usize,
        routes: &mut Routes,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        experts::experts(weights, &x[..rows * weights.hidden], routes, out);
        Ok(())
    }

    fn logits(
        &self,
        table: &HostWeight,
        x: &Vec<f32>,
        rows: usize,
        softcap: Option<f32>,
        out: &mut [f32],
    ) -> Result<()> {
        head::logits(table, &x[..rows * table.cols], softcap, out);
        Ok(())
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
        head::head(weights, &x[..rows * weights.table.cols], params, soft, stats)
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
        head::log_probs(table, &x[..rows * table.cols], softcap, wanted, cancel, out)
    }

    fn soft_embedding(
        &self,
        embedding: &HostWeight,
        logits: &[f32],
        rows: usize,
        scale: f32,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        for row in 0..rows {
            let p = head::softmax(&logits[row * embedding.rows..][..embedding.rows]);
            head::soft_embedding(embedding, &p, scale, &mut out[row * embedding.cols..][..embedding.cols]);
        }
        Ok(())
    }
}

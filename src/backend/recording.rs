//! The CPU backend with an ear at every matrix product: for each weight, how strongly each column of its input is driven.
//! That is what an importance matrix is made of. Results are those of [`Cpu`], bit for bit.
//!
//! Heard are [`Backend::matmul`], [`Backend::experts`] (each expert only by the rows routed to it) and the logits of
//! [`Backend::head`], [`Backend::logits`] and [`Backend::log_probs`]. Not heard are uses that read a table by rows, [`Backend::embed`] and the soft
//! embedding: they drive no column more than another.

use super::cpu::{Cpu, Routes};
use super::host_kv::{self, HostKv};
use super::host_weight::HostWeight;
use super::{
    AttentionShape, Backend, ExpertLoad, ExpertWeights, HeadParams, HeadStats, HeadWeights, HostSampling, KvLayer,
    KvType,
};
use crate::error::Result;
use crate::gguf::Tensor;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What went into one weight, a matrix `[rows, columns]` or a stack of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnSums {
    /// Elements per row.
    pub columns: usize,
    /// `[matrices, columns]`: the sum of squares of each input column.
    pub squares: Vec<f64>,
    /// `[matrices]`: the input rows that were summed.
    pub counts: Vec<u64>,
}

impl ColumnSums {
    fn new(columns: usize, matrices: usize) -> Self {
        ColumnSums { columns, squares: vec![0.0; matrices * columns], counts: vec![0; matrices] }
    }

    /// One input row of matrix `matrix`.
    fn add(&mut self, matrix: usize, x: &[f32]) {
        let squares = &mut self.squares[matrix * self.columns..][..self.columns];
        squares.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        self.counts[matrix] += 1;
    }
}

type Shared = Arc<Mutex<ColumnSums>>;

fn lock(sums: &Shared) -> MutexGuard<'_, ColumnSums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner) // sums stay sums
}

/// A weight and the sums of its inputs.
pub struct RecordedWeight {
    weight: HostWeight,
    sums: Shared,
}

impl RecordedWeight {
    /// Adds `rows` input rows to the first (or only) matrix.
    fn hear(&self, x: &[f32], rows: usize) {
        let mut sums = lock(&self.sums);
        let columns = sums.columns;
        x[..rows * columns].chunks_exact(columns).for_each(|row| sums.add(0, row));
    }
}

/// The recording backend. One forward pass at a time, or the sums of several passes mix (they are sums, after all).
pub struct Recording {
    cpu: Cpu,
    /// By tensor name, in the order in which the weights were taken over.
    sums: Mutex<Vec<(String, Shared)>>,
}

impl Recording {
    /// Records what `cpu` computes.
    pub fn new(cpu: Cpu) -> Self {
        Recording { cpu, sums: Mutex::default() }
    }

    /// The sums so far by tensor name, of every weight that was taken over.
    pub fn sums(&self) -> Vec<(String, ColumnSums)> {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.iter().map(|(name, sums)| (name.clone(), lock(sums).clone())).collect()
    }
}

/// The same experts with their plain weights.
fn plain<'a>(w: &ExpertWeights<'a, RecordedWeight>) -> ExpertWeights<'a, HostWeight> {
    ExpertWeights {
        gate: (&w.gate.0.weight, w.gate.1),
        up: (&w.up.0.weight, w.up.1),
        down: &w.down.weight,
        experts: w.experts,
        ffn: w.ffn,
        hidden: w.hidden,
    }
}

/// Adds what `routes` holds after the experts have run.
fn hear_experts(w: &ExpertWeights<RecordedWeight>, x: &[f32], routes: &Routes) {
    let inputs = [Some(w.gate.0), (!std::ptr::eq(w.gate.0, w.up.0)).then_some(w.up.0)];
    for stack in inputs.into_iter().flatten() {
        let mut sums = lock(&stack.sums);
        routes.slots(w.ffn).for_each(|slot| sums.add(slot.expert, &x[slot.row * w.hidden..][..w.hidden]));
    }
    let mut sums = lock(&w.down.sums);
    routes.slots(w.ffn).for_each(|slot| sums.add(slot.expert, slot.activation));
}

impl Backend for Recording {
    type Weight = RecordedWeight;
    type Buffer = Vec<f32>;
    type Kv = HostKv;
    type Routes = Routes;
    type Sampler = HostSampling;

    fn name(&self) -> &'static str {
        "recording"
    }

    fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.cpu.run(f)
    }

    fn weight(&self, tensor: Tensor) -> Result<RecordedWeight> {
        let (name, matrices) = (tensor.name.clone(), tensor.shape.iter().skip(2).product());
        let weight = self.cpu.weight(tensor)?;
        let sums: Shared = Arc::new(Mutex::new(ColumnSums::new(weight.cols, matrices)));
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).push((name, sums.clone()));
        Ok(RecordedWeight { weight, sums })
    }

    fn buffer(&self, len: usize, what: &'static str) -> Result<Vec<f32>> {
        self.cpu.buffer(len, what)
    }

    fn routes(&self, rows: usize, top_k: usize, ffn: usize, hidden: usize) -> Result<Routes> {
        self.cpu.routes(rows, top_k, ffn, hidden)
    }

    fn write(&self, src: &[f32], dst: &mut Vec<f32>, at: usize) -> Result<()> {
        self.cpu.write(src, dst, at)
    }

    fn read(&self, src: &Vec<f32>, at: usize, dst: &mut [f32]) -> Result<()> {
        self.cpu.read(src, at, dst)
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

    fn embed(&self, table: &RecordedWeight, ids: &[u32], scale: f32, out: &mut Vec<f32>) -> Result<()> {
        self.cpu.embed(&table.weight, ids, scale, out)
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
        self.cpu.rms_norm(x, weight, rows, dim, eps, out)
    }

    fn rms_norm_in_place(
        &self,
        x: &mut Vec<f32>,
        weight: Option<&Vec<f32>>,
        rows: usize,
        dim: usize,
        eps: f32,
    ) -> Result<()> {
        self.cpu.rms_norm_in_place(x, weight, rows, dim, eps)
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
        self.cpu.rms_norm_add(x, weight, rows, dim, eps, acc)
    }

    fn matmul(&self, weight: &RecordedWeight, x: &Vec<f32>, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        weight.hear(x, rows);
        self.cpu.matmul(&weight.weight, x, rows, out)
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
        self.cpu.rope(x, inv_freq, rows, heads, dim, start)
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
        self.cpu.attention(q, k, v, cache, shape, out)
    }

    fn kv_append(
        &self,
        k: &Vec<f32>,
        v: &Vec<f32>,
        rows: usize,
        start: usize,
        cache: &mut KvLayer<HostKv>,
    ) -> Result<()> {
        self.cpu.kv_append(k, v, rows, start, cache)
    }

    fn gelu_mul(&self, gate: &mut Vec<f32>, up: &Vec<f32>, len: usize) -> Result<()> {
        self.cpu.gelu_mul(gate, up, len)
    }

    fn add(&self, x: &Vec<f32>, len: usize, acc: &mut Vec<f32>) -> Result<()> {
        self.cpu.add(x, len, acc)
    }

    fn scale(&self, x: &mut Vec<f32>, factor: f32, len: usize) -> Result<()> {
        self.cpu.scale(x, factor, len)
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
        self.cpu.route(logits, expert_scale, rows, experts, top_k, routes)
    }

    fn expert_load(&self, routes: &Routes) -> ExpertLoad {
        self.cpu.expert_load(routes)
    }

    fn experts(
        &self,
        weights: ExpertWeights<RecordedWeight>,
        x: &Vec<f32>,
        rows: usize,
        routes: &mut Routes,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        self.cpu.experts(plain(&weights), x, rows, routes, out)?;
        hear_experts(&weights, x, routes);
        Ok(())
    }

    fn logits(
        &self,
        table: &RecordedWeight,
        x: &Vec<f32>,
        rows: usize,
        softcap: Option<f32>,
        out: &mut [f32],
    ) -> Result<()> {
        table.hear(x, rows);
        self.cpu.logits(&table.weight, x, rows, softcap, out)
    }

    fn head(
        &self,
        weights: HeadWeights<RecordedWeight>,
        x: &Vec<f32>,
        rows: usize,
        params: &HeadParams,
        soft: &mut Vec<f32>,
        stats: &mut HeadStats,
    ) -> Result<()> {
        weights.table.hear(x, rows);
        let plain = HeadWeights { table: &weights.table.weight, embedding: &weights.embedding.weight };
        self.cpu.head(plain, x, rows, params, soft, stats)
    }

    fn log_probs(
        &self,
        table: &RecordedWeight,
        x: &Vec<f32>,
        rows: usize,
        softcap: Option<f32>,
        wanted: &[(usize, u32)],
        cancel: &AtomicBool,
        out: &mut [f32],
    ) -> Result<()> {
        table.hear(x, rows);
        self.cpu.log_probs(&table.weight, x, rows, softcap, wanted, cancel, out)
    }

    fn soft_embedding(
        &self,
        embedding: &RecordedWeight,
        logits: &[f32],
        rows: usize,
        scale: f32,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        self.cpu.soft_embedding(&embedding.weight, logits, rows, scale, out)
    }
}

//! The backend for NVIDIA GPUs: kernels from `cuda/`, one launcher per kernel file with its name, weights in tiles of their
//! own layout, all work in order on one stream. The canvas stays on the device (`sampler.rs`), and a step is one recorded graph
//! (`graph.rs`): the CPU waits once per step, to hear whether it was the last.
//!
//! Reading order: `driver.rs` (the driver, with errors), `units.rs` and `kernels.rs` (what is compiled, and from where it is
//! loaded), `layout.rs` and `weight.rs` (how weights lie), `upload.rs` and `pack.rs` (how they get there), `streamed.rs` (those
//! left on the host), `grid.rs` (how launches are cut), `product.rs`, `experts.rs`, `attention.rs`, `head.rs`, `sampler.rs`,
//! `graph.rs`; `ceilings.rs` and `gaps.rs` are for `dgemma bench` alone. What goes where is decided in `engine/plan.rs`.

mod attention;
mod ceilings;
mod driver;
mod embed;
mod experts;
mod gaps;
mod graph;
mod grid;
mod head;
mod host_copy;
mod kernels;
mod kv;
mod layout;
mod pack;
mod product;
mod rows;
mod sampler;
mod scratch;
mod streamed;
mod units;
mod upload;
mod weight;

use super::fused;
use super::{AttentionShape, Backend, ExpertLoad, ExpertWeights, HeadParams, HeadStats, HeadWeights, KvLayer, KvType};
use crate::error::{Error, Result};
use crate::gguf::Tensor;
pub use ceilings::Ceilings;
pub use driver::DeviceInfo;
use driver::{Device, Grid, Memory};
pub use experts::{Routes, routes_bytes};
use kernels::Kernels;
pub use kernels::embedded;
pub use kv::Kv;
pub use sampler::{Sampler, sampler_bytes};
use scratch::Scratch;
pub use scratch::{Limits, Work};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamed::Streamed;
pub use streamed::{Place, Placement};
use units::Unit;
use upload::Uploads;
pub use upload::upload_bytes;
pub use weight::{Rounding, Weight, layout, operand};

/// Pointers to arguments of a kernel, in the types that it declares; good until the end of the statement, so never in a `let`.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {
        &mut [$(std::ptr::from_mut(&mut { $value }).cast::<std::ffi::c_void>()),*]
    };
}
use arguments;

/// The CUDA backend on one device.
pub struct Cuda {
    scratch: Mutex<Scratch>,
    uploads: Mutex<Uploads>,
    kernels: Kernels,
    pool: rayon::ThreadPool,
    rounding: Rounding,
    /// Where weights are that stay on the host, by the names of their tensors.
    places: HashMap<String, Place>,
    /// Whose pass it is, where weights are streamed: two passes at once would take the slots from each other.
    turn: Option<Mutex<()>>,
    graphs: bool,
    device: Arc<Device>,
}

/// f32 activations on the device.
pub struct Buffer(Memory);

/// The GPUs that this library can use, in the driver's order; none where there is no driver, or one that is too old.
pub fn devices() -> Vec<DeviceInfo> {
    let count = driver::devices().unwrap_or(0);
    (0..count).map_while(|i| driver::describe_device(i).ok()).collect()
}

fn graphs_wanted() -> bool {
    std::env::var_os("DGEMMA_CUDA_GRAPHS").is_none_or(|value| value != "0")
}

impl Cuda {
    /// Device number `index`. `threads`: of the pool that copies weights from their file; 0 means one per available core.
    pub fn new(index: usize, threads: usize) -> Result<Self> {
        let device = Device::open(index)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("dgemma-upload-{i}"))
            .build()
            .map_err(|e| Error::argument("threads", format!("cannot start {threads} threads: {e}")))?;
        let (scratch, uploads) = (Mutex::default(), Mutex::default());
        let (kernels, places, turn) = (Kernels::new(device.clone()), HashMap::new(), None);
        let (rounding, graphs) = (Rounding::of(device.info.capability), graphs_wanted());
        Ok(Cuda { scratch, uploads, kernels, pool, rounding, graphs, places, turn, device })
    }

    /// The same backend with the memory for weights that stay on the host. Before any of them is loaded.
    pub fn streaming(mut self, placement: Placement) -> Result<Self> {
        if !placement.groups.is_empty() {
            self.scratch().streamed = Some(Streamed::new(&self.device, &placement)?);
            self.turn = Some(Mutex::default());
        }
        self.places = placement.places;
        Ok(self)
    }

    /// The same backend with all products as accurate as in f32. Otherwise products with weights of 16-bit floats round both
    /// operands to bf16, and so do those with quantized weights on devices of data centers; elsewhere, and with quantized
    /// experts, they round the other operand to 8 bits.
    pub fn exact(self, exact: bool) -> Self {
        Cuda { rounding: Rounding { exact, ..self.rounding }, ..self }
    }

    /// The same backend with products of quantized weights in bf16 or in 8 bits, whatever the device does by itself: so that
    /// tests can compare both. Before any weight is loaded.
    pub fn bf16(self, bf16: bool) -> Self {
        Cuda { rounding: Rounding { bf16, ..self.rounding }, ..self }
    }

    /// How products round.
    pub fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// Whether steps are recorded and replayed; where not, each of their kernels is launched by itself, with the same
    /// results. For looking for faults; the default is the environment's: `DGEMMA_CUDA_GRAPHS=0` says no.
    pub fn graphs(self, graphs: bool) -> Self {
        Cuda { graphs, ..self }
    }

    /// Weights that are left on the host are brought by copies that the host asks for in every pass.
    fn records(&self) -> bool {
        self.graphs && self.turn.is_none()
    }

    /// What it runs on.
    pub fn info(&self) -> &DeviceInfo {
        &self.device.info
    }

    /// Bytes of the device's memory, (free, all).
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.device.memory()
    }

    /// Ends the upload: frees its buffers, here and on the device.
    pub fn loaded(&self) {
        *self.uploads.lock().unwrap_or_else(PoisonError::into_inner) = Uploads::default();
    }

    fn scratch(&self) -> MutexGuard<'_, Scratch> {
        // What it holds is of use only within one operation.
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts kernel `entry` of `cuda/<file>.cu`, for a format where it has one.
    ///
    /// # Safety
    /// As for [`Device::launch`].
    unsafe fn launch(
        &self,
        file: &'static str,
        format: Option<&'static str>,
        entry: &'static str,
        grid: Grid,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        let function = self.kernels.get(Unit { file, format }, entry)?;
        // SAFETY: the caller's promise.
        unsafe { self.device.launch(function, grid, arguments)? };
        if graph::padded() { gaps::launch_nothing(self) } else { Ok(()) }
    }
}

impl Backend for Cuda {
    type Weight = Weight;
    type Buffer = Buffer;
    type Kv = Kv;
    type Routes = Routes;
    type Sampler = Sampler;

    const SHARES_PASSES: bool = true;
    const DEFERRED: bool = true;

    fn name(&self) -> &'static str {
        "cuda"
    }

    fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let _turn = self.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        f()
    }

    fn synchronize(&self) -> Result<()> {
        self.device.synchronize()
    }

    fn weight(&self, tensor: Tensor) -> Result<Weight> {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = self.scratch();
        let place = self.places.get(&tensor.name).copied().zip(scratch.streamed.as_mut());
        uploads.weight(self, &tensor, place)
    }

    fn buffer(&self, len: usize, what: &'static str) -> Result<Buffer> {
        Memory::zeroed(&self.device, len * size_of::<f32>(), what).map(Buffer)
    }

    fn routes(&self, rows: usize, top_k: usize, ffn: usize, hidden: usize) -> Result<Routes> {
        Routes::new(&self.device, rows, top_k, ffn, hidden)
    }

    fn write(&self, src: &[f32], dst: &mut Buffer, at: usize) -> Result<()> {
        dst.0.write(src, at * size_of::<f32>())
    }

    fn read(&self, src: &Buffer, at: usize, dst: &mut [f32]) -> Result<()> {
        src.0.read(at * size_of::<f32>(), dst)
    }

    fn copy(&self, src: &Buffer, from: usize, len: usize, dst: &mut Buffer, at: usize) -> Result<()> {
        let bytes = size_of::<f32>();
        dst.0.copy(&src.0, from * bytes, len * bytes, at * bytes)
    }

    fn kv_buffer(&self, kind: KvType, len: usize, what: &'static str) -> Result<Kv> {
        Kv::new(&self.device, kind, len, what)
    }

    fn kv_round(&self, kind: KvType, x: &mut Buffer, len: usize) -> Result<()> {
        kv::round(self, kind, x, len)
    }

    fn kv_read(&self, src: &Kv, at: usize, dst: &mut [f32]) -> Result<()> {
        src.load(at, dst)
    }

    fn kv_copy_out(&self, src: &Kv, at: usize, dst: &mut [u8]) -> Result<()> {
        src.copy_out(at, dst)
    }

    fn kv_copy_in(&self, src: &[u8], dst: &mut Kv, at: usize) -> Result<()> {
        dst.copy_in(src, at)
    }

    fn embed(&self, table: &Weight, ids: &[u32], scale: f32, out: &mut Buffer) -> Result<()> {
        embed::embed(self, table, ids, scale, out)
    }

    fn rms_norm(
        &self,
        x: &Buffer,
        weight: Option<&Buffer>,
        rows: usize,
        dim: usize,
        eps: f32,
        out: &mut Buffer,
    ) -> Result<()> {
        rows::rms_norm(self, "rms_norm", x.0.address(0), weight, (rows, dim), eps, out)
    }

    fn rms_norm_in_place(
        &self,
        x: &mut Buffer,
        weight: Option<&Buffer>,
        rows: usize,
        dim: usize,
        eps: f32,
    ) -> Result<()> {
        rows::rms_norm(self, "rms_norm", x.0.address(0), weight, (rows, dim), eps, x)
    }

    fn rms_norm_add(
        &self,
        x: &Buffer,
        weight: &Buffer,
        rows: usize,
        dim: usize,
        eps: f32,
        acc: &mut Buffer,
    ) -> Result<()> {
        rows::rms_norm(self, "rms_norm_add", x.0.address(0), Some(weight), (rows, dim), eps, acc)
    }

    fn rms_norm_matmuls(
        &self,
        norm: fused::Norm<Self>,
        _normed: &mut Buffer,
        products: &mut [fused::Product<Self>],
    ) -> Result<()> {
        product::rms_norm_matmuls(self, &norm, products)
    }

    fn norm_heads(&self, heads: &fused::Heads<Self>, q: &mut Buffer, k: &mut Buffer, v: &mut Buffer) -> Result<()> {
        rows::norm_heads(self, heads, q, k, v)
    }

    fn rms_norm_add_scaled(
        &self,
        (x, weight, dim, eps): (&mut Buffer, &Buffer, usize, f32),
        first: (usize, f32),
        rest: (usize, f32),
        acc: &mut Buffer,
    ) -> Result<()> {
        rows::rms_norm_add_scaled(self, (x, weight, dim, eps), first, rest, acc)
    }

    fn matmul(&self, weight: &Weight, x: &Buffer, rows: usize, out: &mut Buffer) -> Result<()> {
        product::matmul(self, weight, x, rows, out)
    }

    fn rope(
        &self,
        x: &mut Buffer,
        inv_freq: &Buffer,
        rows: usize,
        heads: usize,
        dim: usize,
        start: usize,
    ) -> Result<()> {
        rows::rope(self, x, inv_freq, rows, heads, dim, start)
    }

    fn attention(
        &self,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        cache: &KvLayer<Kv>,
        shape: &AttentionShape,
        out: &mut Buffer,
    ) -> Result<()> {
        attention::attention(self, q, k, v, cache, shape, out)
    }

    fn kv_append(&self, k: &Buffer, v: &Buffer, rows: usize, start: usize, cache: &mut KvLayer<Kv>) -> Result<()> {
        kv::append(self, k, v, rows, start, cache)
    }

    fn gelu_mul_matmul(
        &self,
        (gate, up): (&mut Buffer, &Buffer),
        weight: &Weight,
        rows: usize,
        _: usize,
        out: &mut Buffer,
    ) -> Result<()> {
        product::gelu_mul_matmul(self, (gate, up), weight, rows, out)
    }

    fn gelu_mul(&self, gate: &mut Buffer, up: &Buffer, len: usize) -> Result<()> {
        rows::gelu_mul(self, &gate.0, &up.0, len)
    }

    fn add(&self, x: &Buffer, len: usize, acc: &mut Buffer) -> Result<()> {
        rows::add(self, x, len, acc)
    }

    fn scale(&self, x: &mut Buffer, factor: f32, len: usize) -> Result<()> {
        rows::scale(self, x, factor, len)
    }

    fn route(
        &self,
        logits: &Buffer,
        expert_scale: &Buffer,
        rows: usize,
        experts: usize,
        top_k: usize,
        routes: &mut Routes,
    ) -> Result<()> {
        experts::route(self, logits, expert_scale, rows, experts, top_k, routes)
    }

    fn expert_load(&self, routes: &Routes) -> ExpertLoad {
        // What fails here fails again where the pass reads its result.
        experts::load(routes).unwrap_or_default()
    }

    fn experts(
        &self,
        weights: ExpertWeights<Weight>,
        x: &Buffer,
        rows: usize,
        routes: &mut Routes,
        out: &mut Buffer,
    ) -> Result<()> {
        experts::experts(self, weights, x, rows, routes, out)
    }

    fn rms_norm_experts(
        &self,
        norm: fused::Norm<Self>,
        _normed: &mut Buffer,
        weights: ExpertWeights<Weight>,
        routes: &mut Routes,
        out: &mut Buffer,
    ) -> Result<()> {
        experts::rms_norm_experts(self, &norm, weights, routes, out)
    }

    fn logits(&self, table: &Weight, x: &Buffer, rows: usize, softcap: Option<f32>, out: &mut [f32]) -> Result<()> {
        head::logits(self, table, x, rows, softcap, out)
    }

    fn head(
        &self,
        weights: HeadWeights<Weight>,
        x: &Buffer,
        rows: usize,
        params: &HeadParams,
        soft: &mut Buffer,
        stats: &mut HeadStats,
    ) -> Result<()> {
        head::head(self, weights, x, rows, params, soft, stats)
    }

    fn log_probs(
        &self,
        table: &Weight,
        x: &Buffer,
        rows: usize,
        softcap: Option<f32>,
        wanted: &[(usize, u32)],
        cancel: &AtomicBool,
        out: &mut [f32],
    ) -> Result<()> {
        head::log_probs(self, table, x, rows, softcap, (wanted, cancel), out)
    }

    fn soft_embedding(
        &self,
        embedding: &Weight,
        logits: &[f32],
        rows: usize,
        scale: f32,
        out: &mut Buffer,
    ) -> Result<()> {
        head::soft_embedding(self, embedding, logits, rows, scale, out)
    }
}

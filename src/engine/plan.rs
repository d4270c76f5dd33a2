//! What goes where on a GPU, decided before any weight is copied: a pure function of the file's tensor table, the wishes and
//! the memory there is. Too little memory is an error that says what would fit.
//!
//! On the device are: the matrices of the layers that stay there, those outside of layers (embedding, head,
//! self-conditioning) and every vector; two slots for layers that pass through, if any do (`backend/cuda/streamed.rs`); and
//! for one context its keys and values, its activations, and the work space of operations. On the host, page-locked: the
//! other layers' matrices, or only those of their experts. While the model is loaded there are buffers of the upload on both
//! sides; on the device they are gone before the context comes.

use super::{ContextParams, default_kv};
use crate::backend::KvType;
use crate::backend::cuda::{self, Cuda, Limits, Placement, Rounding, Work};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::{Config, Matrix, SessionSizes, matrices, vector_numbers};
use std::fmt;

/// What a plan is for.
#[derive(Clone, Debug, Default)]
pub struct PlanParams {
    /// [`ModelParams::n_gpu_layers`](super::ModelParams::n_gpu_layers).
    pub n_gpu_layers: Option<usize>,
    /// [`ModelParams::n_cpu_experts`](super::ModelParams::n_cpu_experts).
    pub n_cpu_experts: usize,
    /// [`ModelParams::exact`](super::ModelParams::exact): the work space depends on it.
    pub exact: bool,
    /// The context to leave room for.
    pub context: ContextParams,
}

/// What there is.
#[derive(Clone, Debug)]
pub struct Room {
    /// The device's name.
    pub device: String,
    /// Bytes of its memory that are free.
    pub free: usize,
    /// Bytes of it in all.
    pub total: usize,
    /// Its multiprocessors.
    pub processors: usize,
    /// Most bytes of shared memory that a block can have there.
    pub shared: usize,
    /// How products round there, unless they are to be exact.
    pub rounding: Rounding,
    /// Bytes of host memory that can be had.
    pub host_free: usize,
}

impl Room {
    /// What there is with a device.
    pub fn of(cuda: &Cuda) -> Result<Self> {
        let ((free, total), info) = (cuda.memory()?, cuda.info());
        let (device, processors, shared) = (info.name.clone(), info.processors, info.shared);
        Ok(Room { device, free, total, processors, shared, rounding: cuda.rounding(), host_free: Room::host() })
    }

    /// Bytes of host memory that the system says it can give.
    pub fn host() -> usize {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|rest| rest.trim().split(' ').next()?.parse::<usize>().ok());
        kib.map_or(usize::MAX, |n| n * 1024)
    }
}

/// A plan, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Layers of the model.
    pub layers: usize,
    /// Layers whose matrices stay on the device: the last ones.
    pub n_gpu_layers: usize,
    /// Layers whose experts are on the host: the first ones, and among them all that are not on the device.
    pub n_cpu_experts: usize,
    /// Positions of the context.
    pub context: usize,
    /// Weights that stay on the device.
    pub weights: usize,
    /// Slots for weights that pass through.
    pub slots: usize,
    /// Keys and values of the context.
    pub kv: usize,
    /// Its activations.
    pub activations: usize,
    /// Work space of operations, which all contexts of the model share.
    pub work: usize,
    /// Left free on the device: kernels' code, and the driver's rounding of allocations.
    pub reserve: usize,
    /// Weights in page-locked memory of the host.
    pub host_weights: usize,
    /// Page-locked buffers, until the model is loaded.
    pub upload: usize,
    /// The same on the device.
    pub staging: usize,
    placement: Placement,
}

/// At most so much is left free; a sixteenth of the device where that is less. The driver serves large allocations in steps
/// of 2 MiB, so a model of 30 layers wastes some 300 MB in the mean. By estimate: what it has to hold is `memory.unplanned_bytes` of
/// `dgemma bench`, which no device has told yet.
const MOST_RESERVE: usize = 512 << 20;

impl MemoryPlan {
    /// The plan for `file`, whether it fits or not.
    pub fn for_file(file: &Gguf, params: &PlanParams, room: &Room) -> Result<Self> {
        let needs = Needs::of(file, params.exact, room)?;
        let sizes = params.context.sizes(&needs.config, default_kv(params.exact))?;
        Ok(needs.plan(params.n_gpu_layers, params.n_cpu_experts, &sizes, room.total))
    }

    /// The plan for `file`, or [`Error::TooLittleMemory`] with what would fit.
    pub fn fitting(file: &Gguf, params: &PlanParams, room: &Room) -> Result<Self> {
        Needs::of(file, params.exact, room)?.fitting(params, room)
    }

    /// Bytes of the device's memory, the reserve left out: while the model is loaded or, most often, after that.
    pub fn device(&self) -> usize {
        self.device_loaded().max(self.weights + self.slots + self.staging)
    }

    /// The same once the model is loaded.
    pub fn device_loaded(&self) -> usize {
        self.weights + self.slots + self.kv + self.activations + self.work
    }

    fn fits_device(&self, room: &Room) -> bool {
        self.device().saturating_add(self.reserve) <= room.free
    }

    /// Whether there is room for it.
    pub fn fits(&self, room: &Room) -> bool {
        self.fits_device(room) && self.host_weights.saturating_add(self.upload) <= room.host_free
    }

    pub(super) fn into_placement(self) -> Placement {
        self.placement
    }
}

/// For people: what lies where.
impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let line = |f: &mut fmt::Formatter, what: &str, bytes: usize| writeln!(f, "{what:<36}{:>9.3} GB", gb(bytes));
        let on_device = format!("weights of {} layers", self.n_gpu_layers);
        line(f, &on_device, self.weights)?;
        line(f, "layers passing through", self.slots)?;
        line(f, &format!("context of {} tokens", self.context), self.kv)?;
        line(f, "activations", self.activations)?;
        line(f, "work space", self.work)?;
        line(f, "upload buffers, before these", self.staging)?;
        line(f, "reserve", self.reserve)?;
        line(f, "on the device", self.device() + self.reserve)?;
        line(f, &format!("experts of {} layers, host", self.n_cpu_experts), self.host_weights)?;
        line(f, "upload buffers, host", self.upload)
    }
}

fn gb(bytes: usize) -> f64 {
    bytes as f64 / 1e9
}

/// Bytes of a matrix's row in the file, and of all of it.
fn in_file(matrix: &Matrix) -> Option<(usize, usize)> {
    let [cols, rows, count] = matrix.shape;
    let row_bytes = matrix.format.row_bytes(cols)?;
    Some((row_bytes, row_bytes * rows * count))
}

/// What a model needs, wherever it lies.
pub(super) struct Needs {
    config: Config,
    matrices: Vec<(Matrix, usize)>, // with their bytes
    vectors: usize,
    upload: (usize, usize), // page-locked, and on the device
    operand_row: usize,
    limits: Limits,
}

impl Needs {
    /// Of a model with these matrices; an error if a matrix has a format or a size that no kernel takes.
    pub fn new(config: &Config, matrices: Vec<Matrix>, limits: Limits) -> Result<Self> {
        let vectors = size_of::<f32>() * vector_numbers(config);
        let upload = cuda::upload_bytes(matrices.iter().filter_map(in_file));
        let mut needs = Needs { config: config.clone(), matrices: Vec::new(), vectors, upload, operand_row: 0, limits };
        for matrix in matrices {
            let layout = cuda::layout(&matrix.name, matrix.format)?;
            let [cols, rows, count] = matrix.shape;
            let too_large = || Error::Internal(format!("tensor `{}` has more bytes than memory has", matrix.name));
            let bytes = layout.bytes(cols, rows, count).ok_or_else(too_large)?;
            let chosen = if matrix.name.ends_with("ffn_down_exps.weight") { config.top_k } else { 1 };
            let row =
                chosen * cols.div_ceil(64) * cuda::operand(layout, matrix.experts, limits.rounding).record_bytes();
            needs.operand_row = needs.operand_row.max(row);
            needs.matrices.push((matrix, bytes));
        }
        Ok(needs)
    }

    /// Of the model in `file`.
    pub fn of(file: &Gguf, exact: bool, room: &Room) -> Result<Self> {
        let config = Config::from_gguf(file)?;
        let rounding = Rounding { exact, ..room.rounding };
        let limits = Limits { processors: room.processors, shared: room.shared, rounding };
        Needs::new(&config, matrices(file, config.layers.len()), limits)
    }

    /// The plan, whether it fits or not.
    pub fn plan(
        &self,
        gpu_layers: Option<usize>,
        cpu_experts: usize,
        sizes: &SessionSizes,
        total: usize,
    ) -> MemoryPlan {
        self.place(gpu_layers, cpu_experts, sizes.context, self.context(sizes), total)
    }

    /// The plan around what a context of `context` positions takes.
    fn place(
        &self,
        gpu_layers: Option<usize>,
        cpu_experts: usize,
        context: usize,
        (kv, activations, work): (usize, usize, usize),
        total: usize,
    ) -> MemoryPlan {
        let layers = self.config.layers.len();
        let n_gpu_layers = gpu_layers.map_or(layers, |n| n.min(layers));
        let n_cpu_experts = cpu_experts.min(layers).max(layers - n_gpu_layers);
        let (mut weights, mut placement, mut last) = (self.vectors, Placement::default(), None);
        for (matrix, bytes) in &self.matrices {
            let on_host = matrix
                .layer
                .is_some_and(|layer| layer < layers - n_gpu_layers || matrix.experts && layer < n_cpu_experts);
            if !on_host {
                weights += bytes;
                continue;
            }
            if last != matrix.layer {
                placement.groups.push(0);
                last = matrix.layer;
            }
            placement.push(&matrix.name, *bytes);
        }
        let (upload, staging) = self.upload;
        MemoryPlan {
            layers,
            n_gpu_layers,
            n_cpu_experts,
            context,
            weights,
            slots: placement.slots() * placement.slot_bytes(),
            kv,
            activations,
            work,
            reserve: MOST_RESERVE.min(total / 16),
            host_weights: placement.groups.iter().sum(),
            upload,
            staging,
            placement,
        }
    }

    /// Bytes of a context's keys and values, its activations, and the work space for them.
    fn context(&self, sizes: &SessionSizes) -> (usize, usize, usize) {
        let (c, rows) = (&self.config, sizes.rows::<Cuda>(&self.config));
        let routes =
            cuda::routes_bytes(rows, c.top_k, c.expert_ffn, c.hidden, c.experts) + cuda::sampler_bytes(c.canvas);
        let (canvas, vocab, heads, limits) = (c.canvas, c.vocab, c.heads, self.limits);
        let work = Work { rows, canvas, vocab, operand_row: self.operand_row, heads, limits };
        let seen = |window: Option<usize>| window.map_or(sizes.context, |w| (w - 1 + rows).min(sizes.context));
        let attention = c.layers.iter().map(|l| (l.kv_heads, l.head_dim, seen(l.window)));
        (sizes.kv_bytes(c), sizes.activation_bytes::<Cuda>(c) + routes, work.bytes(attention))
    }

    /// The plan, or an error that says what would fit.
    pub fn fitting(&self, params: &PlanParams, room: &Room) -> Result<MemoryPlan> {
        let sizes = params.context.sizes(&self.config, default_kv(params.exact))?;
        let plan = self.plan(params.n_gpu_layers, params.n_cpu_experts, &sizes, room.total);
        if plan.fits(room) {
            return Ok(plan);
        }
        let short = if plan.fits_device(room) {
            format!(
                "{:.2} GB of page-locked host memory are needed, {:.2} GB can be had",
                gb(plan.host_weights + plan.upload),
                gb(room.host_free)
            )
        } else {
            format!(
                "{} has {:.2} GB free of {:.2}, {:.2} GB are needed: weights {:.2}, layers passing through {:.2}, context of {} \
                 tokens {:.2}, activations and work space {:.2}, reserve {:.2}",
                room.device,
                gb(room.free),
                gb(room.total),
                gb(plan.device() + plan.reserve),
                gb(plan.weights),
                gb(plan.slots),
                plan.context,
                gb(plan.kv),
                gb(plan.activations + plan.work),
                gb(plan.reserve)
            )
        };
        Err(Error::TooLittleMemory(format!("{short}; {}", self.advice(params, &sizes, room))))
    }

    /// What would fit, one thing changed at a time.
    fn advice(&self, params: &PlanParams, sizes: &SessionSizes, room: &Room) -> String {
        let layers = self.config.layers.len();
        let fits = |gpu_layers, cpu_experts, sizes: &SessionSizes| {
            self.plan(gpu_layers, cpu_experts, sizes, room.total).fits(room)
        };
        let (gpu, cpu) = (params.n_gpu_layers, params.n_cpu_experts);
        let asked_for = self.context(sizes);
        let placed = |gpu, cpu| self.place(gpu, cpu, sizes.context, asked_for, room.total).fits(room);
        let mut would = Vec::new();
        if let Some(n) = (0..layers).rev().find(|&n| placed(Some(n), cpu)) {
            would.push(format!("n_gpu_layers {n}"));
        }
        if let Some(n) = (1..=layers).find(|&n| placed(gpu, n)) {
            would.push(format!("n_cpu_experts {n}"));
        }
        let context = |context| SessionSizes { context, chunk: sizes.chunk.min(context), ..*sizes };
        if let Some(n) = self.largest_context(sizes, |n| fits(gpu, cpu, &context(n))) {
            would.push(format!("a context of {n} tokens"));
        }
        if sizes.kv == KvType::F32 && fits(gpu, cpu, &SessionSizes { kv: KvType::F16, ..*sizes }) {
            would.push("keys and values in f16".into());
        }
        if would.is_empty() {
            let least = self.plan(Some(0), layers, &context(self.config.canvas), room.total);
            return format!(
                "nothing of it would fit: {:.2} GB on the device and {:.2} GB on the host are the least",
                gb(least.device() + least.reserve),
                gb(least.host_weights + least.upload)
            );
        }
        format!("would fit: {}", would.join(", or "))
    }

    /// The largest whole number of canvases below the context asked for that `fits`.
    fn largest_context(&self, sizes: &SessionSizes, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let canvas = self.config.canvas;
        let (mut good, mut bad) = (0, sizes.context.div_ceil(canvas));
        while good + 1 < bad {
            let middle = good.midpoint(bad);
            if fits(middle * canvas) { good = middle } else { bad = middle }
        }
        (good > 0).then_some(good * canvas)
    }

    /// An error unless a further context of these sizes finds room in `free` bytes of the device.
    pub fn check_context(&self, sizes: &SessionSizes, free: usize) -> Result<()> {
        let need = |sizes: &SessionSizes| {
            let (kv, activations, work) = self.context(sizes);
            kv + activations + work
        };
        if need(sizes) <= free {
            return Ok(());
        }
        let of = |context| SessionSizes { context, chunk: sizes.chunk.min(context), ..*sizes };
        let would = match self.largest_context(sizes, |n| need(&of(n)) <= free) {
            Some(n) => format!("would fit: a context of {n} tokens"),
            None => "not even one canvas would fit".into(),
        };
        Err(Error::TooLittleMemory(format!(
            "a context of {} tokens takes {:.2} GB of device memory with its work space, {:.2} GB are free; {would}",
            sizes.context,
            gb(need(sizes)),
            gb(free)
        )))
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

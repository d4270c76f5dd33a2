//! How to load a model, and how large it is.

use super::ContextParams;
#[cfg(feature = "cuda")]
use super::PlanParams;
use crate::cpu_level::CpuLevel;
use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// Which backend runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// The fast one for processors.
    #[default]
    Cpu,
    /// The oracle: slow, plain, one thread.
    Reference,
    /// An NVIDIA GPU, [`ModelParams::device`].
    Cuda,
}

/// How to load a model.
#[derive(Clone, Debug, Default)]
pub struct ModelParams {
    /// Which backend.
    pub backend: BackendKind,
    /// Which GPU of the CUDA backend, in the driver's order.
    pub device: usize,
    /// How many layers the CUDA backend keeps on the GPU, the last ones; `None`, or more than there are: all. The matrices of
    /// the others stay in page-locked host memory and are copied over, layer by layer, ahead of their use, in every pass:
    /// results are the same, bit for bit, and a step takes as long as the link needs for those bytes. Embedding, head and
    /// self-conditioning are always on the GPU. Other backends refuse any number.
    pub n_gpu_layers: Option<usize>,
    /// How many layers, the first ones, have their experts (nine tenths of a layer) in host memory, in the same way. Counts
    /// among all layers, so that of those which are not on the GPU anyway nothing changes.
    pub n_cpu_experts: usize,
    /// The context that the CUDA backend must leave room for: a load fails where weights and such a context do not fit
    /// together ([`Error::TooLittleMemory`](crate::Error::TooLittleMemory), with what would fit). Others can be made later,
    /// as long as there is memory.
    pub plan_for: ContextParams,
    /// Threads of the CPU backend's own pool, or of the pool that lays weights out for a GPU; 0: one per available core.
    pub threads: usize,
    /// Instruction set of the CPU backend; `None`: the best one. For tests and comparisons.
    pub cpu_level: Option<CpuLevel>,
    /// Compute all products of the CPU and CUDA backends in f32, or as accurately. By default, those with quantized weights
    /// round their other operand to 8 bits, which is several times faster; what that costs in accuracy is in
    /// `tests/bench/SPEED.md`. On GPUs of data centers they round both to bf16 instead, but for experts
    /// ([`cuda::Rounding`](crate::backend::cuda::Rounding)). Those with weights of 16-bit floats round both to bf16, on a GPU
    /// and on processors with AVX-512 BF16. Weights of f32 are multiplied in f32.
    pub exact: bool,
    /// Read the file into memory instead of mapping it. Loading takes longer and the memory is not shared with other
    /// processes; in exchange the file can be changed or removed afterwards. A mapped file must stay as it is: passes after a
    /// cut, and on Linux passes during it, answer [`Error::File`](crate::Error::File), and overwriting it changes the
    /// weights. See [`Gguf::guard_reads`](crate::gguf::Gguf::guard_reads) for the signal handler behind this.
    pub read: bool,
    /// Lock the file's bytes in memory, so that the system never pushes them out. Needs the right to lock that much
    /// (`ulimit -l`); [`Error::Io`](crate::Error::Io) otherwise.
    pub lock: bool,
}

impl ModelParams {
    /// An error if a wish is for another backend.
    pub(super) fn check(&self) -> Result<()> {
        let name = match (self.backend, self.n_gpu_layers, self.n_cpu_experts) {
            (BackendKind::Cuda, ..) | (_, None, 0) => return Ok(()),
            (_, Some(_), _) => "n_gpu_layers",
            _ => "n_cpu_experts",
        };
        Err(Error::argument(name, "is set, but only the CUDA backend has layers on a GPU; expected it unset"))
    }
}

#[cfg(feature = "cuda")]
impl From<&ModelParams> for PlanParams {
    fn from(p: &ModelParams) -> Self {
        let (n_gpu_layers, n_cpu_experts) = (p.n_gpu_layers, p.n_cpu_experts);
        PlanParams { n_gpu_layers, n_cpu_experts, exact: p.exact, context: p.plan_for.clone() }
    }
}

/// How large a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSizes {
    /// Numbers in all tensors of the file.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of the file, or of all parts of a split set.
    pub file_bytes: u64,
    /// Tensors.
    pub tensors: usize,
    /// Files.
    pub parts: usize,
}

impl ModelSizes {
    pub(super) fn of(file: &Gguf) -> Self {
        let tensors = file.tensors();
        ModelSizes {
            parameters: tensors.iter().map(|t| t.shape.iter().map(|&d| d as u64).product::<u64>()).sum(),
            tensor_bytes: tensors.iter().map(|t| t.bytes as u64).sum(),
            file_bytes: file.file_bytes(),
            tensors: tensors.len(),
            parts: file.parts(),
        }
    }
}

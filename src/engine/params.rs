//! How to load a model, and how large it is.

use crate::cpu_level::CpuLevel;
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
    /// Threads of the CPU backend's own pool, or of the pool that lays weights out for a GPU; 0: one per available core.
    pub threads: usize,
    /// Instruction set of the CPU backend; `None`: the best one. For tests and comparisons.
    pub cpu_level: Option<CpuLevel>,
    /// Compute all products of the CPU and CUDA backends in f32, or as accurately. By default, those with quantized weights
    /// round their other operand to 8 bits, which is several times faster; what that costs in accuracy is in
    /// `tests/bench/SPEED.md`. On a GPU, products with weights of 16-bit floats round theirs to bf16.
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

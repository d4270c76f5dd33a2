//! What a run is measured against: the ceilings of the processor, or those of a GPU.

use super::ceilings::{Ceiling, Ceilings};
use super::report::number;
use super::work;
use crate::Result;
use crate::args::{Backend, BenchArgs};
use dgemma::backend::cuda::{self, Cuda};
use dgemma::cpu_level::CpuLevel;
use dgemma::engine::{ContextParams, Model, ModelParams, Phase};
use serde_json::{Value, json};

/// Where a model runs.
pub enum Machine {
    /// Threads of the processor.
    Processor { level: CpuLevel, threads: usize, ceilings: Ceilings },
    /// A GPU.
    Device { cuda: Box<Cuda>, ceilings: cuda::Ceilings, memory: DeviceMemory },
}

/// What was taken of a GPU's memory, by this process and others, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct DeviceMemory {
    /// By a context with nothing in it.
    pub context: usize,
    /// Before the model was loaded: the code of the ceilings as well.
    pub before: usize,
}

/// A ceiling, in G operations per second.
pub struct Peak {
    pub name: &'static str,
    pub rate: f64,
    /// Per second of one thread's processor time; none for a device.
    pub by_cpu_time: Option<f64>,
}

impl Machine {
    /// The one that the arguments name, measured once.
    pub fn measure(args: &BenchArgs) -> Result<Machine> {
        match args.backend {
            Backend::Cpu => {
                let level = level(args.level.as_deref())?;
                let threads =
                    if args.threads == 0 { std::thread::available_parallelism()?.get() } else { args.threads };
                Ok(Machine::Processor { level, threads, ceilings: Ceilings::measure(level, threads) })
            }
            Backend::Cuda if args.level.is_some() => Err("--level is for --backend cpu".into()),
            Backend::Cuda => {
                let cuda = Box::new(Cuda::new(args.device, 1)?);
                let context = taken(&cuda)?;
                let ceilings = cuda.ceilings()?;
                let memory = DeviceMemory { context, before: taken(&cuda)? };
                Ok(Machine::Device { cuda, ceilings, memory })
            }
            Backend::Reference => Err("--backend reference: only cpu and cuda are measured".into()),
        }
    }

    /// Measured once more, after the model: the larger numbers count.
    pub fn measure_again(&mut self) -> Result<()> {
        match self {
            Machine::Processor { level, threads, ceilings } => {
                *ceilings = ceilings.max(Ceilings::measure(*level, *threads));
            }
            Machine::Device { cuda, ceilings, .. } => *ceilings = ceilings.max(cuda.ceilings()?),
        }
        Ok(())
    }

    /// How to load a model for it, and for contexts like `plan_for`.
    pub fn params(&self, args: &BenchArgs, plan_for: ContextParams) -> ModelParams {
        let params = ModelParams {
            threads: args.threads,
            exact: args.exact,
            n_gpu_layers: args.place.n_gpu_layers,
            n_cpu_experts: args.place.n_cpu_experts,
            plan_for,
            ..Default::default()
        };
        match self {
            Machine::Processor { level, threads, .. } => {
                ModelParams { threads: *threads, cpu_level: Some(*level), ..params }
            }
            Machine::Device { .. } => ModelParams { backend: args.backend.into(), device: args.device, ..params },
        }
    }

    /// The GPU, if it is one: work goes on there after the call that asks for it has returned.
    pub fn device(&self) -> Option<&Cuda> {
        match self {
            Machine::Processor { .. } => None,
            Machine::Device { cuda, .. } => Some(cuda),
        }
    }

    /// Its ceilings.
    pub fn ceilings(&self) -> Value {
        match self {
            Machine::Processor { ceilings: c, .. } => json!({
                "int8_gops": ceiling(c.int8), "bf16_gflops": c.bf16.map(ceiling),
                "f32_gflops": ceiling(c.f32), "read_gbs": ceiling(c.read),
            }),
            Machine::Device { ceilings: c, .. } => json!({
                "int8_gops": {"device": number(c.int8_gops)}, "bf16_gflops": {"device": number(c.bf16_gflops)},
                "read_gbs": {"device": number(c.read_gbs)}, "copy_gbs": {"device": number(c.copy_gbs)},
                "upload_gbs": {"device": number(c.upload_gbs)},
            }),
        }
    }

    /// Reading memory, GB per second.
    pub fn read_gbs(&self) -> f64 {
        match self {
            Machine::Processor { ceilings, .. } => ceilings.read.all,
            Machine::Device { ceilings, .. } => ceilings.read_gbs,
        }
    }

    /// What a phase is measured against: integers where its weights have them, the fastest floats elsewhere.
    pub fn peak(&self, model: &Model, phase: Phase, exact: bool) -> Peak {
        let format = work::format(model.file(), phase);
        let integers = !exact && phase != Phase::SoftEmbedding && format.is_some_and(|f| f.codes.is_some());
        match self {
            Machine::Processor { threads, ceilings, .. } => {
                let name = match phase {
                    _ if integers => "int8",
                    _ if exact || ceilings.bf16.is_none() => "f32",
                    Phase::SoftEmbedding => "bf16",
                    _ if format.is_none_or(|f| f.name != "F32") => "bf16",
                    _ => "f32",
                };
                let of = match name {
                    "int8" => ceilings.int8,
                    "bf16" => ceilings.bf16.unwrap_or(ceilings.f32),
                    _ => ceilings.f32,
                };
                Peak { name, rate: of.all, by_cpu_time: Some(of.all_by_cpu_time / *threads as f64) }
            }
            Machine::Device { ceilings, .. } if integers => {
                Peak { name: "int8", rate: ceilings.int8_gops, by_cpu_time: None }
            }
            Machine::Device { ceilings, .. } => Peak { name: "bf16", rate: ceilings.bf16_gflops, by_cpu_time: None },
        }
    }
}

/// Bytes of a GPU's memory that are not free.
pub fn taken(cuda: &Cuda) -> Result<usize> {
    let (free, total) = cuda.memory()?;
    Ok(total - free)
}

fn ceiling(c: Ceiling) -> Value {
    json!({"one_thread": number(c.one), "all_threads": number(c.all), "all_by_cpu_time": number(c.all_by_cpu_time)})
}

fn level(name: Option<&str>) -> Result<CpuLevel> {
    let Some(name) = name else { return Ok(CpuLevel::best()) };
    let available = CpuLevel::available();
    let names: Vec<&str> = available.iter().map(|level| level.name()).collect();
    let wanted = available.iter().find(|level| level.name() == name);
    wanted.copied().ok_or_else(|| format!("--level {name}: this processor has {}", names.join(", ")).into())
}

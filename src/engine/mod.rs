//! The engine: a loaded [`Model`], its [`Context`]s, and the loop that turns a prompt into text.
//!
//! ```no_run
//! use dgemma::engine::{ContextParams, GenerateParams, Model, ModelParams};
//! # fn main() -> dgemma::Result<()> {
//! let model = Model::load("model.gguf".as_ref(), &ModelParams::default())?;
//! let mut context = model.context(&ContextParams::default())?;
//! context.set_tokens(&model.tokenizer().encode("Once upon a time", true, true)?)?;
//! let answer = context.generate(&GenerateParams::new(&model), |_| std::ops::ControlFlow::Continue(()))?;
//! println!("{}", model.tokenizer().decode(&answer.tokens, false)?);
//! # Ok(())
//! # }
//! ```
//!
//! Next: `context.rs` (the timeline and its encoding), `denoise.rs` (one block), `stepping.rs` (blocks step by step),
//! `score.rs`, `generate.rs` (the loop over blocks), `keep.rs` (copies and saved contexts), `plan.rs` (what goes where on a GPU).

mod cancel;
mod context;
mod denoise;
mod fingerprint;
mod gaps;
mod generate;
mod hash;
mod keep;
mod params;
mod perf;
#[cfg(feature = "cuda")]
mod plan;
mod score;
mod snapshot;
mod start;
mod stepping;

pub use crate::backend::KvType;
pub use crate::backend::Replays;
pub use crate::model::{Phase, Phases, Spent, process_cpu_time};
pub use cancel::CancelToken;
pub use context::{Context, ContextParams};
pub use denoise::{Block, StepInfo};
pub use gaps::LaunchGaps;
pub use generate::{Event, GenerateParams, Generation, StopReason};
pub use hash::Hash64;
pub use keep::MemoryUse;
pub use params::{BackendKind, ModelParams, ModelSizes};
pub use perf::{ContextPerf, Perf};
#[cfg(feature = "cuda")]
pub use plan::{MemoryPlan, PlanParams, Room};
pub use start::{Slot, Start};

use crate::backend::cpu::Cpu;
#[cfg(feature = "cuda")]
use crate::backend::cuda::Cuda;
use crate::backend::reference::Reference;
use crate::cpu_level::CpuLevel;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Metadata};
#[cfg(feature = "cuda")]
use crate::log;
use crate::model::{Config, Runner, Session, SessionSizes, Weights};
use crate::sampler::SamplerParams;
use crate::tokenizer::{ChatTemplate, Tokenizer};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A loaded model: immutable, cheap to clone, shared by any number of contexts and threads.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    file: Gguf,
    tokenizer: Tokenizer,
    chat: Result<ChatTemplate>,
    sampler: SamplerParams,
    loaded: Loaded,
    exact: bool,
    fingerprint: OnceLock<u64>,
}

/// Building the tables of a large vocabulary leaves some 70 MB of small free pieces behind, which the allocator would keep.
fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes nothing, and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The number type of keys and values when nothing is asked for.
fn default_kv(exact: bool) -> KvType {
    if exact { KvType::F32 } else { KvType::F16 }
}

/// The weights on the backend they were loaded for.
enum Loaded {
    Cpu(Arc<Cpu>, Arc<Weights<Cpu>>),
    Reference(Arc<Reference>, Arc<Weights<Reference>>),
    #[cfg(feature = "cuda")]
    Cuda(Arc<Cuda>, Arc<Weights<Cuda>>, plan::Needs),
}

impl Loaded {
    /// The file's weights on GPU number `params.device`.
    #[cfg(feature = "cuda")]
    fn cuda(file: &Gguf, params: &ModelParams, progress: impl FnMut(f32) -> bool) -> Result<Self> {
        let cuda = Cuda::new(params.device, params.threads)?.exact(params.exact);
        let room = Room::of(&cuda)?;
        let needs = plan::Needs::of(file, params.exact, &room)?;
        let plan = needs.fitting(&params.into(), &room)?;
        for line in plan.to_string().lines() {
            log::info(|| format!("{}: {line}", room.device));
        }
        let cuda = cuda.streaming(plan.into_placement())?;
        let weights = Weights::load(&cuda, file, progress)?;
        cuda.loaded();
        // Small tensors that were read after their neighbours had left have brought those back, a huge page at a time.
        file.release();
        Ok(Loaded::Cuda(Arc::new(cuda), Arc::new(weights), needs))
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda(_file: &Gguf, _params: &ModelParams, _progress: impl FnMut(f32) -> bool) -> Result<Self> {
        Err(Error::argument("backend", "this library was built without the CUDA backend (feature `cuda`)"))
    }
}

impl Model {
    /// Maps and checks the file (or the first part of a split set) and binds its weights.
    pub fn load(path: &Path, params: &ModelParams) -> Result<Self> {
        Self::load_with_progress(path, params, |_| true)
    }

    /// [`Model::load`]; `progress` hears the share done, in 0..=1, and returns false to give up ([`Error::Cancelled`]).
    pub fn load_with_progress(path: &Path, params: &ModelParams, progress: impl FnMut(f32) -> bool) -> Result<Self> {
        let file = if params.read { Gguf::read(path)? } else { Gguf::open_guarded(path)? };
        Self::from_gguf(file, params, progress)
    }

    /// Binds the weights of an open file; [`ModelParams::read`] has no influence any more.
    pub fn from_gguf(mut file: Gguf, params: &ModelParams, progress: impl FnMut(f32) -> bool) -> Result<Self> {
        params.check()?;
        file.guard_reads();
        let loaded = match params.backend {
            BackendKind::Cpu => {
                let cpu =
                    Cpu::new(params.threads, params.cpu_level.unwrap_or_else(CpuLevel::best))?.exact(params.exact);
                let weights = Weights::load(&cpu, &file, progress)?;
                Loaded::Cpu(Arc::new(cpu), Arc::new(weights))
            }
            BackendKind::Reference => {
                let weights = Weights::load(&Reference, &file, progress)?;
                Loaded::Reference(Arc::new(Reference), Arc::new(weights))
            }
            BackendKind::Cuda => Loaded::cuda(&file, params, progress)?,
        };
        if params.lock {
            file.lock_memory()?;
        }
        let tokenizer = Tokenizer::from_gguf(file.metadata())?;
        give_back_memory();
        let sampler = SamplerParams::from_gguf(&file)?;
        // A broken template concerns only those who render it.
        let chat = ChatTemplate::from_gguf(file.metadata(), &tokenizer);
        let (exact, fingerprint) = (params.exact || params.backend == BackendKind::Reference, OnceLock::new());
        let model = Model(Arc::new(Inner { file, tokenizer, chat, sampler, loaded, exact, fingerprint }));
        let (tokens, rows) = (model.tokenizer().vocab_size(), model.config().vocab);
        if tokens != rows {
            let what = format!("has {tokens} tokens, but the embedding has {rows} rows");
            return Err(Error::key(model.0.file.path(), "tokenizer.ggml.tokens", what));
        }
        model.0.file.check_reads()?;
        Ok(model)
    }

    /// The network's shape.
    pub fn config(&self) -> &Config {
        match &self.0.loaded {
            Loaded::Cpu(_, weights) => &weights.config,
            Loaded::Reference(_, weights) => &weights.config,
            #[cfg(feature = "cuda")]
            Loaded::Cuda(_, weights, _) => &weights.config,
        }
    }

    /// Which backend it was loaded for.
    pub fn backend(&self) -> BackendKind {
        match &self.0.loaded {
            Loaded::Cpu(..) => BackendKind::Cpu,
            Loaded::Reference(..) => BackendKind::Reference,
            #[cfg(feature = "cuda")]
            Loaded::Cuda(..) => BackendKind::Cuda,
        }
    }

    /// How contexts that do not name it keep their keys and values: in f16, which costs less accuracy than everything else
    /// that is rounded (`tests/bench/SPEED.md`); in f32 where nothing is, with [`ModelParams::exact`] and on the reference
    /// backend.
    pub fn default_kv(&self) -> KvType {
        default_kv(self.0.exact)
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The file's chat template, or the plain Gemma turn format if it has none; the error of a broken one.
    pub fn chat_template(&self) -> Result<&ChatTemplate> {
        self.0
            .chat
            .as_ref()
            .map_err(|e| Error::Template(e.to_string().trim_start_matches("chat template: ").to_owned()))
    }

    /// The token ids of a conversation, ready for the model's answer: `messages` and `tools` as the chat template expects
    /// them (JSON lists in the Hugging Face form). The template writes `<bos>` itself.
    pub fn encode_chat(&self, messages: &serde_json::Value, tools: Option<&serde_json::Value>) -> Result<Vec<u32>> {
        let text = self.chat_template()?.render(messages, tools, true)?;
        self.tokenizer().encode(&text, false, true)
    }

    /// The file's sampler numbers, or the defaults.
    pub fn sampler_defaults(&self) -> &SamplerParams {
        &self.0.sampler
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        self.0.file.metadata()
    }

    /// The file itself.
    pub fn file(&self) -> &Gguf {
        &self.0.file
    }

    /// A number that says which model it is: a hash of architecture keys, tensor table and a sample of every tensor. The
    /// same for a file and its split form; another one after requantizing.
    pub fn fingerprint(&self) -> u64 {
        *self.0.fingerprint.get_or_init(|| fingerprint::fingerprint(self.file()))
    }

    /// How large it is.
    pub fn sizes(&self) -> ModelSizes {
        ModelSizes::of(self.file())
    }

    /// A fresh, empty context.
    pub fn context(&self, params: &ContextParams) -> Result<Context> {
        Context::new(self.clone(), params)
    }

    fn runner(&self, sizes: SessionSizes) -> Result<Box<dyn Runner>> {
        Ok(match &self.0.loaded {
            Loaded::Cpu(b, w) => Box::new(Session::new(b.clone(), w.clone(), sizes)?),
            Loaded::Reference(b, w) => Box::new(Session::new(b.clone(), w.clone(), sizes)?),
            #[cfg(feature = "cuda")]
            Loaded::Cuda(b, w, needs) => {
                needs.check_context(&sizes, b.memory()?.0)?;
                Box::new(Session::new(b.clone(), w.clone(), sizes)?)
            }
        })
    }
}

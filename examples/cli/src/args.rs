//! What can be typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use dgemma::engine::{BackendKind, KvType};
use std::path::PathBuf;

/// Text from DiffusionGemma models in GGUF files.
#[derive(Parser)]
#[command(name = "dgemma", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Answer one prompt.
    Generate(GenerateArgs),
    /// Talk: one message per line, /reset forgets, /exit or Ctrl-D leaves, Ctrl-C stops an answer.
    Chat(ChatArgs),
    /// Show what a model file holds.
    Info {
        /// The model file; without it, the built-in model.
        #[arg(short, long)]
        model: Option<PathBuf>,
    },
    /// Turn text into token ids.
    Tokenize(TokenizeArgs),
    /// Run one forward pass over recorded inputs: int32 `prompt` [P] and `canvas` [C], optional f32 `sc` [C,V].
    Eval(EvalArgs),
    /// Check a model against a directory of reference values.
    Conform(ConformArgs),
    /// Measure how fast a model runs here, and how much of what the processor, or a GPU, can do that is.
    Bench(BenchArgs),
    /// Show what of a model would lie where on a GPU, or what would fit. Needs no GPU if told of one.
    Plan(PlanArgs),
}

/// Which model, and what runs it.
#[derive(Args)]
pub struct ModelArgs {
    /// The model file (of a split set, the first part); without it, the built-in model.
    #[arg(short, long)]
    pub model: Option<PathBuf>,
    /// What computes.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What computes, and in which portions.
#[derive(Args)]
pub struct EngineArgs {
    /// Threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// `cpu` is the fast one for processors, `cuda` an NVIDIA GPU, `reference` the plain one that both are compared with.
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub backend: Backend,
    /// Which GPU, from 0, with `--backend cuda`.
    #[arg(long, default_value_t = 0)]
    pub device: usize,
    /// What takes memory.
    #[command(flatten)]
    pub room: RoomArgs,
    /// Compute all products and attention in f32, as the reference does; slower. `conform` always does.
    #[arg(long)]
    pub exact: bool,
}

/// What of a model lies where.
#[derive(Clone, Copy, Args)]
pub struct PlaceArgs {
    /// How many layers stay on the GPU, the last ones [default: all]. The others are copied to it in every pass: the same text,
    /// at the speed of the link.
    #[arg(long)]
    pub n_gpu_layers: Option<usize>,
    /// How many layers, the first ones, have their experts in host memory, and are copied in the same way.
    #[arg(long, alias = "n-cpu-moe", default_value_t = 0)]
    pub n_cpu_experts: usize,
}

/// What decides how much memory a model takes, and where.
#[derive(Clone, Copy, Args)]
pub struct RoomArgs {
    /// Where its weights are.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Positions, prompt and canvas together; 0: 8192, or what the model allows if that is less.
    #[arg(long, default_value_t = 0)]
    pub context: usize,
    /// Prompt rows encoded at a time; 0: 256. The result does not depend on it.
    #[arg(long, default_value_t = 0)]
    pub chunk: usize,
}

/// [`BackendKind`] as it is typed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The fast one.
    Cpu,
    /// The oracle.
    Reference,
    /// An NVIDIA GPU.
    Cuda,
}

impl From<Backend> for BackendKind {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Cpu => BackendKind::Cpu,
            Backend::Reference => BackendKind::Reference,
            Backend::Cuda => BackendKind::Cuda,
        }
    }
}

/// How to denoise. What is not given is the model's own.
#[derive(Args)]
pub struct SamplerArgs {
    /// Seed of the noise; the same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Most denoising steps per canvas.
    #[arg(long)]
    pub steps: Option<u32>,
    /// Temperature that the schedule approaches.
    #[arg(long)]
    pub t_min: Option<f32>,
    /// Temperature of the first step.
    #[arg(long)]
    pub t_max: Option<f32>,
    /// Bound in nats on the summed entropy of the positions accepted in a step.
    #[arg(long)]
    pub entropy_bound: Option<f32>,
    /// A canvas is done once its draft equals that many previous drafts ...
    #[arg(long)]
    pub stability: Option<u32>,
    /// ... and its mean entropy in nats is below this.
    #[arg(long)]
    pub confidence: Option<f32>,
    /// Most tokens of an answer; without it, four canvases.
    #[arg(long)]
    pub max_tokens: Option<usize>,
    /// Draw the canvas at each step: green tokens are accepted, dim ones have just changed. Needs a terminal.
    #[arg(long)]
    pub visual: bool,
}

/// `dgemma generate`.
#[derive(Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub sampler: SamplerArgs,
    /// Continue the prompt as it is, without the model's chat template.
    #[arg(long, conflicts_with = "system")]
    pub raw: bool,
    /// The system message.
    #[arg(long)]
    pub system: Option<String>,
    /// The prompt; `-` reads standard input.
    pub prompt: String,
}

/// `dgemma chat`.
#[derive(Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub sampler: SamplerArgs,
    /// The system message.
    #[arg(long)]
    pub system: Option<String>,
}

/// `dgemma plan`.
#[derive(Args)]
pub struct PlanArgs {
    /// The model file (of a split set, the first part); without it, the built-in model.
    #[arg(short, long)]
    pub model: Option<PathBuf>,
    /// Which GPU, from 0.
    #[arg(long, default_value_t = 0)]
    pub device: usize,
    /// Plan for a GPU with so many GB of memory (10^9 bytes), all of it free, instead of one in this machine.
    #[arg(long, conflicts_with = "device")]
    pub memory: Option<f64>,
    /// Its multiprocessors.
    #[arg(long, default_value_t = 132, requires = "memory")]
    pub processors: usize,
    /// Most bytes of shared memory that a block can have there.
    #[arg(long, default_value_t = 227 << 10, requires = "memory")]
    pub shared: usize,
    /// What takes memory.
    #[command(flatten)]
    pub room: RoomArgs,
    /// Type of cached keys and values [default: f16, with --exact f32].
    #[arg(long, value_enum)]
    pub kv: Option<Kv>,
    /// Products as accurate as in f32, which need more work space.
    #[arg(long)]
    pub exact: bool,
}

/// `dgemma tokenize`.
#[derive(Args)]
pub struct TokenizeArgs {
    /// The model file; without it, the built-in model.
    #[arg(short, long)]
    pub model: Option<PathBuf>,
    /// Begin with the model's first token.
    #[arg(long)]
    pub bos: bool,
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
    /// Leave control tokens spelled in the text as text, as for input that is not trusted.
    #[arg(long)]
    pub plain: bool,
    /// Read the text from a file.
    #[arg(long, conflicts_with = "text")]
    pub file: Option<PathBuf>,
    /// The text; without it and --file, standard input is read.
    pub text: Option<String>,
}

/// `dgemma eval`.
#[derive(Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The model file.
    pub model: PathBuf,
    /// Inputs: `prompt`, `canvas`, and, where it is conditioned, `sc`, logits already divided by their temperature.
    pub input: PathBuf,
    /// Results: f32 `encoder_hidden` [P,H] and `logits` [C,V].
    pub output: PathBuf,
}

/// `dgemma conform`.
#[derive(Args)]
pub struct ConformArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Largest difference allowed in hidden states, cached rows, logits and entropies. Tokens must be equal.
    #[arg(long, default_value_t = 5e-3)]
    pub tolerance: f32,
    /// The model file.
    pub model: PathBuf,
    /// A directory with any of reference.safetensors, trace.safetensors and tokenizer.json.
    pub directory: PathBuf,
}

/// `dgemma bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// The model file; without it and --shape, the built-in model.
    #[arg(short, long)]
    pub model: Option<PathBuf>,
    /// Make up a model of this shape instead: 26b, 26b-layers=N for its first layers, or tiny.
    #[arg(long, conflicts_with = "model")]
    pub shape: Option<String>,
    /// Types of the weights of such a model.
    #[arg(long = "type", default_value = "Q4_0", requires = "shape")]
    pub types: String,
    /// How its rows fall on its experts: evenly at random, or about as unevenly as in the built-in model.
    #[arg(long, value_enum, default_value_t = Routing::Random, requires = "shape")]
    pub routing: Routing,
    /// Where to put it, or where it already is; otherwise it is a temporary file.
    #[arg(long, requires = "shape")]
    pub file: Option<PathBuf>,
    /// `cpu`, or `cuda` for an NVIDIA GPU.
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub backend: Backend,
    /// Which GPU, from 0, with `--backend cuda`.
    #[arg(long, default_value_t = 0)]
    pub device: usize,
    /// Where its weights are, with `--backend cuda`.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Instruction set: scalar, avx2, avx512 or avx512vnni; without it, the best one.
    #[arg(long)]
    pub level: Option<String>,
    /// Products in f32 instead of 8 bits or BF16.
    #[arg(long)]
    pub exact: bool,
    /// Type of cached keys and values; f16, or f32 with --exact, if left out.
    #[arg(long, value_enum)]
    pub kv: Option<Kv>,
    /// Prompt rows encoded at a time; 0: 256.
    #[arg(long, default_value_t = 0)]
    pub chunk: usize,
    /// Prompt tokens before the canvas. More than 2048 are not encoded: their keys and values are random.
    #[arg(long, default_value_t = 64)]
    pub prefix: usize,
    /// Positions to make room for; 0: as many as the run needs.
    #[arg(long, default_value_t = 0)]
    pub context: usize,
    /// Steps to measure [default: 4; 16 with a prompt].
    #[arg(long)]
    pub steps: Option<u32>,
    /// Generations to measure behind the prompt [default: 20 with a prompt, else 1].
    #[arg(long)]
    pub generations: Option<u32>,
    /// Canvases of a generation, at most.
    #[arg(long, default_value_t = 1)]
    pub canvases: usize,
    /// The prompt of generations; without it they go on behind the prefix, with --steps steps each. The built-in model has
    /// one.
    #[arg(long)]
    pub prompt: Option<String>,
    /// Also measure how a second block begins: its first step shares a pass with the encoding of the first block.
    #[arg(long)]
    pub next_block: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print the same as lines of `what,value`.
    #[arg(long)]
    pub csv: bool,
}

/// How uneven routing is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Routing {
    Random,
    Model,
}

/// [`KvType`] as it is typed.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kv {
    F32,
    F16,
    Bf16,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F32 => KvType::F32,
            Kv::F16 => KvType::F16,
            Kv::Bf16 => KvType::Bf16,
        }
    }
}

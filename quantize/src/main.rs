//! `dgemma-quantize`: converts checkpoints to GGUF, says beforehand what that gives, and shows what is in a GGUF file.

use clap::{Args, Parser, Subcommand};
use dgemma::Result;
use dgemma_quantize::imatrix::Imatrix;
use dgemma_quantize::overrides::{self, Override};
use dgemma_quantize::quality::Comparison;
use dgemma_quantize::samples::Texts;
use dgemma_quantize::types::Types;
use dgemma_quantize::{collect, convert, diff, dry_run, inspect, inspect_json, mix, quality, shapes, synth};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Converts DiffusionGemma checkpoints to GGUF.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a GGUF file from a Hugging Face checkpoint directory, or from another GGUF file
    Convert {
        /// Directory with config.json, tokenizer.json and *.safetensors; or a GGUF file, of a split set part 1
        input: PathBuf,
        /// The file to write; it appears when it is complete
        #[arg(required_unless_present = "dry_run")]
        out: Option<PathBuf>,
        #[command(flatten)]
        types: TypeArguments,
        /// The model's name, stored as general.name [default: from the directory]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        writing: WritingArguments,
        /// Let quantized tensors of a GGUF file become larger ones, which are no better
        #[arg(long)]
        allow_requantize: bool,
        /// Read the result back before it gets its name, and compare it with the input
        #[arg(long)]
        verify: bool,
        /// Importance matrix of the model, a GGUF file from here or from llama.cpp: weights that matter more get the
        /// smaller errors
        #[arg(long, value_name = "FILE")]
        imatrix: Option<PathBuf>,
        /// Only list the tensors that would be written, with types and sizes
        #[arg(long)]
        dry_run: bool,
    },
    /// List the tensors, types and sizes of a published model in some mix, without having it
    Plan {
        /// The model: 26b, 26b-layers=N for its first layers, or tiny
        #[arg(long)]
        shape: String,
        #[command(flatten)]
        types: TypeArguments,
    },
    /// Make up a model: random weights in the types of a mix, and a random vocabulary, for tests and measurements
    Synth {
        /// The file to write
        out: PathBuf,
        /// The model whose shape it has: 26b, 26b-layers=N for its first layers, or tiny
        #[arg(long)]
        shape: String,
        /// Another seed, another file
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// How differently experts are liked: 0, all about the same; 1, a few get most of the work
        #[arg(long, default_value_t = 0.0)]
        router_skew: f32,
        #[command(flatten)]
        types: TypeArguments,
        /// The model's name, stored as general.name [default: synthetic]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        writing: WritingArguments,
    },
    /// Measure which weights matter: run a model on texts and write an importance matrix
    Imatrix {
        /// The model, a GGUF file; the less quantized, the better
        model: PathBuf,
        /// The file to write, in llama.cpp's GGUF form
        #[arg(short, long)]
        out: PathBuf,
        #[command(flatten)]
        texts: Texts,
        /// Threads; 0: one per core
        #[arg(long, default_value_t = 0)]
        threads: usize,
    },
    /// Measure what quantization costs: a model against itself in several mixes, as a table in Markdown
    Quality {
        /// The model, a GGUF file in F32, BF16 or F16
        model: PathBuf,
        /// The mixes [default: all]
        #[arg(long, value_name = "MIX,...", value_delimiter = ',')]
        types: Vec<String>,
        /// Compare each mix also with this importance matrix
        #[arg(long, value_name = "FILE")]
        imatrix: Option<PathBuf>,
        #[command(flatten)]
        texts: Texts,
        /// A .jsonl file of exercises to be solved in each mix, and compared with their answers
        #[arg(long, value_name = "FILE")]
        answers: Option<PathBuf>,
        /// Threads; 0: one per core
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// Compute all products in f32, to see what the weights alone cost, without the engine's 8-bit activations
        #[arg(long)]
        exact: bool,
    },
    /// List the keys and tensors of a GGUF file
    Inspect {
        /// The file; of a split set, part 1
        file: PathBuf,
        /// Print one JSON object instead
        #[arg(long)]
        json: bool,
        /// How many elements of each array the JSON has [default: all]
        #[arg(long, requires = "json", value_name = "N")]
        elements: Option<usize>,
    },
    /// List what differs between two GGUF files; exit status 0 if nothing does, otherwise 1
    Diff {
        /// A file; of a split set, part 1
        a: PathBuf,
        /// Another one
        b: PathBuf,
    },
}

#[derive(Args)]
struct TypeArguments {
    // Norms, scales and the router stay F32.
    #[arg(long = "type", value_name = "MIX", default_value = "BF16",
        help = format!("Mix of formats for the matrices: {}", mix::names()))]
    mix: String,
    /// Another type for the matrices with PATTERN in their names; * in it stands for anything. May be repeated: of
    /// several that match, the first one counts
    #[arg(long = "tensor-type", value_name = "PATTERN=TYPE")]
    overrides: Vec<String>,
    /// Another type for the embedding, which is the output head as well
    #[arg(long = "token-embedding-type", value_name = "TYPE")]
    token_embedding: Option<String>,
}

#[derive(Args)]
struct WritingArguments {
    /// Write parts of at most that size: 4G, 500M, 1000000. Parts hold whole tensors
    #[arg(long, value_name = "SIZE", value_parser = size)]
    split_max_size: Option<u64>,
    /// Threads; the file does not depend on it [default: one per core]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

impl TypeArguments {
    fn parse(&self) -> Result<Types> {
        let embedding = self.token_embedding.as_deref();
        Ok(Types {
            overrides: self.overrides.iter().map(|text| Override::parse(text)).collect::<Result<_>>()?,
            token_embedding: embedding.map(|name| overrides::writable("token-embedding-type", name)).transpose()?,
            ..Types::of(mix::by_name(&self.mix)?)
        })
    }
}

fn main() -> ExitCode {
    dgemma::log::set_sink(Some(Arc::new(|level, text| eprintln!("{level:?}: {text}"))));
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A number of bytes, at least one; G, M and K are powers of 1000, as in llama.cpp's tool.
fn size(text: &str) -> std::result::Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'G' | 'g')) => (&text[..at], 1_000_000_000),
        Some((at, 'M' | 'm')) => (&text[..at], 1_000_000),
        Some((at, 'K' | 'k')) => (&text[..at], 1000),
        _ => (text, 1),
    };
    let size = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    size.filter(|&n| n > 0).ok_or_else(|| "expected a size like 4G, 500M or 1000000".to_owned())
}

fn run(command: Command) -> Result<ExitCode> {
    let mut stdout = std::io::stdout().lock();
    match command {
        Command::Convert { input, out, types, name, writing, allow_requantize, verify, imatrix, dry_run } => {
            let imatrix = imatrix.map(|path| Imatrix::open(&path)).transpose()?;
            let options = convert::Options {
                types: types.parse()?,
                name,
                split_max_bytes: writing.split_max_size.unwrap_or_default(),
                threads: writing.threads,
                allow_requantize,
                verify,
                imatrix: imatrix.map(Arc::new),
                router_skew: 0.0,
            };
            match out.filter(|_| !dry_run) {
                Some(out) => convert::run(&input, &out, &options),
                None => dry_run::of_checkpoint(&input, &options, &mut stdout),
            }
        }
        Command::Plan { shape, types } => dry_run::of_shape(&shapes::named(&shape)?, &types.parse()?, &mut stdout),
        Command::Synth { out, shape, seed, router_skew, types, name, writing } => {
            let (types, threads) = (types.parse()?, writing.threads);
            let split_max_bytes = writing.split_max_size.unwrap_or_default();
            let options = convert::Options { types, name, split_max_bytes, threads, router_skew, ..Default::default() };
            synth::run(&out, &shapes::named(&shape)?, seed, &options)
        }
        Command::Imatrix { model, out, texts, threads } => collect::run(&model, &out, &texts, threads),
        Command::Quality { model, types, imatrix, texts, answers, threads, exact } => {
            let exercises = answers.map(|file| Texts { file, samples: None, ..texts.clone() });
            let comparison = Comparison { texts: &texts, exercises: exercises.as_ref(), threads, exact };
            quality::run(&model, &types, imatrix.as_deref(), &comparison, &mut stdout)
        }
        Command::Inspect { file, json: false, .. } => inspect::run(&file, &mut stdout),
        Command::Inspect { file, elements, .. } => {
            inspect_json::run(&file, elements.unwrap_or(usize::MAX), &mut stdout)
        }
        Command::Diff { a, b } => {
            let equal = diff::run(&a, &b, &mut stdout)?;
            return Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

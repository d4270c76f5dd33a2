//! `dgemma-quantize`: converts checkpoints to GGUF, and shows what is in a GGUF file.

use clap::{Parser, Subcommand};
use dgemma_quantize::{convert, inspect};
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
    /// Make a GGUF file from a Hugging Face checkpoint directory
    Convert {
        /// Directory with config.json, tokenizer.json and *.safetensors
        hf_dir: PathBuf,
        /// The file to write; it appears when it is complete
        out: PathBuf,
        /// Format of the large matrices; norms, scales and the router stay F32
        #[arg(long = "type", default_value = "bf16", value_parser = convert::TARGETS)]
        target: String,
        /// The model's name, stored as general.name [default: from the directory]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the keys and tensors of a GGUF file
    Inspect {
        /// The file; of a split set, part 1
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    dgemma::log::set_sink(Some(Arc::new(|level, text| eprintln!("{level:?}: {text}"))));
    let done = match Arguments::parse().command {
        Command::Convert { hf_dir, out, target, name } => convert::run(&hf_dir, &out, &target, name.as_deref()),
        Command::Inspect { file } => inspect::run(&file, &mut std::io::stdout().lock()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

//! The `dgemma` program. Results go to standard output, everything else to standard error.
//!
//! `args.rs` is what can be typed, `model.rs` opens what `-m` names; then one file per command: `generate.rs`, `chat.rs`,
//! `info.rs`, `tokenize.rs`, `eval.rs`, `conform.rs`, `bench/`, `plan.rs`. `answer.rs` is what generating and chatting share, `visual.rs`
//! draws the canvas, `signals.rs` is Ctrl-C, `tensors.rs` reads and writes safetensors.

mod answer;
mod args;
mod bench;
mod builtin;
mod chat;
mod conform;
mod eval;
mod generate;
mod info;
mod model;
mod plan;
mod signals;
mod tensors;
mod tokenize;
mod visual;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

/// Anything that ends the program; it is shown on one line.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    signals::die_quietly_of_closed_pipes();
    dgemma::log::set_sink(Some(std::sync::Arc::new(|level, text| {
        if level == dgemma::log::Level::Warn {
            eprintln!("dgemma: warning: {text}");
        }
    })));
    let done = match Cli::parse().command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Info { model } => info::run(model.as_deref()),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Conform(args) => conform::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Plan(args) => plan::run(&args),
    };
    match done {
        Ok(code) => code,
        // Where no signal ends the program, the error does.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dgemma: {}", error.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

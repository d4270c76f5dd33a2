//! `dgemma tokenize`: text to ids.

use crate::args::TokenizeArgs;
use crate::{Result, model};
use dgemma::tokenizer::Tokenizer;
use std::io::{Read, Write};
use std::process::ExitCode;

/// Runs the command. The weights are not loaded for it.
pub fn run(args: &TokenizeArgs) -> Result<ExitCode> {
    let text = match (&args.text, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?,
        (None, None) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
            text
        }
    };
    let file = model::open(args.model.as_deref())?;
    let ids = Tokenizer::from_gguf(file.metadata())?.encode(&text, args.bos, !args.plain)?;
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    let line = if args.json { format!("[{}]", ids.join(", ")) } else { ids.join(" ") };
    writeln!(std::io::stdout(), "{line}")?;
    Ok(ExitCode::SUCCESS)
}

//! `dgemma generate`: one prompt, one answer.

use crate::args::GenerateArgs;
use crate::{Result, answer, model, signals};
use dgemma::engine::StopReason;
use serde_json::json;
use std::io::Read;
use std::process::ExitCode;

/// Runs the command.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    let prompt = match args.prompt.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
            text
        }
        text => text.to_owned(),
    };
    let (model, mut context) = model::load_with_context(&args.model)?;
    let tokens = if args.raw {
        let tokenizer = model.tokenizer();
        tokenizer.encode(&prompt, tokenizer.adds_bos(), true)?
    } else {
        let system = args.system.iter().map(|text| json!({"role": "system", "content": text}));
        let messages = system.chain([json!({"role": "user", "content": prompt})]).collect();
        model.encode_chat(&messages, None)?
    };
    context.set_tokens(&tokens)?;
    signals::cancel_on_interrupt(context.cancel_token());
    let generation = answer::write(&mut context, &answer::params(&model, &args.sampler), args.sampler.visual)?;
    answer::report(&generation, 0);
    // As a shell would report a program that Ctrl-C ended.
    Ok(if generation.stop == StopReason::Cancelled { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

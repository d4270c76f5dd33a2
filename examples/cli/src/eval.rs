//! `dgemma eval`: the two halves of the network on recorded inputs.

use crate::args::EvalArgs;
use crate::tensors::{self, Tensors};
use crate::{Result, model};
use std::process::ExitCode;

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<ExitCode> {
    let input = Tensors::open(&args.input)?;
    let (prompt, canvas) = (input.ids("prompt")?, input.ids("canvas")?);
    let conditioning = if input.has("sc") { Some(input.f32("sc")?) } else { None };
    let model = model::load(Some(&args.model), &args.engine)?;
    let mut context = model::context(&model, &args.engine)?;
    let hidden = context.encode_hidden(&prompt)?;
    let logits = context.canvas_logits(&canvas, conditioning.as_deref())?;
    let config = model.config();
    tensors::write(
        &args.output,
        &[("encoder_hidden", [prompt.len(), config.hidden], hidden), ("logits", [canvas.len(), config.vocab], logits)],
    )?;
    Ok(ExitCode::SUCCESS)
}

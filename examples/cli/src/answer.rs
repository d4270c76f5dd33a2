//! One answer: generates behind a context's tokens, writes the text as blocks are committed, and says what it cost.

use crate::Result;
use crate::args::SamplerArgs;
use crate::signals::Answering;
use crate::visual::Visual;
use dgemma::engine::{Context, Event, GenerateParams, Generation, Model, Perf, StopReason};
use dgemma::tokenizer::StreamDecoder;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

/// The model's own numbers, changed as the options ask.
pub fn params(model: &Model, args: &SamplerArgs) -> GenerateParams {
    let mut params = GenerateParams::new(model);
    params.max_tokens = args.max_tokens.unwrap_or(4 * model.config().canvas);
    let sampler = &mut params.sampler;
    sampler.seed = args.seed;
    sampler.steps = args.steps.unwrap_or(sampler.steps);
    sampler.t_min = args.t_min.unwrap_or(sampler.t_min);
    sampler.t_max = args.t_max.unwrap_or(sampler.t_max);
    sampler.entropy_bound = args.entropy_bound.unwrap_or(sampler.entropy_bound);
    sampler.stability = args.stability.unwrap_or(sampler.stability);
    sampler.confidence = args.confidence.unwrap_or(sampler.confidence);
    params
}

/// Generates and writes the text to standard output, block by block.
pub fn write(context: &mut Context, params: &GenerateParams, visual: bool) -> Result<Generation> {
    let model = context.model().clone();
    let mut printer = Printer {
        model: &model,
        decoder: StreamDecoder::new(false),
        visual: if visual { Visual::on_terminal() } else { None },
        ends_line: true,
    };
    let mut failure = None;
    let answering = Answering::begin();
    let generation = context.generate(params, |event| match printer.event(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    });
    drop(answering);
    match failure {
        Some(error) => Err(error),
        None => {
            printer.finish()?;
            Ok(generation?)
        }
    }
}

struct Printer<'m> {
    model: &'m Model,
    decoder: StreamDecoder,
    visual: Option<Visual>,
    /// Whether the last thing written was a line end, or nothing.
    ends_line: bool,
}

impl Printer<'_> {
    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Prefill { .. } | Event::Early { .. } => {}
            Event::Step(step) => {
                if let Some(visual) = &mut self.visual {
                    visual.draw(self.model.tokenizer(), &step)?;
                }
            }
            Event::Commit { tokens, .. } => {
                if let Some(visual) = &mut self.visual {
                    visual.erase()?;
                }
                for token in tokens {
                    let text = self.decoder.push(self.model.tokenizer(), *token)?;
                    self.write(&text)?;
                }
                io::stdout().flush()?;
            }
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if !text.is_empty() {
            io::stdout().write_all(text.as_bytes())?;
            self.ends_line = text.ends_with('\n');
        }
        Ok(())
    }

    /// What is held back, and the end of the line.
    fn finish(mut self) -> Result<()> {
        if let Some(visual) = &mut self.visual {
            visual.erase()?;
        }
        let rest = self.decoder.finish();
        self.write(&rest)?;
        if !self.ends_line {
            self.write("\n")?;
        }
        Ok(io::stdout().flush()?)
    }
}

/// One line to standard error.
pub fn report(generation: &Generation, reused: usize) {
    let Perf { prefill_tokens, prefill, steps, denoise, first_canvas, total } = &generation.perf;
    let (n_steps, n_canvases) = (generation.perf.total_steps(), steps.len());
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let rate = |n: usize, time: &Duration| n as f64 / time.as_secs_f64().max(1e-9);
    let mut line = format!("[{prefill_tokens} tokens encoded in {:.0} ms", ms(prefill));
    if reused > 0 {
        line += &format!(", {reused} reused");
    }
    line += &format!(
        "; {n_steps} steps, {:.1} per canvas, {:.1} ms per step; {} tokens, {:.1} tokens/s",
        f64::from(n_steps) / n_canvases.max(1) as f64,
        ms(denoise) / f64::from(n_steps.max(1)),
        generation.tokens.len(),
        rate(generation.tokens.len(), total),
    );
    if let Some(time) = first_canvas {
        line += &format!("; first canvas after {:.0} ms", ms(time));
    }
    line += match generation.stop {
        StopReason::EndOfGeneration => "]",
        StopReason::MaxTokens => "; stopped at --max-tokens]",
        StopReason::ContextFull => "; stopped: the context is full]",
        StopReason::Cancelled => "; cancelled]",
    };
    eprintln!("{line}");
}

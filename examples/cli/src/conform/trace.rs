//! A recorded generation, replayed. Block B, step S (`used.B` steps):
//!
//! `prompt` [P]; `canvas.B` [C], the first canvas; `u.B.S` and `renoise.B.S` [C], the noise of a step; and what came of
//! it: `entropy.B.S`, `argmax.B.S`, `sampled.B.S`, `accepted.B.S` [C], `stop.B.S` [1]; `output`, all final drafts.
//!
//! The number of steps that the schedule is made for, and the sampler's other numbers, are the model's own.

use super::Report;
use crate::Result;
use crate::tensors::Tensors;
use dgemma::engine::{Context, Start};
use dgemma::sampler::{RecordedNoise, StepNoise};

/// Replays the trace and compares every step.
pub(super) fn check(report: &mut Report, context: &mut Context, trace: &Tensors) -> Result<()> {
    let mut noise = recording(trace)?;
    let sampler = context.model().sampler_defaults().clone();
    context.set_tokens(&trace.ids("prompt")?)?;
    let mut seen = Seen::default();
    for index in 0..noise.canvases.len() as u32 {
        let mut block = context.begin_block(index, Start::Random(0), &sampler, &mut noise)?;
        let used = trace.ids(&format!("used.{index}"))?;
        let steps = *used.first().ok_or("tensor `used`: is empty")?;
        for step in 0..steps {
            if block.is_done() {
                break;
            }
            context.step(&mut block, &mut noise)?;
            if let Some(info) = block.last_step() {
                let name = |what: &str| format!("{what}.{index}.{step}");
                let accepted = info.accepted.iter().map(|yes| u32::from(*yes));
                seen.entropy.extend(info.entropy, trace.f32(&name("entropy"))?);
                seen.argmax.extend(info.draft, trace.ids(&name("argmax"))?);
                seen.sampled.extend(info.drawn, trace.ids(&name("sampled"))?);
                seen.accepted.extend(&accepted.collect::<Vec<_>>(), trace.ids(&name("accepted"))?);
                seen.stop.extend(&[u32::from(info.converged)], trace.ids(&name("stop"))?);
            }
        }
        seen.steps.extend(&[block.steps_done()], vec![steps]);
        seen.output.got.extend(block.draft());
        context.commit(&block, block.draft().len())?;
    }
    seen.output.want = trace.ids("output")?;
    report.numbers("trace entropy", &seen.entropy.got, &seen.entropy.want)?;
    report.equal("trace argmax", &seen.argmax.got, &seen.argmax.want)?;
    report.equal("trace sampled", &seen.sampled.got, &seen.sampled.want)?;
    report.equal("trace accepted", &seen.accepted.got, &seen.accepted.want)?;
    report.equal("trace stop", &seen.stop.got, &seen.stop.want)?;
    report.equal("trace steps", &seen.steps.got, &seen.steps.want)?;
    report.equal("trace output", &seen.output.got, &seen.output.want)
}

/// All steps' values, in order.
#[derive(Default)]
struct Seen {
    entropy: Pair<f32>,
    argmax: Pair<u32>,
    sampled: Pair<u32>,
    accepted: Pair<u32>,
    stop: Pair<u32>,
    steps: Pair<u32>,
    output: Pair<u32>,
}

#[derive(Default)]
struct Pair<T> {
    got: Vec<T>,
    want: Vec<T>,
}

impl<T: Copy> Pair<T> {
    fn extend(&mut self, got: &[T], want: Vec<T>) {
        self.got.extend_from_slice(got);
        self.want.extend(want);
    }
}

fn recording(trace: &Tensors) -> Result<RecordedNoise> {
    let mut noise = RecordedNoise::default();
    for name in trace.names()? {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            ["canvas", block] => {
                noise.canvases.insert(block.parse()?, trace.ids(&name)?);
            }
            ["u", block, step] => {
                let renoise = trace.ids(&format!("renoise.{block}.{step}"))?;
                noise.steps.insert((block.parse()?, step.parse()?), StepNoise { draws: trace.f32(&name)?, renoise });
            }
            _ => {}
        }
    }
    Ok(noise)
}

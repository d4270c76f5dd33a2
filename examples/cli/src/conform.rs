//! `dgemma conform`: a model against recorded values of the reference implementation.
//!
//! The directory holds any of three files; what is there is checked, one line each:
//!
//! - `reference.safetensors`: `prompt` [P] and `canvas` [C], and of the following those that are wanted: `encoder_hidden`
//!   [P,H]; `k.L` and `v.L` [heads,n,head], the last n cached rows of layer L; `logits` [C,V]; `logits_sc`, the same
//!   canvas conditioned on `logits` / 0.8; `commit` [C], its argmax; `canvas2` and `logits2`, the next block after `commit`.
//! - `trace.safetensors`: a generation step by step with all its noise, see `trace.rs`.
//! - `tokenizer.json`: `cases` of text, ids and decoded text; `chat` of messages and the rendered text.

mod trace;

use crate::args::{ConformArgs, EngineArgs};
use crate::tensors::Tensors;
use crate::{Result, model};
use dgemma::engine::{Context, Model};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Temperature of the recorded conditioning.
const CONDITIONING: f32 = 0.8;

/// Runs the command.
pub fn run(args: &ConformArgs) -> Result<ExitCode> {
    // The recorded values are those of f32.
    let model = model::load(Some(&args.model), &EngineArgs { exact: true, ..args.engine })?;
    let mut report = Report { tolerance: args.tolerance, checks: 0, failures: 0 };
    let file = |name: &str| Some(args.directory.join(name)).filter(|path| path.exists());
    if let Some(path) = file("tokenizer.json") {
        text(&mut report, &model, &path)?;
    }
    if let Some(path) = file("reference.safetensors") {
        forward(&mut report, &mut model::context(&model, &args.engine)?, &Tensors::open(&path)?)?;
    }
    if let Some(path) = file("trace.safetensors") {
        trace::check(&mut report, &mut model::context(&model, &args.engine)?, &Tensors::open(&path)?)?;
    }
    if report.checks == 0 {
        return Err(format!("{}: nothing in it to check against", args.directory.display()).into());
    }
    Ok(if report.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the checks and counts those that fail.
struct Report {
    tolerance: f32,
    checks: usize,
    failures: usize,
}

impl Report {
    /// Numbers: within the tolerance everywhere.
    fn numbers(&mut self, what: &str, got: &[f32], want: &[f32]) -> Result<()> {
        if got.len() != want.len() {
            return self.line(what, format!("{} values, expected {}", got.len(), want.len()), false);
        }
        // NaN counts as the largest difference of all.
        let difference = |at: usize| Some((got[at] - want[at]).abs()).filter(|d| !d.is_nan()).unwrap_or(f32::INFINITY);
        let Some(worst) = (0..got.len()).max_by(|a, b| difference(*a).total_cmp(&difference(*b))) else {
            return Ok(());
        };
        let values = format!("{} for {} at {worst} of {}", got[worst], want[worst], got.len());
        self.line(what, format!("{:.1e} ({values})", difference(worst)), difference(worst) <= self.tolerance)
    }

    /// Tokens, or anything else that must be equal.
    fn equal<T: PartialEq>(&mut self, what: &str, got: &[T], want: &[T]) -> Result<()> {
        let same = got.iter().zip(want).filter(|(got, want)| got == want).count();
        let differ = got.len().max(want.len()) - same;
        self.line(what, format!("{differ} of {} differ", want.len()), differ == 0)
    }

    fn line(&mut self, what: &str, difference: String, good: bool) -> Result<()> {
        self.checks += 1;
        self.failures += usize::from(!good);
        Ok(writeln!(std::io::stdout(), "{} {what:<16} {difference}", if good { "ok  " } else { "FAIL" })?)
    }
}

fn forward(report: &mut Report, context: &mut Context, reference: &Tensors) -> Result<()> {
    let (prompt, canvas) = (reference.ids("prompt")?, reference.ids("canvas")?);
    let hidden = context.encode_hidden(&prompt)?;
    if reference.has("encoder_hidden") {
        report.numbers("encoder_hidden", &hidden, &reference.f32("encoder_hidden")?)?;
    }
    for layer in 0..context.model().config().layers.len() {
        let names = [format!("k.{layer}"), format!("v.{layer}")];
        if names.iter().all(|name| reference.has(name)) {
            let rows = context.kv(layer)?;
            report.numbers(&names[0], &rows.k, &reference.f32(&names[0])?)?;
            report.numbers(&names[1], &rows.v, &reference.f32(&names[1])?)?;
        }
    }
    if reference.has("logits") {
        let logits = reference.f32("logits")?;
        report.numbers("logits", &context.canvas_logits(&canvas, None)?, &logits)?;
        if reference.has("logits_sc") {
            // Conditioned on the recorded logits, so that one difference is not counted twice.
            let conditioning: Vec<f32> = logits.iter().map(|x| x / CONDITIONING).collect();
            let conditioned = context.canvas_logits(&canvas, Some(&conditioning))?;
            report.numbers("logits_sc", &conditioned, &reference.f32("logits_sc")?)?;
            if reference.has("commit") {
                let vocab = context.model().config().vocab;
                report.equal("commit", &argmax_rows(&conditioned, vocab), &reference.ids("commit")?)?;
            }
        }
    }
    if reference.has("commit") && reference.has("canvas2") && reference.has("logits2") {
        context.append(&reference.ids("commit")?)?;
        let logits = context.canvas_logits(&reference.ids("canvas2")?, None)?;
        report.numbers("logits2", &logits, &reference.f32("logits2")?)?;
    }
    Ok(())
}

/// The largest entry of each row, the first of equals.
fn argmax_rows(rows: &[f32], width: usize) -> Vec<u32> {
    let argmax = |row: &[f32]| (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best }) as u32;
    rows.chunks_exact(width).map(argmax).collect()
}

fn text(report: &mut Report, model: &Model, path: &Path) -> Result<()> {
    let broken = |what: &str| format!("{}: {what}", path.display());
    let bytes = std::fs::read(path).map_err(|e| broken(&e.to_string()))?;
    let golden: Value = serde_json::from_slice(&bytes).map_err(|e| broken(&e.to_string()))?;
    let list = |name: &str| golden.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let tokenizer = model.tokenizer();
    let (mut ids, mut expected_ids, mut texts, mut expected_texts) = (vec![], vec![], vec![], vec![]);
    for case in list("cases") {
        let text = case["text"].as_str().ok_or_else(|| broken("a case without `text`"))?;
        let expected: Option<Vec<u32>> = case["ids"].as_array().and_then(|ids| ids.iter().map(id).collect());
        let expected = expected.ok_or_else(|| broken("a case without `ids`"))?;
        ids.push(tokenizer.encode(text, false, true)?);
        texts.push(tokenizer.decode(&expected, true)?);
        expected_ids.push(expected);
        expected_texts.push(case["decoded"].as_str().unwrap_or_default().to_owned());
    }
    if !ids.is_empty() {
        report.equal("token ids", &ids, &expected_ids)?;
        report.equal("decoded text", &texts, &expected_texts)?;
    }
    let (mut rendered, mut expected) = (vec![], vec![]);
    for case in list("chat") {
        rendered.push(model.chat_template()?.render(&case["messages"], case.get("tools"), true)?);
        expected.push(case["text"].as_str().unwrap_or_default().to_owned());
    }
    if !rendered.is_empty() {
        report.equal("chat template", &rendered, &expected)?;
    }
    Ok(())
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

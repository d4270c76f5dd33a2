//! Texts to run a model on: for an importance matrix, and to measure what quantization costs.
//!
//! A file whose name ends in `.jsonl` has one exercise per line, `{"prompt": ..., "answer": ...}` (a `task` may name its
//! kind, other fields are ignored). The prompt goes through the model's chat template, unless it is asked to be left raw;
//! the canvas is the answer, the token that ends a turn, and padding.
//!
//! Any other file is plain text: pieces between blank lines, each a text of its own. They are never rendered. A text longer than
//! a chunk is cut into chunks; of each, the last canvas of tokens (where there are no more, the second half, padded) is the canvas,
//! and what comes before is its prompt.

use dgemma::engine::Model;
use dgemma::sampler::{Noise, PhiloxNoise};
use dgemma::{Error, Result};
use std::path::{Path, PathBuf};

/// One run: what is read, and what could be written behind it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Prompt tokens, at least one.
    pub prompt: Vec<u32>,
    /// `[canvas length]`: clean tokens.
    pub canvas: Vec<u32>,
    /// The right answer and its kind of task, where the file has it.
    pub answer: Option<Answer>,
}

/// What an exercise asks for.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// The kind of exercise; empty if the file does not say.
    pub task: String,
}

/// Which texts, and how they are used.
#[derive(Clone, Debug, clap::Args)]
pub struct Texts {
    /// Texts: a .jsonl file of {"prompt", "answer"} lines, or plain text with blank lines between texts
    #[arg(long = "text", value_name = "FILE")]
    pub file: PathBuf,
    /// Shares of the canvas that are noise, one after the other
    #[arg(long, default_value = "1,0.75,0.5,0.25,0.05", value_delimiter = ',')]
    pub levels: Vec<f32>,
    /// Tokens of a chunk of plain text, canvas included [default: two canvases]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub chunk: usize,
    /// Leave prompts of .jsonl files as they are, instead of rendering them with the chat template
    #[arg(long)]
    pub raw: bool,
    /// Use only N samples, spread evenly over the file
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Where the noise starts
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// The samples for `model` that are asked for.
pub fn read(texts: &Texts, model: &Model) -> Result<Vec<Sample>> {
    check_levels(&texts.levels)?;
    let all = read_all(texts, model)?;
    let wanted = texts.samples.unwrap_or(all.len()).min(all.len());
    Ok((0..wanted).map(|i| all[i * all.len() / wanted].clone()).collect())
}

/// Noise levels are shares.
fn check_levels(levels: &[f32]) -> Result<()> {
    match levels.iter().find(|l| !(0.0..=1.0).contains(*l)) {
        Some(bad) => Err(Error::argument("levels", format!("contain {bad}, expected numbers from 0 to 1"))),
        None if levels.is_empty() => Err(Error::argument("levels", "are empty, expected numbers from 0 to 1")),
        None => Ok(()),
    }
}

fn read_all(texts: &Texts, model: &Model) -> Result<Vec<Sample>> {
    let path = texts.file.as_path();
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let reader = Reader { path, model, texts };
    let samples =
        if path.extension().is_some_and(|e| e == "jsonl") { reader.exercises(&text) } else { reader.texts(&text) };
    let samples = samples?;
    if samples.is_empty() {
        return Err(Error::file(path, "has no text in it"));
    }
    Ok(samples)
}

struct Reader<'a> {
    path: &'a Path,
    model: &'a Model,
    texts: &'a Texts,
}

impl Reader<'_> {
    fn exercises(&self, text: &str) -> Result<Vec<Sample>> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(i, line)| self.exercise(line).map_err(|what| self.error(i, &what))?.checked(self, i)).collect()
    }

    fn error(&self, line: usize, what: &str) -> Error {
        Error::file(self.path, format!("line {}: {what}", line + 1))
    }

    fn exercise(&self, line: &str) -> std::result::Result<Sample, String> {
        let object: serde_json::Value = serde_json::from_str(line).map_err(|e| format!("is no JSON object: {e}"))?;
        let field = |name: &str| object.get(name).and_then(|v| v.as_str());
        let need = |name: &str| field(name).ok_or_else(|| format!("has no string `{name}`"));
        let (prompt, text) = (need("prompt")?, need("answer")?);
        let (prompt, end) = self.prompt(prompt, text).map_err(|e| e.to_string())?;
        let mut canvas = self.model.tokenizer().encode(text, false, false).map_err(|e| e.to_string())?;
        canvas.extend(end);
        let answer = Answer { text: text.to_owned(), task: field("task").unwrap_or_default().to_owned() };
        Ok(Sample { prompt, canvas: self.padded(canvas), answer: Some(answer) })
    }

    /// The prompt's tokens, and the token that ends its answer.
    fn prompt(&self, prompt: &str, answer: &str) -> Result<(Vec<u32>, Option<u32>)> {
        let tokenizer = self.model.tokenizer();
        if self.texts.raw {
            return Ok((tokenizer.encode(prompt, tokenizer.adds_bos(), false)?, tokenizer.eos()));
        }
        let user = serde_json::json!({"role": "user", "content": prompt});
        let assistant = serde_json::json!({"role": "assistant", "content": answer});
        let ids = self.model.encode_chat(&serde_json::json!([user]), None)?;
        // The template knows what ends a turn: the last such token of a finished conversation.
        let finished = self.model.chat_template()?.render(&serde_json::json!([user, assistant]), None, false)?;
        let finished = tokenizer.encode(&finished, false, true)?;
        Ok((ids, finished.into_iter().rfind(|&id| tokenizer.is_eog(id)).or(tokenizer.eos())))
    }

    fn texts(&self, text: &str) -> Result<Vec<Sample>> {
        let tokenizer = self.model.tokenizer();
        let canvas = self.model.config().canvas;
        let chunk = if self.texts.chunk == 0 { 2 * canvas } else { self.texts.chunk };
        if chunk <= canvas {
            let what = format!("is {chunk}, expected more than {canvas} tokens (the canvas)");
            return Err(Error::argument("chunk", what));
        }
        let mut samples = Vec::new();
        for (at, text) in paragraphs(text) {
            let ids = tokenizer.encode(text, tokenizer.adds_bos(), false)?;
            // A chunk of one token would have no canvas; it is not worth an error.
            for ids in ids.chunks(chunk).filter(|ids| ids.len() > 1) {
                let behind = if ids.len() > canvas { ids.len() - canvas } else { ids.len() / 2 };
                let (prompt, rest) = ids.split_at(behind);
                let sample = Sample { prompt: prompt.to_vec(), canvas: self.padded(rest.to_vec()), answer: None };
                samples.push(sample.checked(self, at)?);
            }
        }
        Ok(samples)
    }

    /// `ids` at the length of a canvas: cut, or padded.
    fn padded(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let tokenizer = self.model.tokenizer();
        ids.resize(self.model.config().canvas, tokenizer.pad().or(tokenizer.eos()).unwrap_or(0));
        ids
    }
}

impl Sample {
    fn checked(self, reader: &Reader, line: usize) -> Result<Sample> {
        let (tokens, limit) = (self.prompt.len() + self.canvas.len(), reader.model.config().context_length);
        if self.prompt.is_empty() {
            return Err(reader.error(line, "the prompt is empty"));
        }
        if tokens > limit {
            let what = format!("has {tokens} tokens with its canvas, more than the model's context of {limit}");
            return Err(reader.error(line, &what));
        }
        Ok(self)
    }

    /// The canvas with a share `level` of its tokens (1: all) replaced by random ones. The same `noise`, `index` and `step`
    /// give the same tokens.
    pub fn noisy(&self, level: f32, noise: &mut PhiloxNoise, index: u32, step: u32) -> Result<Vec<u32>> {
        let (mut canvas, mut chosen) = (vec![0; self.canvas.len()], vec![0.0; self.canvas.len()]);
        noise.renoise(index, step, &mut canvas)?;
        noise.draws(index, step, &mut chosen)?;
        for ((token, &clean), &u) in canvas.iter_mut().zip(&self.canvas).zip(&chosen) {
            if u >= level {
                *token = clean;
            }
        }
        Ok(canvas)
    }
}

/// The pieces between blank lines, each with the index of its first line.
fn paragraphs(text: &str) -> Vec<(usize, &str)> {
    let mut pieces: Vec<(usize, usize, usize)> = Vec::new(); // first line, start, end
    let (mut at, mut open) = (0, false);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let (start, end) = (at, at + line.trim_end_matches(['\n', '\r']).len());
        at += line.len();
        let blank = line.trim().is_empty();
        match pieces.last_mut() {
            _ if blank => {}
            Some(piece) if open => piece.2 = end,
            _ => pieces.push((number, start, end)),
        }
        open = !blank;
    }
    pieces.into_iter().map(|(line, start, end)| (line, &text[start..end])).collect()
}

#[cfg(test)]
mod tests {
    use super::paragraphs;

    #[test]
    fn blank_lines_separate_texts() {
        let text = "\none\ntwo\r\n \n\nthree\n\nfour";
        assert_eq!(paragraphs(text), [(1, "one\ntwo"), (5, "three"), (7, "four")]);
        assert!(paragraphs("\n  \n").is_empty());
    }
}

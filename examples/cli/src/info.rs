//! `dgemma info`: what a model file holds.

use crate::{Result, model};
use dgemma::gguf::Gguf;
use dgemma::model::Config;
use dgemma::sampler::SamplerParams;
use dgemma::tokenizer::{Tokenizer, Vocabulary};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Runs the command. The weights are not loaded for it.
pub fn run(path: Option<&Path>) -> Result<ExitCode> {
    let file = model::open(path)?;
    let mut out = String::new();
    about_file(&mut out, &file)?;
    about_network(&mut out, &Config::from_gguf(&file)?)?;
    about_text(&mut out, &file)?;
    about_sampler(&mut out, &SamplerParams::from_gguf(&file)?)?;
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn about_file(out: &mut String, file: &Gguf) -> Result<()> {
    let metadata = file.metadata();
    writeln!(out, "file         {}", file.path().display())?;
    if let Some(name) = metadata.opt_str("general.name")? {
        writeln!(out, "name         {name}")?;
    }
    let (mut elements, mut formats) = (0, BTreeMap::new());
    for tensor in file.tensors() {
        elements += tensor.shape.iter().product::<usize>();
        *formats.entry(tensor.format.name).or_insert(0) += 1;
    }
    let formats: Vec<String> = formats.iter().map(|(name, n)| format!("{n} {name}")).collect();
    writeln!(
        out,
        "size         {} bytes in {} file(s), GGUF version {}",
        file.file_bytes(),
        file.parts(),
        file.version()
    )?;
    writeln!(out, "tensors      {}: {}", file.tensors().len(), formats.join(", "))?;
    writeln!(out, "weights      {elements}")?;
    Ok(())
}

fn about_network(out: &mut String, config: &Config) -> Result<()> {
    let full = config.layers.iter().filter(|layer| layer.window.is_none()).count();
    let window = config.layers.iter().find_map(|layer| layer.window);
    writeln!(out, "layers       {}, {full} of them full", config.layers.len())?;
    if let Some(window) = window {
        writeln!(out, "window       {window}")?;
    }
    writeln!(out, "hidden       {}", config.hidden)?;
    writeln!(out, "query heads  {}", config.heads)?;
    writeln!(out, "dense branch {}", config.ffn)?;
    writeln!(out, "experts      {} of {}, {} chosen", config.experts, config.expert_ffn, config.top_k)?;
    writeln!(out, "canvas       {} tokens", config.canvas)?;
    writeln!(out, "context      {} positions", config.context_length)?;
    Ok(())
}

fn about_text(out: &mut String, file: &Gguf) -> Result<()> {
    let metadata = file.metadata();
    let merges = Vocabulary::from_gguf(metadata)?.merges.len();
    let tokenizer = Tokenizer::from_gguf(metadata)?;
    let ends: Vec<String> =
        tokenizer.eog().iter().map(|id| Ok(format!("{id} {}", tokenizer.piece(*id)?))).collect::<Result<_>>()?;
    writeln!(out, "vocabulary   {} tokens, {merges} merges", tokenizer.vocab_size())?;
    writeln!(out, "text ends    {}", ends.join(", "))?;
    let template = match metadata.opt_str("tokenizer.chat_template")? {
        Some(template) => format!("{} characters", template.chars().count()),
        None => "none".into(),
    };
    writeln!(out, "template     {template}")?;
    Ok(())
}

fn about_sampler(out: &mut String, p: &SamplerParams) -> Result<()> {
    writeln!(out, "steps        {}, temperature {} to {}", p.steps, p.t_max, p.t_min)?;
    writeln!(out, "accepts      {} nats", p.entropy_bound)?;
    writeln!(out, "stops        after {} equal drafts below {} nats", p.stability, p.confidence)?;
    Ok(())
}

//! The `tokenizer.*` keys of a GGUF file. Scores have no meaning for this kind of vocabulary and are not read.

use super::{ChatTemplate, Kind, Tokenizer, Vocabulary};
use crate::Result;
use crate::gguf::Metadata;

impl<'a> Vocabulary<'a> {
    /// What the file says; only missing keys, wrong types and unknown kinds are errors here.
    pub fn from_gguf(metadata: &'a Metadata) -> Result<Vocabulary<'a>> {
        const MODEL: &str = "tokenizer.ggml.model";
        const KINDS: &str = "tokenizer.ggml.token_type";
        let model = metadata.str(MODEL)?;
        if model != "gemma4" {
            return Err(metadata.error(MODEL, format!("is {model:?}, expected \"gemma4\"")));
        }
        let kind = |(id, code): (usize, i32)| {
            Kind::from_code(code.into()).ok_or_else(|| metadata.error(KINDS, format!("token {id} has type {code}")))
        };
        let id = |role: &str| metadata.opt_u32(&format!("tokenizer.ggml.{role}_token_id"));
        Ok(Vocabulary {
            tokens: metadata.strings("tokenizer.ggml.tokens")?.iter().collect(),
            kinds: metadata.i32s(KINDS)?.into_iter().enumerate().map(kind).collect::<Result<_>>()?,
            merges: metadata.strings("tokenizer.ggml.merges")?.iter().collect(),
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            eom: id("eom")?,
            unk: id("unknown")?,
            pad: id("padding")?,
            mask: id("mask")?,
            // Gemma expects it; llama.cpp insists on it for this vocabulary.
            add_bos: metadata.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(true),
        })
    }
}

impl Tokenizer {
    /// The tokenizer that a file brings.
    pub fn from_gguf(metadata: &Metadata) -> Result<Tokenizer> {
        Tokenizer::new(&Vocabulary::from_gguf(metadata)?)
    }
}

impl ChatTemplate {
    /// The template that a file brings, or the plain turns of the family where it brings none.
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        ChatTemplate::new(metadata.opt_str("tokenizer.chat_template")?, tokenizer)
    }
}

//! `tokenizer.json`, `tokenizer_config.json` and the chat template, as the `tokenizer.*` keys.

use crate::config::Config;
use crate::json::{File, Node};
use crate::vocabulary::{self, Kind, NAMED, text_of};
use dgemma::gguf::{Array, Strings, Value};
use dgemma::{Error, Result, log};
use std::collections::HashMap;
use std::path::Path;

/// A vocabulary and what belongs to it.
pub struct Tokenizer {
    /// The texts by id.
    pub tokens: Vec<String>,
    /// What each of them is.
    pub kinds: Vec<Kind>,
    /// `left right`, in order of rank.
    pub merges: Strings,
    /// The tokens that have keys of their own: the key's name, the id.
    pub special_ids: Vec<(String, u32)>,
    /// Jinja text, if there is any.
    pub chat_template: Option<String>,
}

impl Tokenizer {
    /// Reads the tokenizer in `directory`, which must have exactly the tokens that `config` promises.
    pub fn read(directory: &Path, config: &Config) -> Result<Tokenizer> {
        let file = File::read(&directory.join("tokenizer.json"))?;
        let root = file.root();
        let settings = File::read_if_there(&directory.join("tokenizer_config.json"))?;
        let settings = settings.as_ref().map(File::root);
        let model = root.need("model")?;
        if model.need("type")?.str()? != "BPE" || !model.need("byte_fallback")?.bool()? {
            return Err(model.error("is not BPE with byte fallback"));
        }
        let ids = vocabulary::ids(&root, &model)?;
        let tokens = vocabulary::tokens(&model, &ids, config.vocab)?;
        let special = vocabulary::special_texts(&root, settings.as_ref())?;
        let kinds = tokens.iter().map(|text| vocabulary::kind(text, &special)).collect();
        let main_config = File::read(&directory.join("config.json"))?;
        Ok(Tokenizer {
            kinds,
            merges: vocabulary::merges(&model.need("merges")?)?,
            special_ids: special_ids(settings.as_ref(), &main_config.root(), &ids, config.vocab)?,
            chat_template: chat_template(directory, settings.as_ref())?,
            tokens,
        })
    }

    /// The keys, in the order in which published files have them.
    pub fn keys(&self) -> Vec<(String, Value)> {
        let key = |name: &str, value| (format!("tokenizer.{name}"), value);
        // No scores: merges alone decide. The published files have this number in their place.
        let scores = vec![-1000.0; self.tokens.len()];
        let kinds = self.kinds.iter().map(|&kind| kind as i32).collect();
        let mut keys = vec![
            key("ggml.model", Value::String("gemma4".to_owned())),
            key("ggml.tokens", Value::Array(Array::String(self.tokens.iter().collect()))),
            key("ggml.scores", Value::Array(Array::F32(scores))),
            key("ggml.token_type", Value::Array(Array::I32(kinds))),
            key("ggml.merges", Value::Array(Array::String(self.merges.clone()))),
        ];
        keys.extend(self.special_ids.iter().map(|(name, id)| key(&format!("ggml.{name}_token_id"), Value::U32(*id))));
        keys.extend(self.chat_template.iter().map(|text| key("chat_template", Value::String(text.clone()))));
        keys.push(key("ggml.add_space_prefix", Value::Bool(false)));
        keys.push(key("ggml.add_bos_token", Value::Bool(true)));
        keys
    }
}

/// Ids of the named tokens, from the text in `tokenizer_config.json`, or else from `config.json`.
fn special_ids(
    settings: Option<&Node>,
    config: &Node,
    ids: &HashMap<&str, u32>,
    vocab: u32,
) -> Result<Vec<(String, u32)>> {
    let mut found = Vec::new();
    for (name, key) in NAMED {
        let text = settings.and_then(|s| s.get(&format!("{name}_token")));
        let number = config.get("text_config").and_then(|c| c.get(&format!("{name}_token_id")));
        let id = match (text, number) {
            (Some(node), _) => {
                let text = text_of(&node).ok_or_else(|| node.error("is not the text of a token"))?;
                Some(*ids.get(text).ok_or_else(|| node.error(format!("{text:?} is not in tokenizer.json")))?)
            }
            // A list names all tokens that end a text, the main one first.
            (None, Some(node)) if node.is_list() => node.list()?.first().map(Node::u32).transpose()?,
            (None, Some(node)) => Some(node.u32()?),
            (None, None) => None,
        };
        match id {
            Some(id) if id < vocab => found.push((key.to_owned(), id)),
            Some(id) => {
                return Err(config.error(format!("{name}_token_id is {id}, but vocab_size is {vocab}")));
            }
            None if ["bos", "eos"].contains(&name) => {
                return Err(config.error(format!("names no {name} token, and neither does tokenizer_config.json")));
            }
            None => {}
        }
    }
    Ok(found)
}

/// `chat_template.jinja`, or `chat_template` in `tokenizer_config.json`: one text, or a list of which `default` counts.
fn chat_template(directory: &Path, settings: Option<&Node>) -> Result<Option<String>> {
    let path = directory.join("chat_template.jinja");
    if path.exists() {
        return std::fs::read_to_string(&path).map(Some).map_err(|e| Error::io(&path, e));
    }
    let Some(node) = settings.and_then(|s| s.get("chat_template")) else {
        log::warn(|| format!("{}: no chat template found", directory.display()));
        return Ok(None);
    };
    if !node.is_list() {
        return Ok(Some(node.str()?.to_owned()));
    }
    for entry in node.list()? {
        if entry.need("name")?.str()? == "default" {
            return Ok(Some(entry.need("template")?.str()?.to_owned()));
        }
    }
    Err(node.error("has no template called default"))
}

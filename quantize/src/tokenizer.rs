//! `tokenizer.json`, `tokenizer_config.json` and the chat template, as the `tokenizer.*` keys.

use crate::config::Config;
use crate::json::{File, Node};
use dgemma::gguf::{Array, Strings, Value};
use dgemma::{Error, Result, log};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// What a token is, with the numbers of the file format.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(i32)]
enum Kind {
    Normal = 1,
    /// Hidden on output, matched in input only when special tokens are asked for.
    Control = 3,
    /// Matched in any input, shown as it is.
    UserDefined = 4,
    /// One of the 256 bytes.
    Byte = 6,
}

/// Special tokens that users see: how the model calls tools and opens its channels.
const VISIBLE: [&str; 7] = [
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|\"|>",
    "<|channel>",
    "<channel|>",
];

/// The special tokens with a key of their own: the name in `tokenizer_config.json`, and in the file.
const NAMED: [(&str, &str); 5] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("pad", "padding"),
    ("mask", "mask"),
];

/// A vocabulary and what belongs to it.
pub struct Tokenizer {
    tokens: Vec<String>,
    kinds: Vec<Kind>,
    merges: Strings,
    /// (key, id)
    special_ids: Vec<(String, u32)>,
    chat_template: Option<String>,
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
        let ids = ids(&root, &model)?;
        let tokens = tokens(&model, &ids, config.vocab)?;
        let special = special_texts(&root, settings.as_ref())?;
        let kinds = tokens.iter().map(|text| kind(text, &special)).collect();
        let main_config = File::read(&directory.join("config.json"))?;
        Ok(Tokenizer {
            kinds,
            merges: merges(&model.need("merges")?)?,
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
            key(
                "ggml.tokens",
                Value::Array(Array::String(self.tokens.iter().collect())),
            ),
            key("ggml.scores", Value::Array(Array::F32(scores))),
            key("ggml.token_type", Value::Array(Array::I32(kinds))),
            key(
                "ggml.merges",
                Value::Array(Array::String(self.merges.clone())),
            ),
        ];
        keys.extend(
            self.special_ids
                .iter()
                .map(|(name, id)| key(&format!("ggml.{name}_token_id"), Value::U32(*id))),
        );
        keys.extend(
            self.chat_template
                .iter()
                .map(|text| key("chat_template", Value::String(text.clone()))),
        );
        keys.push(key("ggml.add_space_prefix", Value::Bool(false)));
        keys.push(key("ggml.add_bos_token", Value::Bool(true)));
        keys
    }
}

/// Every token's id: the vocabulary and the added tokens.
fn ids<'a>(root: &Node<'a>, model: &Node<'a>) -> Result<HashMap<&'a str, u32>> {
    let mut ids = HashMap::new();
    for (text, id) in model.need("vocab")?.members()? {
        ids.insert(text, id.u32()?);
    }
    for token in added_tokens(root)? {
        let (text, id) = (token.need("content")?.str()?, token.need("id")?.u32()?);
        match ids.insert(text, id) {
            Some(other) if other != id => {
                return Err(token.error(format!(
                    "{text:?} has id {id} here and {other} in the vocabulary"
                )));
            }
            _ => {}
        }
    }
    Ok(ids)
}

fn added_tokens<'a>(root: &Node<'a>) -> Result<Vec<Node<'a>>> {
    root.get("added_tokens")
        .map_or(Ok(Vec::new()), |list| list.list())
}

/// The texts by id, without gaps.
fn tokens(model: &Node, ids: &HashMap<&str, u32>, vocab: u32) -> Result<Vec<String>> {
    let wrong = |what: String| model.error_at("vocab", what);
    let mut tokens = vec![None; vocab as usize];
    for (&text, &id) in ids {
        let Some(slot) = tokens.get_mut(id as usize) else {
            return Err(wrong(format!(
                "token {text:?} has id {id}, but config.json says vocab_size {vocab}"
            )));
        };
        if let Some(other) = slot.replace(text) {
            return Err(wrong(format!(
                "tokens {other:?} and {text:?} have the same id {id}"
            )));
        }
    }
    let missing = |id| {
        wrong(format!(
            "no token has id {id}, but config.json says vocab_size {vocab}"
        ))
    };
    tokens
        .iter()
        .enumerate()
        .map(|(id, text)| text.map(str::to_owned).ok_or_else(|| missing(id)))
        .collect()
}

/// Which texts are special. `tokenizer_config.json` has the list, in entries of several kinds. Where it has none but the
/// five ordinary ones, the flags in `tokenizer.json` stand in; they are not added to a longer list, because unused tokens
/// are flagged as well.
fn special_texts<'a>(root: &Node<'a>, settings: Option<&Node<'a>>) -> Result<BTreeSet<&'a str>> {
    let (mut ordinary, mut special) = (BTreeSet::new(), BTreeSet::new());
    let members = settings.map_or(Ok(Vec::new()), Node::members)?;
    for (name, value) in &members {
        match name.strip_suffix("_token") {
            Some(short) if NAMED.iter().any(|(named, _)| *named == short) => {
                ordinary.extend(text_of(value))
            }
            Some(_) => special.extend(text_of(value)),
            None if name.ends_with("special_tokens") && value.is_list() => {
                special.extend(value.list()?.iter().filter_map(text_of));
            }
            None if name.ends_with("special_tokens") && value.is_object() => {
                special.extend(
                    value
                        .members()?
                        .iter()
                        .filter_map(|(_, value)| text_of(value)),
                );
            }
            None => {}
        }
    }
    if special.is_empty() {
        for token in added_tokens(root)? {
            if token.need("special")?.bool()? {
                special.insert(token.need("content")?.str()?);
            }
        }
    }
    special.append(&mut ordinary);
    Ok(special)
}

/// A token given as a string, or as an object with its content.
fn text_of<'a>(node: &Node<'a>) -> Option<&'a str> {
    node.str().ok().or_else(|| node.get("content")?.str().ok())
}

fn kind(text: &str, special: &BTreeSet<&str>) -> Kind {
    let hex = text
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    let is_digit = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if hex.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(is_digit)) {
        Kind::Byte
    } else if VISIBLE.contains(&text) {
        Kind::UserDefined
    } else if special.contains(text) {
        Kind::Control
    } else {
        Kind::Normal
    }
}

/// The merges as "left right". A reader cuts at the first space behind the first byte, so the left part can have none.
fn merges(list: &Node) -> Result<Strings> {
    let mut merges = Strings::default();
    for merge in list.list()? {
        if merge.is_list() {
            let [left, right] = &merge.list()?[..] else {
                return Err(merge.error("is not a pair"));
            };
            merges.push(&format!(
                "{} {}",
                checked(&merge, left.str()?)?,
                checked(&merge, right.str()?)?
            ));
        } else {
            let (left, right) = merge
                .str()?
                .split_once(' ')
                .ok_or_else(|| merge.error("is not a pair"))?;
            merges.push(&format!(
                "{} {}",
                checked(&merge, left)?,
                checked(&merge, right)?
            ));
        }
    }
    return Ok(merges);

    fn checked<'a>(merge: &Node, part: &'a str) -> Result<&'a str> {
        match part.is_empty() || part.contains(' ') {
            true => Err(merge.error(format!("{part:?} cannot be part of a merge"))),
            false => Ok(part),
        }
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
        let number = config
            .get("text_config")
            .and_then(|c| c.get(&format!("{name}_token_id")));
        let id = match (text, number) {
            (Some(node), _) => {
                let text =
                    text_of(&node).ok_or_else(|| node.error("is not the text of a token"))?;
                Some(
                    *ids.get(text)
                        .ok_or_else(|| node.error(format!("{text:?} is not in tokenizer.json")))?,
                )
            }
            // A list names all tokens that end a text, the main one first.
            (None, Some(node)) if node.is_list() => {
                node.list()?.first().map(Node::u32).transpose()?
            }
            (None, Some(node)) => Some(node.u32()?),
            (None, None) => None,
        };
        match id {
            Some(id) if id < vocab => found.push((key.to_owned(), id)),
            Some(id) => {
                return Err(config.error(format!(
                    "{name}_token_id is {id}, but vocab_size is {vocab}"
                )));
            }
            None if ["bos", "eos"].contains(&name) => {
                return Err(config.error(format!(
                    "names no {name} token, and neither does tokenizer_config.json"
                )));
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
        return std::fs::read_to_string(&path)
            .map(Some)
            .map_err(|e| Error::io(&path, e));
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

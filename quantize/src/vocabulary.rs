//! Tokens, what kind each is, and merges: the contents of `tokenizer.json`.

use crate::json::Node;
use dgemma::Result;
use dgemma::gguf::Strings;
use std::collections::{BTreeSet, HashMap};

/// What a token is, with the numbers of the file format.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(i32)]
pub enum Kind {
    /// Text.
    Normal = 1,
    /// Hidden on output, matched in input only when special tokens are asked for.
    Control = 3,
    /// Matched in any input, shown as it is.
    UserDefined = 4,
    /// One of the 256 bytes.
    Byte = 6,
}

/// Special tokens that users see: how the model calls tools and opens its channels.
pub const VISIBLE: [&str; 7] =
    ["<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>", "<|channel>", "<channel|>"];

/// The special tokens with a key of their own: the name in `tokenizer_config.json`, and in the file.
pub const NAMED: [(&str, &str); 5] =
    [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"), ("mask", "mask")];

/// Every token's id: the vocabulary and the added tokens.
pub fn ids<'a>(root: &Node<'a>, model: &Node<'a>) -> Result<HashMap<&'a str, u32>> {
    let mut ids = HashMap::new();
    for (text, id) in model.need("vocab")?.members()? {
        ids.insert(text, id.u32()?);
    }
    for token in added_tokens(root)? {
        let (text, id) = (token.need("content")?.str()?, token.need("id")?.u32()?);
        match ids.insert(text, id) {
            Some(other) if other != id => {
                return Err(token.error(format!("{text:?} has id {id} here and {other} in the vocabulary")));
            }
            _ => {}
        }
    }
    Ok(ids)
}

fn added_tokens<'a>(root: &Node<'a>) -> Result<Vec<Node<'a>>> {
    root.get("added_tokens").map_or(Ok(Vec::new()), |list| list.list())
}

/// The texts by id, without gaps.
pub fn tokens(model: &Node, ids: &HashMap<&str, u32>, vocab: u32) -> Result<Vec<String>> {
    let wrong = |what: String| model.error_at("vocab", what);
    // Not as many as the file says that there are: where that is more than there are ids, one of the first is missing.
    let mut tokens = vec![None; (vocab as usize).min(ids.len() + 1)];
    for (&text, &id) in ids {
        if id >= vocab {
            return Err(wrong(format!("token {text:?} has id {id}, but config.json says vocab_size {vocab}")));
        }
        let Some(slot) = tokens.get_mut(id as usize) else { continue };
        if let Some(other) = slot.replace(text) {
            return Err(wrong(format!("tokens {other:?} and {text:?} have the same id {id}")));
        }
    }
    let missing = |id| wrong(format!("no token has id {id}, but config.json says vocab_size {vocab}"));
    tokens.iter().enumerate().map(|(id, text)| text.map(str::to_owned).ok_or_else(|| missing(id))).collect()
}

/// Which texts are special. `tokenizer_config.json` has the list, in entries of several kinds. Where it has none but the
/// five ordinary ones, the flags in `tokenizer.json` stand in; they are not added to a longer list, because unused tokens
/// are flagged as well.
pub fn special_texts<'a>(root: &Node<'a>, settings: Option<&Node<'a>>) -> Result<BTreeSet<&'a str>> {
    let (mut ordinary, mut special) = (BTreeSet::new(), BTreeSet::new());
    let members = settings.map_or(Ok(Vec::new()), Node::members)?;
    for (name, value) in &members {
        match name.strip_suffix("_token") {
            Some(short) if NAMED.iter().any(|(named, _)| *named == short) => ordinary.extend(text_of(value)),
            Some(_) => special.extend(text_of(value)),
            None if name.ends_with("special_tokens") && value.is_list() => {
                special.extend(value.list()?.iter().filter_map(text_of));
            }
            None if name.ends_with("special_tokens") && value.is_object() => {
                special.extend(value.members()?.iter().filter_map(|(_, value)| text_of(value)));
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
pub fn text_of<'a>(node: &Node<'a>) -> Option<&'a str> {
    node.str().ok().or_else(|| node.get("content")?.str().ok())
}

/// What the token `text` is.
pub fn kind(text: &str, special: &BTreeSet<&str>) -> Kind {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
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
pub fn merges(list: &Node) -> Result<Strings> {
    let mut merges = Strings::default();
    for merge in list.list()? {
        if merge.is_list() {
            let [left, right] = &merge.list()?[..] else {
                return Err(merge.error("is not a pair"));
            };
            merges.push(&format!("{} {}", checked(&merge, left.str()?)?, checked(&merge, right.str()?)?));
        } else {
            let (left, right) = merge.str()?.split_once(' ').ok_or_else(|| merge.error("is not a pair"))?;
            merges.push(&format!("{} {}", checked(&merge, left)?, checked(&merge, right)?));
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

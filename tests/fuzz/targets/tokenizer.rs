//! Vocabularies, texts and tokens.
//!
//! Input: roles, tokens, merges, text, separated by 0xFF. The first byte of the roles says whether the 256 byte tokens are
//! added, the others are ids in the order of [`ROLES`]; tokens and merges are separated by 0xFE, the first byte of a token
//! being its type. A vocabulary that is taken encodes any text, and in pieces decodes to the same as at once; where it has
//! all bytes, to the text itself.

use crate::common::{FILE, allowed, assert_tells, bounded, joined, pieces};
use dgemma::gguf::{Array, Metadata, Value};
use dgemma::tokenizer::{Kind, StreamDecoder, Tokenizer};
use std::path::Path;

/// The order of the roles in an input.
const ROLES: [&str; 7] = ["bos", "eos", "eot", "eom", "unknown", "padding", "mask"];

/// Whether the vocabulary was taken.
pub fn run(data: &[u8]) -> bool {
    let [roles, tokens, merges, text] = pieces(data);
    let (metadata, all_bytes) = keys(roles, tokens, merges);
    let text = String::from_utf8_lossy(text);
    bounded(allowed(data.len()), || match Tokenizer::from_gguf(&metadata) {
        Ok(tokenizer) => {
            [(false, false), (true, false), (false, true)].iter().for_each(|&(add_bos, parse_special)| {
                use_it(&tokenizer, &text, add_bos, parse_special, all_bytes);
            });
            true
        }
        Err(error) => {
            assert_tells(&error, &[FILE, "tokenizer: "]);
            false
        }
    })
}

/// The metadata, and whether it has all byte tokens.
fn keys(roles: &[u8], tokens: &[u8], merges: &[u8]) -> (Metadata, bool) {
    let items = |data: &[u8]| -> Vec<Vec<u8>> { data.split(|&byte| byte == 0xfe).map(<[u8]>::to_vec).collect() };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut texts, mut kinds) = (Vec::new(), Vec::new());
    for item in items(tokens) {
        texts.push(text(item.get(1..).unwrap_or_default()));
        kinds.push(i32::from(item.first().copied().unwrap_or_default() % 8));
    }
    let all_bytes = roles.first().is_some_and(|byte| byte % 2 == 1);
    if all_bytes {
        texts.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        kinds.extend([6; 256]);
    }
    let merges: Vec<String> = items(merges).iter().map(|merge| text(merge)).filter(|merge| !merge.is_empty()).collect();
    let key = |name: &str, value| (format!("tokenizer.ggml.{name}"), value);
    let mut entries = vec![
        key("model", Value::String("gemma4".into())),
        key("tokens", Value::Array(Array::String(texts.iter().collect()))),
        key("token_type", Value::Array(Array::I32(kinds))),
        key("merges", Value::Array(Array::String(merges.iter().collect()))),
    ];
    let roles = ROLES.iter().zip(roles.iter().skip(1));
    entries.extend(roles.map(|(role, &id)| key(&format!("{role}_token_id"), Value::U32(id.into()))));
    (Metadata::new(Path::new(FILE), entries).unwrap(), all_bytes)
}

fn use_it(tokenizer: &Tokenizer, text: &str, add_bos: bool, parse_special: bool, all_bytes: bool) {
    let ids = tokenizer.encode(text, add_bos, parse_special).unwrap();
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    assert!(ids.len() <= 3 * text.len() + 1);
    for special in [false, true] {
        let whole = tokenizer.decode(&ids, special).unwrap();
        let mut decoder = StreamDecoder::new(special);
        let mut parts: String = ids.iter().map(|&id| decoder.push(tokenizer, id).unwrap()).collect();
        parts += &decoder.finish();
        assert_eq!(parts, whole);
        if special && !add_bos && all_bytes && !ambiguous(tokenizer, text) {
            // Where no token is U+2581, spaces come back as its bytes; so they do in the reference.
            assert_eq!(whole.replace('\u{2581}', " "), text.replace('\u{2581}', " "));
        }
    }
}

/// A text that spells a byte token is that byte, and a vocabulary can call a byte token anything else.
fn ambiguous(tokenizer: &Tokenizer, text: &str) -> bool {
    let called_else = |byte: u8| {
        let id = tokenizer.find(&format!("<0x{byte:02X}>"));
        id.is_none_or(|id| tokenizer.kind(id).unwrap() != Kind::Byte)
    };
    text.contains("<0x") || (0..=255).any(called_else)
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let tokens =
        ["\x03<bos>", "\x03<eos>", "\x02<unk>", "\x04<tool>", "\x01\u{2581}", "\x01a", "\x01b", "\x01ab", "\x01ä"];
    let tokens = tokens.map(str::as_bytes).join(&0xfe);
    let with = |bytes: u8, text: &str| joined(&[&[bytes, 0, 1, 1, 1, 2], &tokens, b"a b", text.as_bytes()]);
    vec![with(1, "ab <tool>bä\u{1f999}<bos>  a"), with(0, "abc<unk>ba\n")]
}

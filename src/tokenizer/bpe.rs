//! Byte-pair encoding of text without special tokens.
//!
//! A character is a symbol; the adjacent pair with the lowest rank is merged, the leftmost first on a tie, until no pair
//! is left. What is in no token falls back to one token per byte. `tokenizers` does it with a heap, in O(n log n) for a
//! text of any length, so nothing needs cutting first.

use super::vocabulary::split_merge;
use crate::{Error, Result, log};
use tokenizers::Model;
use tokenizers::models::bpe::{self, BPE, BpeBuilder, Vocab};

pub(super) struct Bpe(BPE);

impl Bpe {
    /// `merges` in order of rank; `unk` stands for what cannot be expressed.
    pub(super) fn new(tokens: &[&str], merges: &[&str], unk: Option<&str>) -> Result<Self> {
        let longest = tokens.iter().map(|text| text.len()).max().unwrap_or(0);
        let merges = merges.iter().enumerate().map(|(rank, merge)| match split_merge(merge) {
            // The builder has a buffer for the longest token; a longer result would make it panic.
            Some((left, right)) if left.len() + right.len() <= longest => Ok((left.to_owned(), right.to_owned())),
            Some(_) => Err(Error::Tokenizer(format!("merge {rank}, {merge:?}, makes no token of the vocabulary"))),
            None => {
                Err(Error::Tokenizer(format!("merge {rank}, {merge:?}, is not two parts and a space between them")))
            }
        });
        // The cache is per thread and outlives the tokenizer; a prompt is encoded once, so it would not pay.
        let mut builder = BpeBuilder::new().cache_capacity(0).byte_fallback(true).fuse_unk(true);
        builder = builder.vocab_and_merges(index(tokens), merges.collect::<Result<Vec<_>>>()?);
        if let Some(unk) = unk {
            builder = builder.unk_token(unk.to_owned());
        }
        builder.build().map(Bpe).map_err(|e| match e.downcast_ref() {
            Some(bpe::Error::MergeTokenOutOfVocabulary(text)) => {
                Error::Tokenizer(format!("a merge takes or makes {text:?}, which is not a token"))
            }
            _ => Error::Tokenizer(e.to_string()),
        })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let tokens = self.0.tokenize(&text.replace(' ', "\u{2581}")).map_err(|e| Error::Tokenizer(e.to_string()))?;
        ids.extend(tokens.into_iter().map(|token| token.id));
        Ok(())
    }

    /// The id of the token with this text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.0.token_to_id(text)
    }
}

/// Text to id. Of equal texts the first counts, and the sink is told.
fn index(tokens: &[&str]) -> Vocab {
    let mut vocab = Vocab::with_capacity(tokens.len());
    let mut twice = None;
    for (id, text) in tokens.iter().enumerate() {
        if let Some(first) = vocab.get(*text) {
            twice.get_or_insert((*first, id));
        } else {
            vocab.insert((*text).to_owned(), id as u32);
        }
    }
    if let Some((first, second)) = twice {
        let n = tokens.len() - vocab.len();
        log::warn(|| {
            format!("tokenizer: tokens {first} and {second} have the same text ({n} such); the first is used")
        });
    }
    vocab
}

//! Byte-pair encoding of text without special tokens.
//!
//! ```text
//! symbols = the characters as tokens; of a character that is none, its bytes as tokens; else the unknown token, one for
//!           all such that stand in a row
//! queue   = every pair of neighbours that merges, by rank, the leftmost first on a tie
//! for each of the queue: unless a symbol of the pair is gone, merge it; the new symbol's pairs join the queue
//! ```
//!
//! So a text of n characters takes O(n log n), whatever its length, and nothing needs cutting first. `texts.rs` and
//! `merges.rs` hold the vocabulary: half a million merges are ready in a fraction of a second, and take little memory.

use super::merges::Merges;
use super::texts::Texts;
use super::vocabulary::Vocabulary;
use crate::{Error, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub(super) struct Bpe {
    pub(super) texts: Texts,
    merges: Merges,
    /// The token of each byte; none unless all are there that a character needs.
    bytes: Vec<Option<u32>>,
    unk: Option<u32>,
}

/// A part of the text, in a list.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Its neighbours, [`NONE`] at the ends.
    previous: u32,
    next: u32,
    /// Whether it has become a part of an earlier one.
    gone: bool,
}

const NONE: u32 = u32::MAX;
/// Bytes of a text. One becomes three symbols at most, a space where U+2581 is no token, and places have 32 bits.
const LONGEST: usize = 1 << 30;

/// A pair that may merge: its rank, then the place of the left symbol, in one number, since the queue is what takes time.
type Candidate = Reverse<u64>;

impl Bpe {
    /// Checks the merges; the unknown token was checked before.
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self> {
        let texts = Texts::new(vocabulary);
        let merges = Merges::new(&texts, &vocabulary.merges)?;
        let bytes = (0..=255u8).map(|byte| texts.find(&format!("<0x{byte:02X}>"))).collect();
        // Of equal texts the first counts, here as well.
        let unk = vocabulary.unk.and_then(|id| texts.find(texts.get(id)?));
        Ok(Bpe { texts, merges, bytes, unk })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if text.len() > LONGEST {
            return Err(Error::argument("text", format!("has {} bytes, more than {LONGEST}", text.len())));
        }
        let mut symbols = self.symbols(text);
        self.merge(&mut symbols);
        ids.extend(symbols.iter().filter(|symbol| !symbol.gone).map(|symbol| symbol.id));
        Ok(())
    }

    /// The characters of `text`, spaces as U+2581.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols = Vec::with_capacity(text.len());
        let mut push = |id: u32| {
            let at = symbols.len() as u32;
            symbols.push(Symbol { id, previous: at.wrapping_sub(1), next: at + 1, gone: false });
        };
        let mut unknown = None;
        for character in text.chars() {
            let character = if character == ' ' { '\u{2581}' } else { character };
            let mut buffer = [0; 4];
            let spelled = character.encode_utf8(&mut buffer);
            if let Some(id) = self.texts.find(spelled) {
                unknown.take().into_iter().chain([id]).for_each(&mut push);
            } else if let Some(bytes) = self.bytes_of(spelled) {
                // An unknown character before waits on: so does the reference, where some bytes have tokens and others not.
                bytes.into_iter().for_each(&mut push);
            } else {
                unknown = self.unk;
            }
        }
        unknown.into_iter().for_each(&mut push);
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        symbols
    }

    fn bytes_of(&self, character: &str) -> Option<Vec<u32>> {
        character.bytes().map(|byte| self.bytes[byte as usize]).collect()
    }

    fn merge(&self, symbols: &mut [Symbol]) {
        let rank = |symbols: &[Symbol], at: u32| {
            let left = symbols.get(at as usize)?;
            self.merges.rank(left.id, symbols.get(left.next as usize)?.id)
        };
        let candidate = |symbols: &[Symbol], at: u32| -> Option<Candidate> {
            rank(symbols, at).map(|rank| Reverse(u64::from(rank) << 32 | u64::from(at)))
        };
        let all: Vec<Candidate> = (0..symbols.len() as u32).filter_map(|at| candidate(symbols, at)).collect();
        let mut queue = BinaryHeap::from(all);
        while let Some(Reverse(top)) = queue.pop() {
            let (made, at) = (self.merges.made((top >> 32) as u32), top as u32 as usize);
            // Since it joined the queue, either symbol may have merged with another one.
            if symbols[at].gone || rank(symbols, at as u32).is_none_or(|rank| self.merges.made(rank) != made) {
                continue;
            }
            let right = symbols[symbols[at].next as usize];
            symbols[symbols[at].next as usize].gone = true;
            symbols[at] = Symbol { id: made, next: right.next, ..symbols[at] };
            if let Some(next) = symbols.get_mut(right.next as usize) {
                next.previous = at as u32;
            }
            queue.extend(candidate(symbols, symbols[at].previous));
            queue.extend(candidate(symbols, at as u32));
        }
    }
}

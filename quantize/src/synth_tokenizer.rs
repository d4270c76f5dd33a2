//! A made-up vocabulary in the manner of the published one: its special tokens at their ids, its kinds of other tokens where
//! it has them, words made of random syllables, and all merges that lead to them. It encodes any text and gets it back.

use crate::random;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::{Kind, VISIBLE};
use dgemma::gguf::Strings;
use dgemma::{Error, Result};
use std::collections::HashSet;

/// The published ids of special tokens, without those for images and sound.
const SPECIAL: [(usize, &str); 17] = [
    (0, "<pad>"),
    (1, "<eos>"),
    (2, "<bos>"),
    (3, "<unk>"),
    (4, "<mask>"),
    (46, "<|tool>"),
    (47, "<tool|>"),
    (48, "<|tool_call>"),
    (49, "<tool_call|>"),
    (50, "<|tool_response>"),
    (51, "<tool_response|>"),
    (52, "<|\"|>"),
    (98, "<|think|>"),
    (100, "<|channel>"),
    (101, "<channel|>"),
    (105, "<|turn>"),
    (106, "<turn|>"),
];
/// Two of those for images; they exist where the vocabulary is large enough.
const IMAGE: [(usize, &str); 3] = [(255_999, "<|image>"), (258_880, "<|image|>"), (258_882, "<image|>")];

/// Runs of newlines, from one on.
const NEWLINES: std::ops::Range<usize> = 107..138;
/// Runs of spaces, from two on.
const SPACES: std::ops::Range<usize> = 138..169;
const STRIKE: usize = 212;
const BYTES: std::ops::Range<usize> = 238..494;
/// The published id of the single space, with which single characters begin. Smaller vocabularies have them behind the bytes.
const CHARACTERS: usize = 236_743;
const SPACE: char = '\u{2581}';

/// Fewer tokens have no room for bytes and ASCII.
const SMALLEST: usize = 600;
/// Longest word, in characters.
const LONGEST: usize = 12;
/// Different endings of words.
const ENDINGS: usize = 50;

/// A vocabulary of `vocab` tokens.
pub fn tokenizer(vocab: usize, seed: u64) -> Result<Tokenizer> {
    if vocab < SMALLEST {
        return Err(Error::argument(
            "shape",
            format!("its vocabulary has {vocab} tokens, at least {SMALLEST} are needed"),
        ));
    }
    let large = vocab > IMAGE[2].0;
    let mut slots: Vec<Option<String>> = vec![None; vocab];
    let special = SPECIAL.iter().chain(if large { &IMAGE[..] } else { &[] });
    special.for_each(|&(id, text)| slots[id] = Some(text.to_owned()));
    NEWLINES.for_each(|id| slots[id] = Some("\n".repeat(id - NEWLINES.start + 1)));
    SPACES.for_each(|id| slots[id] = Some(SPACE.to_string().repeat(id - SPACES.start + 2)));
    slots[STRIKE] = Some("</s>".to_owned());
    BYTES.for_each(|id| slots[id] = Some(format!("<0x{:02X}>", id - BYTES.start)));
    let mut words = Words::new(random::key(seed, "tokenizer"));
    let start = if large { CHARACTERS } else { BYTES.end };
    let end = if large { IMAGE[0].0 } else { vocab };
    // In a small vocabulary, a quarter of what is left is enough; ASCII comes first.
    let count =
        if large { end - start } else { ((end - start) / 4).max(characters().take_while(char::is_ascii).count() + 1) };
    for (slot, character) in slots[start..end].iter_mut().zip(std::iter::once(SPACE).chain(characters())).take(count) {
        *slot = Some(character.to_string());
        words.known.insert(character.to_string());
    }
    NEWLINES.chain(SPACES).for_each(|id| words.known.extend(slots[id].clone()));
    // What is free among the low ids is unused there as well; behind the bytes come words.
    let unused = (0..BYTES.start).filter(|&id| slots[id].is_none()).collect::<Vec<_>>();
    unused.iter().enumerate().for_each(|(n, &id)| slots[id] = Some(format!("<unused{n}>")));
    for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
        *slot = Some(words.next_word());
    }
    let tokens: Vec<String> = slots.into_iter().flatten().collect();
    let kinds = tokens.iter().enumerate().map(|(id, text)| kind(id, text)).collect();
    let merges = words.merges(&tokens);
    let special_ids = [("bos", 2), ("eos", 1), ("unknown", 3), ("padding", 0), ("mask", 4)];
    let special_ids = special_ids.map(|(name, id)| (name.to_owned(), id)).to_vec();
    Ok(Tokenizer { tokens, kinds, merges, special_ids, chat_template: None })
}

fn kind(id: usize, text: &str) -> Kind {
    match id {
        _ if BYTES.contains(&id) => Kind::Byte,
        _ if VISIBLE.contains(&text) => Kind::UserDefined,
        _ if SPECIAL.iter().chain(&IMAGE).any(|&(special, name)| special == id && name == text) => Kind::Control,
        _ => Kind::Normal,
    }
}

/// Single characters, the frequent ones first: ASCII, then most of what other scripts use.
fn characters() -> impl Iterator<Item = char> {
    let others = [
        '\u{a1}'..='\u{52f}',
        '\u{5d0}'..='\u{5ea}',
        '\u{621}'..='\u{64a}',
        '\u{904}'..='\u{939}',
        '\u{3041}'..='\u{30ff}',
        '\u{4e00}'..='\u{9fa5}',
        '\u{ac00}'..='\u{d7a3}',
    ];
    (('!'..='~').chain(['\t'])).chain(others.into_iter().flatten())
}

/// Makes up words, each of which can be put together from shorter ones.
struct Words {
    key: u64,
    drawn: u64,
    /// Everything that a merge may be made of or lead to.
    known: HashSet<String>,
    /// Those that longer ones are made of.
    parts: Vec<String>,
}

impl Words {
    fn new(key: u64) -> Words {
        let letters = ('a'..='z').map(String::from).chain([SPACE.to_string()]);
        Words { key, drawn: 0, known: HashSet::new(), parts: letters.collect() }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.drawn += 1;
        random::below(self.key, self.drawn, limit as u64) as usize
    }

    /// A word that is not known yet, of two that are. Spaces stand in front only.
    fn next_word(&mut self) -> String {
        loop {
            // Older words, which are shorter, make more than their share of the others; endings are letters and a few pairs.
            // That leaves two ways, on average, of putting a word together: as many as the published vocabulary has.
            let (recent, ending) = (self.below(self.parts.len()) + 1, self.below(self.parts.len().min(ENDINGS)));
            let (left, right) = (self.below(recent), ending);
            let (left, right) = (&self.parts[left], &self.parts[right]);
            let word = format!("{left}{right}");
            let fits = word.chars().count() <= LONGEST && !right.starts_with(SPACE) && word.chars().count() > 1;
            if fits && self.known.insert(word.clone()) {
                self.parts.push(word.clone());
                return word;
            }
        }
    }

    /// Every way of putting a token together from two others, in the order of the tokens: older ones have priority.
    fn merges(&self, tokens: &[String]) -> Strings {
        let mut merges = Strings::default();
        for token in tokens.iter().filter(|token| self.known.contains(*token)) {
            for (at, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(at);
                if self.known.contains(left) && self.known.contains(right) {
                    merges.push(&format!("{left} {right}"));
                }
            }
        }
        merges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_size_has_everything_in_its_place() {
        let made = tokenizer(262_144, 1).unwrap();
        assert_eq!(made.tokens.len(), 262_144);
        let unique: HashSet<&String> = made.tokens.iter().collect();
        assert_eq!(unique.len(), made.tokens.len());
        for (id, text) in [
            (2, "<bos>"),
            (106, "<turn|>"),
            (107, "\n"),
            (108, "\n\n"),
            (212, "</s>"),
            (238, "<0x00>"),
            (493, "<0xFF>"),
            (236_743, "\u{2581}"),
        ] {
            assert_eq!(made.tokens[id], text);
        }
        let count = |kind| made.kinds.iter().filter(|&&k| k == kind).count();
        assert_eq!((count(Kind::Byte), count(Kind::UserDefined), count(Kind::Control)), (256, 7, 13));
        // The published one has 514,906.
        assert!((450_000..580_000).contains(&made.merges.len()), "{}", made.merges.len());
    }

    #[test]
    fn seeds_differ_and_sizes_are_checked() {
        assert_eq!(tokenizer(2000, 1).unwrap().tokens, tokenizer(2000, 1).unwrap().tokens);
        assert_ne!(tokenizer(2000, 1).unwrap().tokens, tokenizer(2000, 2).unwrap().tokens);
        assert!(tokenizer(599, 1).is_err());
    }
}

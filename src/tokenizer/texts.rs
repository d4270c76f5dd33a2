//! Token texts by id, and ids by text: a table of hashes with open addressing, which holds ids alone, since the texts are
//! there already. Std's hashes have a random key, so that no file can make its tokens collide.

use super::vocabulary::Vocabulary;
use crate::gguf::Strings;
use crate::log;
use std::hash::{BuildHasher, RandomState};

/// No token: a vocabulary of that many would take more memory than there is.
const FREE: u32 = u32::MAX;

pub(super) struct Texts {
    texts: Strings,
    /// A power of two of places, at most half of them taken. A text is at its hash or behind, before the next free place.
    places: Vec<u32>,
    hashes: RandomState,
}

impl Texts {
    /// Of equal texts the first counts, and the sink is told.
    pub(super) fn new(vocabulary: &Vocabulary) -> Texts {
        let tokens = &vocabulary.tokens;
        let places = vec![FREE; (2 * tokens.len()).next_power_of_two()];
        let mut new = Texts { texts: tokens.iter().collect(), places, hashes: RandomState::new() };
        let (mut twice, mut n) = (None, 0);
        for (id, text) in (0..).zip(tokens) {
            let place = new.place(text);
            match new.places[place] {
                FREE => new.places[place] = id,
                first => {
                    twice.get_or_insert((first, id));
                    n += 1;
                }
            }
        }
        if let Some((first, second)) = twice {
            log::warn(|| {
                format!("tokenizer: tokens {first} and {second} have the same text ({n} such); the first is used")
            });
        }
        new
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The text of token `id`.
    pub(super) fn get(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)
    }

    /// The id of the token with this text.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        Some(self.places[self.place(text)]).filter(|id| *id != FREE)
    }

    /// Where `text` is, or where it would go.
    fn place(&self, text: &str) -> usize {
        let mask = self.places.len() - 1;
        let mut place = self.hashes.hash_one(text) as usize & mask;
        while self.places[place] != FREE && self.get(self.places[place]) != Some(text) {
            place = (place + 1) & mask;
        }
        place
    }
}

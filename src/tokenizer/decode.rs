//! Ids to text.
//!
//! Byte tokens are the difficulty. A run of them is text only as a whole: when it is not valid UTF-8, each of its bytes
//! becomes U+FFFD, also those that would have made a character on their own. So the run is held back until another
//! token ends it, and a text decoded piece by piece equals the text decoded at once.

use super::{Kind, Tokenizer, vocabulary::byte_of};
use crate::Result;

/// Decodes a text token by token, as it is generated.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    special: bool,
    /// Bytes of the current run of byte tokens.
    run: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the beginning of a text; with `special`, control tokens are shown.
    pub fn new(special: bool) -> Self {
        StreamDecoder { special, run: Vec::new() }
    }

    /// Takes the next token and returns the text that it completes, which may be none.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        let text = tokenizer.piece(id)?;
        match tokenizer.kind(id)? {
            // A hidden token is not there at all: a run of bytes goes on behind it.
            Kind::Control | Kind::Unknown if !self.special => Ok(String::new()),
            Kind::Byte => {
                self.run.extend(byte_of(text));
                Ok(String::new())
            }
            _ => Ok(self.finish() + &text.replace('\u{2581}', " ")),
        }
    }

    /// Ends the text, or pauses it: returns what was held back.
    pub fn finish(&mut self) -> String {
        let n = self.run.len();
        String::from_utf8(std::mem::take(&mut self.run)).unwrap_or_else(|_| "\u{fffd}".repeat(n))
    }
}

impl Tokenizer {
    /// The text of `ids`; with `special`, control tokens are shown too. Nothing is cleaned up: no space is removed.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String> {
        let mut decoder = StreamDecoder::new(special);
        let mut text = String::new();
        for id in ids {
            text += &decoder.push(self, *id)?;
        }
        Ok(text + &decoder.finish())
    }
}

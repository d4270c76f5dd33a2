//! Finds special tokens in text. Everything between them is for the BPE, which never sees a special token: a text that
//! spells one stays text unless the caller asks for parsing.

use super::vocabulary::Kind;
use crate::{Error, Result};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// A stretch of text, as [`Specials::split`] cuts it.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'t> {
    /// Text without special tokens; not empty.
    Text(&'t str),
    /// A special token.
    Token(u32),
}

/// The special tokens of a vocabulary.
pub(super) struct Specials {
    /// User-defined tokens, recognised always.
    always: Matcher,
    /// These, and control and unknown tokens.
    parsed: Matcher,
}

impl Specials {
    /// Collects the special ones among `tokens`: id, text, kind. Of equal texts the first counts.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (u32, &'a str, Kind)>) -> Result<Self> {
        let special = |kind| matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined);
        let all: Vec<_> = tokens.filter(|(_, text, kind)| special(*kind) && !text.is_empty()).collect();
        Ok(Specials {
            always: Matcher::new(all.iter().filter(|token| token.2 == Kind::UserDefined))?,
            parsed: Matcher::new(all.iter())?,
        })
    }

    /// Cuts `text`, from left to right; where several tokens begin, the longest counts.
    pub(super) fn split<'t>(&self, text: &'t str, parse_special: bool) -> Vec<Part<'t>> {
        let matcher = if parse_special { &self.parsed } else { &self.always };
        let (mut parts, mut end) = (Vec::new(), 0);
        for found in matcher.automaton.find_iter(text) {
            parts.push(Part::Text(&text[end..found.start()]));
            parts.push(Part::Token(matcher.ids[found.pattern().as_usize()]));
            end = found.end();
        }
        parts.push(Part::Text(&text[end..]));
        parts.retain(|part| *part != Part::Text(""));
        parts
    }
}

/// Finds any of a set of texts in linear time.
struct Matcher {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Matcher {
    fn new<'a>(tokens: impl Iterator<Item = &'a (u32, &'a str, Kind)> + Clone) -> Result<Self> {
        // Of few tokens the crate would make a DFA, which takes up to a kilobyte for each byte of them.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(tokens.clone().map(|token| token.1))
            .map_err(|e| Error::Tokenizer(format!("special tokens: {e}")))?;
        Ok(Matcher { automaton, ids: tokens.map(|token| token.0).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_first_and_user_defined_always() {
        let tokens = [(7, "<a>", Kind::Control), (8, "<a><b>", Kind::UserDefined), (9, "x", Kind::Normal)];
        let specials = Specials::new(tokens.into_iter()).unwrap();
        let parts = |text, parse| specials.split(text, parse);
        assert_eq!(parts("x<a><b>y<a>", true), [Part::Text("x"), Part::Token(8), Part::Text("y"), Part::Token(7)]);
        assert_eq!(parts("x<a><b>y<a>", false), [Part::Text("x"), Part::Token(8), Part::Text("y<a>")]);
        assert_eq!(parts("", true), []);
        assert_eq!(parts("<a>", false), [Part::Text("<a>")]);
    }
}

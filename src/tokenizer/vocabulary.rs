//! The tokens of a file, as read: nothing here is trusted yet, [`Tokenizer::new`](super::Tokenizer::new) checks it.

/// What a token is, as `tokenizer.ggml.token_type` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A piece of text.
    Normal = 1,
    /// Stands for what the vocabulary cannot express.
    Unknown = 2,
    /// Structure, not text: `<bos>`, `<|turn>` ... Text can only name it on request, and it decodes to nothing.
    Control = 3,
    /// Structure that is always recognised in text and always shown: `<|channel>`, `<|tool_call>` ...
    UserDefined = 4,
    /// A free slot.
    Unused = 5,
    /// One byte of UTF-8, spelled `<0x00>` ... `<0xFF>`.
    Byte = 6,
}

impl Kind {
    /// The kind with this number in a file. Zero means "undefined" there and counts as normal.
    pub fn from_code(code: i64) -> Option<Kind> {
        Some(match code {
            0 | 1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

/// Everything a [`Tokenizer`](super::Tokenizer) is made from. The strings are borrowed, usually from a mapped file: a real
/// vocabulary has 262,144 tokens and 514,906 merges, and copying them twice would show in the load time.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary<'a> {
    /// Token texts; the index is the id. Spaces are written U+2581.
    pub tokens: Vec<&'a str>,
    /// One per token.
    pub kinds: Vec<Kind>,
    /// `left right`, in order of rank. The first space after the first byte separates the two.
    pub merges: Vec<&'a str>,
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn, where the file names it.
    pub eot: Option<u32>,
    /// Ends a message that expects a tool to answer, where the file names it.
    pub eom: Option<u32>,
    /// Stands for what even the byte tokens cannot express.
    pub unk: Option<u32>,
    /// Fills a batch.
    pub pad: Option<u32>,
    /// `<mask>`; this model's sampler has no use for it.
    pub mask: Option<u32>,
    /// Whether a plain prompt begins with `bos`.
    pub add_bos: bool,
}

/// The byte that `text` spells as a byte token, if it is one.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if is_byte { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// The two sides of a merge.
pub(super) fn split_merge(merge: &str) -> Option<(&str, &str)> {
    // From the second byte on: should the left side begin with a real space, it is not the separator.
    let at = 1 + merge.bytes().skip(1).position(|b| b == b' ')?;
    let (left, right) = (&merge[..at], &merge[at + 1..]);
    (!right.is_empty()).then_some((left, right))
}

/// Texts that end an answer in the vocabularies of this family and its relatives, whatever their kind says.
const END_TEXTS: [&str; 8] =
    ["<turn|>", "<|tool_response>", "<end_of_turn>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "</s>"];

/// The ids that end an answer: those that the file names, and those with a well-known text. `find` looks a text up.
pub(super) fn end_of_generation(vocabulary: &Vocabulary, find: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
    let named = [vocabulary.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten();
    // In Gemma 4 `</s>` is the HTML tag for strike-through, a normal token; `<|tool_response>` gives that family away.
    let is_html = find("<|tool_response>").is_some();
    let by_text = END_TEXTS.iter().filter(|text| !(is_html && **text == "</s>")).filter_map(|text| find(text));
    let mut ids: Vec<u32> = named.chain(by_text).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_tokens() {
        assert_eq!(byte_of("<0x00>"), Some(0));
        assert_eq!(byte_of("<0xFf>"), Some(255));
        for text in ["<0x+1>", "<0x1>", "<0x123>", "<0xG0>", "0x41", "<0x41", ""] {
            assert_eq!(byte_of(text), None, "{text}");
        }
    }

    #[test]
    fn merges_keep_newlines_and_tabs() {
        assert_eq!(split_merge("a b"), Some(("a", "b")));
        assert_eq!(split_merge("\n \n\n"), Some(("\n", "\n\n")));
        assert_eq!(split_merge("  \t"), Some((" ", "\t")));
        for merge in ["", "a", " ", "a ", "ab"] {
            assert_eq!(split_merge(merge), None, "{merge:?}");
        }
    }

    /// `</s>` ends an answer, except in a vocabulary where it is HTML.
    #[test]
    fn end_texts() {
        let ids = |tokens: &[&str]| {
            let vocabulary = Vocabulary { eos: Some(0), eot: Some(0), ..Default::default() };
            end_of_generation(&vocabulary, |text| tokens.iter().position(|t| *t == text).map(|at| at as u32))
        };
        assert_eq!(ids(&["<eos>", "</s>", "x"]), [0, 1]);
        assert_eq!(ids(&["<eos>", "</s>", "<|tool_response>", "<turn|>"]), [0, 2, 3]);
    }
}

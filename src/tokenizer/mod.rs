//! Text to token ids and back, and chat messages to text.
//!
//! The vocabulary is a byte-pair encoding over UTF-8 with spaces written U+2581 and byte tokens for what it lacks. The
//! reference is Hugging Face's tokenizer; llama.cpp's agrees with it on the published vocabulary. Two differences are
//! known, and [`Tokenizer::encode`] follows the reference in both as far as a GGUF file lets it:
//!
//! - llama.cpp cuts the text at newlines before it merges and takes a run of newlines that is a token as that token. The
//!   reference does not; it shows only where merges join newlines with other characters.
//! - The reference recognises every *added* token in text, special or not. A GGUF file keeps that mark for control and
//!   user-defined tokens only: `<unused0>`, stored as a normal token, is spelled out.
//!
//! The encoding is our own and not the `tokenizers` crate's, which was nearly all of loading: some 0.3 s and 70 MB more for the
//! published vocabulary (SPEED.md). The crate is what the tests compare with.
//!
//! `vocabulary.rs` is what the file says, `special.rs` cuts special tokens out of a text, `bpe.rs` encodes the rest with
//! `texts.rs` and `merges.rs`, `decode.rs` is the way back, `chat.rs` renders messages, `from_gguf.rs` finds both in a file.

mod bpe;
mod chat;
mod decode;
mod from_gguf;
mod merges;
mod special;
mod texts;
mod vocabulary;

pub use chat::ChatTemplate;
pub use decode::StreamDecoder;
pub use vocabulary::{Kind, Vocabulary};

use crate::{Error, Result, log};
use bpe::Bpe;
use special::{Part, Specials};
use vocabulary::{byte_of, end_of_generation};

/// A vocabulary, ready to encode and decode. Immutable; any number of threads may use it at once.
pub struct Tokenizer {
    bpe: Bpe,
    specials: Specials,
    kinds: Vec<Kind>,
    end_of_generation: Vec<u32>,
    named: Named,
    add_bos: bool,
}

/// The tokens with a role.
#[derive(Clone, Copy)]
struct Named {
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    mask: Option<u32>,
}

impl Tokenizer {
    /// Checks `vocabulary` and builds the tables.
    pub fn new(vocabulary: &Vocabulary) -> Result<Tokenizer> {
        let Vocabulary { tokens, bos, eos, eot, eom, unk, pad, mask, .. } = vocabulary;
        let kinds = check_kinds(vocabulary)?;
        for (role, id) in
            [("bos", bos), ("eos", eos), ("eot", eot), ("eom", eom), ("unknown", unk), ("padding", pad), ("mask", mask)]
        {
            if let Some(id) = id.filter(|id| *id as usize >= tokens.len()) {
                let what = format!("the {role} token is {id}, but there are only {} tokens", tokens.len());
                return Err(Error::Tokenizer(what));
            }
        }
        let bpe = Bpe::new(vocabulary)?;
        let special = tokens.iter().zip(&kinds).enumerate().map(|(id, (text, kind))| (id as u32, *text, *kind));
        if vocabulary.add_bos && bos.is_none() {
            log::warn(|| "tokenizer: the file asks for a first token (add_bos_token) but names none".into());
        }
        Ok(Tokenizer {
            specials: Specials::new(special)?,
            kinds,
            end_of_generation: end_of_generation(vocabulary, |text| bpe.texts.find(text)),
            named: Named { bos: *bos, eos: *eos, unk: *unk, pad: *pad, mask: *mask },
            add_bos: vocabulary.add_bos && bos.is_some(),
            bpe,
        })
    }

    /// The ids of `text`. With `add_bos` they begin with [`bos`](Self::bos), if there is one. With `parse_special`
    /// control tokens spelled in the text become those tokens; without, they stay text, as user input should. A chat
    /// template writes its own `<bos>`: encode what it rendered with `parse_special` and without `add_bos`.
    pub fn encode(&self, text: &str, add_bos: bool, parse_special: bool) -> Result<Vec<u32>> {
        let bos = if add_bos { self.named.bos } else { None };
        let mut ids = Vec::from_iter(bos);
        for part in self.specials.split(text, parse_special) {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => self.bpe.encode(text, &mut ids)?,
            }
        }
        if bos.is_some() && ids.get(1) == bos.as_ref() {
            log::warn(|| "tokenizer: the text already begins with the first token, and now has it twice".into());
        }
        Ok(ids)
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.bpe.texts.len()
    }

    /// The text of a token as the vocabulary spells it: spaces as U+2581, bytes as `<0x41>`.
    pub fn piece(&self, id: u32) -> Result<&str> {
        self.bpe.texts.get(id).ok_or_else(|| self.no_such(id))
    }

    /// What kind of token `id` is.
    pub fn kind(&self, id: u32) -> Result<Kind> {
        self.kinds.get(id as usize).copied().ok_or_else(|| self.no_such(id))
    }

    /// The token with exactly this text, as [`piece`](Self::piece) spells it.
    pub fn find(&self, piece: &str) -> Option<u32> {
        self.bpe.texts.find(piece)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.named.bos
    }

    /// The token that ends a text. Several tokens may end an answer, see [`is_eog`](Self::is_eog).
    pub fn eos(&self) -> Option<u32> {
        self.named.eos
    }

    /// The token that stands for what the vocabulary cannot express.
    pub fn unk(&self) -> Option<u32> {
        self.named.unk
    }

    /// The token that fills a batch.
    pub fn pad(&self) -> Option<u32> {
        self.named.pad
    }

    /// The `<mask>` token, if the vocabulary has one.
    pub fn mask(&self) -> Option<u32> {
        self.named.mask
    }

    /// Whether the file wants a plain prompt to begin with [`bos`](Self::bos).
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether `id` ends an answer.
    pub fn is_eog(&self, id: u32) -> bool {
        self.end_of_generation.contains(&id)
    }

    /// The ids that end an answer, ascending.
    pub fn eog(&self) -> &[u32] {
        &self.end_of_generation
    }

    fn no_such(&self, id: u32) -> Error {
        Error::argument("token", format!("{id} is not one of the {} tokens", self.vocab_size()))
    }
}

/// One kind per token; byte tokens are recognised by their text, as the reference does.
fn check_kinds(vocabulary: &Vocabulary) -> Result<Vec<Kind>> {
    let Vocabulary { tokens, kinds, .. } = vocabulary;
    if tokens.is_empty() {
        return Err(Error::Tokenizer("the vocabulary is empty".into()));
    }
    if tokens.len() != kinds.len() {
        return Err(Error::Tokenizer(format!("{} tokens, but {} token types", tokens.len(), kinds.len())));
    }
    let checked = tokens.iter().zip(kinds).enumerate().map(|(id, (text, kind))| match (kind, byte_of(text)) {
        (Kind::Normal | Kind::Unused | Kind::Byte, Some(_)) => Ok(Kind::Byte),
        (Kind::Byte, None) => Err(Error::Tokenizer(format!("token {id} is a byte token, but spells {text:?}"))),
        (kind, _) => Ok(*kind),
    });
    checked.collect()
}

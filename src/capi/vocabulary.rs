//! Text to token ids and back, and what single tokens are.

use super::buffer::{give, give_text, output, slice, text};
use super::guard::guard;
use super::model::{dgemma_model, model_of};
use super::status::dgemma_status;
use crate::error::{Error, Result};
use crate::tokenizer::{Kind, Tokenizer};
use std::ffi::{c_char, c_int};

/// dgemma_model_tokenize(): put the token that begins a text in front. A rendered chat has its own.
pub const DGEMMA_TOKENIZE_ADD_BOS: u32 = 1;
/// dgemma_model_tokenize(): control tokens spelled in the text, e.g. "<|turn>", become those tokens. For rendered chats and
/// texts of your own; user input should stay text.
pub const DGEMMA_TOKENIZE_PARSE_SPECIAL: u32 = 2;
/// dgemma_model_detokenize(), dgemma_detokenizer_create(): show control tokens, which else are left out.
pub const DGEMMA_DETOKENIZE_SPECIAL: u32 = 1;

/// dgemma_token_attributes(): a piece of text.
pub const DGEMMA_TOKEN_NORMAL: u32 = 1;
/// dgemma_token_attributes(): stands for what the vocabulary cannot express.
pub const DGEMMA_TOKEN_UNKNOWN: u32 = 2;
/// dgemma_token_attributes(): structure, not text; decodes to nothing.
pub const DGEMMA_TOKEN_CONTROL: u32 = 4;
/// dgemma_token_attributes(): structure that is always recognised in text and always shown.
pub const DGEMMA_TOKEN_USER_DEFINED: u32 = 8;
/// dgemma_token_attributes(): a free slot.
pub const DGEMMA_TOKEN_UNUSED: u32 = 16;
/// dgemma_token_attributes(): one byte of UTF-8.
pub const DGEMMA_TOKEN_BYTE: u32 = 32;
/// dgemma_token_attributes(): ends an answer.
pub const DGEMMA_TOKEN_END: u32 = 64;

/// dgemma_model_special_token(): begins a text.
pub const DGEMMA_SPECIAL_BOS: u32 = 0;
/// dgemma_model_special_token(): ends a text. Others may end an answer too: see dgemma_token_is_end().
pub const DGEMMA_SPECIAL_EOS: u32 = 1;
/// dgemma_model_special_token(): stands for what the vocabulary cannot express.
pub const DGEMMA_SPECIAL_UNKNOWN: u32 = 2;
/// dgemma_model_special_token(): fills a batch.
pub const DGEMMA_SPECIAL_PADDING: u32 = 3;
/// dgemma_model_special_token(): `<mask>`; this model's sampler has no use for it.
pub const DGEMMA_SPECIAL_MASK: u32 = 4;

/// Refuses flags that do not exist.
pub(super) fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 {
        return Ok(());
    }
    Err(Error::argument("flags", format!("have unknown bits {:#x}, expected some of {known:#x}", flags & !known)))
}

/// Refuses ids that the vocabulary does not have.
pub(super) fn check_ids(ids: &[u32], tokenizer: &Tokenizer) -> Result<()> {
    let size = tokenizer.vocab_size();
    match ids.iter().find(|&&id| id as usize >= size) {
        None => Ok(()),
        Some(bad) => Err(Error::argument("tokens", format!("contain id {bad}, expected ids below {size}"))),
    }
}

/// # Safety
/// `model` is NULL or live as long as the caller uses the result.
unsafe fn tokenizer<'a>(model: *const dgemma_model) -> Result<&'a Tokenizer> {
    // SAFETY: the caller's promise.
    Ok(unsafe { model_of(model)? }.tokenizer())
}

/// Encodes a text.
///
/// `model`: not NULL. `text`: `text_len` bytes of UTF-8; NULL is fine when there are none. `flags`: DGEMMA_TOKENIZE_*
/// values added up, or 0. `tokens`, `cap`, `len`: see "Buffers" above; text_len + 2 entries are always enough.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _TOKENIZER or _BUFFER_TOO_SMALL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_tokenize(
    model: *const dgemma_model,
    text: *const c_char,
    text_len: usize,
    flags: u32,
    tokens: *mut u32,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        check_flags(flags, DGEMMA_TOKENIZE_ADD_BOS | DGEMMA_TOKENIZE_PARSE_SPECIAL)?;
        // SAFETY: the caller's promise.
        let (tokenizer, text) = unsafe { (tokenizer(model)?, self::text(text, text_len, "text")?) };
        let (bos, special) = (flags & DGEMMA_TOKENIZE_ADD_BOS != 0, flags & DGEMMA_TOKENIZE_PARSE_SPECIAL != 0);
        let ids = tokenizer.encode(text, bos, special)?;
        // SAFETY: the caller's promise.
        unsafe { give(&ids, (tokens, "tokens"), cap, len) }
    })
}

/// Decodes tokens to text. Pieces that are no valid UTF-8 become U+FFFD; see dgemma_detokenizer for text that arrives bit
/// by bit.
///
/// `model`: not NULL. `tokens`: `n_tokens` ids; NULL is fine when there are none. `flags`: DGEMMA_DETOKENIZE_SPECIAL or 0.
/// `buffer`, `cap`, `len`: see "Buffers" above.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT (an id not below vocab_size, too) or _BUFFER_TOO_SMALL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_detokenize(
    model: *const dgemma_model,
    tokens: *const u32,
    n_tokens: usize,
    flags: u32,
    buffer: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        check_flags(flags, DGEMMA_DETOKENIZE_SPECIAL)?;
        // SAFETY: the caller's promise.
        let (tokenizer, ids) = unsafe { (tokenizer(model)?, slice(tokens, n_tokens, "tokens")?) };
        check_ids(ids, tokenizer)?;
        let text = tokenizer.decode(ids, flags & DGEMMA_DETOKENIZE_SPECIAL != 0)?;
        // SAFETY: the caller's promise.
        unsafe { give_text(&text, buffer, cap, len) }
    })
}

/// The text of one token as the vocabulary spells it: spaces as U+2581, bytes as "<0x41>".
///
/// `model`: not NULL. `token`: below vocab_size. `buffer`, `cap`, `len`: see "Buffers" above.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUFFER_TOO_SMALL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_token_piece(
    model: *const dgemma_model,
    token: u32,
    buffer: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { give_text(tokenizer(model)?.piece(token)?, buffer, cap, len) })
}

/// What a token is: one of DGEMMA_TOKEN_NORMAL to DGEMMA_TOKEN_BYTE, plus DGEMMA_TOKEN_END if it ends an answer.
///
/// `model`: not NULL. `token`: below vocab_size. `out`: not NULL. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_token_attributes(
    model: *const dgemma_model,
    token: u32,
    out: *mut u32,
) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let tokenizer = unsafe { tokenizer(model)? };
        let kind = match tokenizer.kind(token)? {
            Kind::Normal => DGEMMA_TOKEN_NORMAL,
            Kind::Unknown => DGEMMA_TOKEN_UNKNOWN,
            Kind::Control => DGEMMA_TOKEN_CONTROL,
            Kind::UserDefined => DGEMMA_TOKEN_USER_DEFINED,
            Kind::Unused => DGEMMA_TOKEN_UNUSED,
            Kind::Byte => DGEMMA_TOKEN_BYTE,
        };
        let end = if tokenizer.is_eog(token) { DGEMMA_TOKEN_END } else { 0 };
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(kind | end) };
        Ok(())
    })
}

/// 1 if the token ends an answer; 0 if not, if there is no such token, and for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_token_is_end(model: *const dgemma_model, token: u32) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { tokenizer(model) }.is_ok_and(|tokenizer| tokenizer.is_eog(token)).into()
}

/// The token with exactly this text, spelled as dgemma_token_piece() spells it.
///
/// `model`: not NULL. `piece`: `piece_len` bytes of UTF-8. `out`: receives the id; not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT or _NOT_FOUND. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_token_find(
    model: *const dgemma_model,
    piece: *const c_char,
    piece_len: usize,
    out: *mut u32,
) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let (tokenizer, piece) = unsafe { (tokenizer(model)?, text(piece, piece_len, "piece")?) };
        let id = tokenizer.find(piece).ok_or_else(|| Error::NotFound(format!("token {piece:?}")))?;
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(id) };
        Ok(())
    })
}

/// The token with a role.
///
/// `model`: not NULL. `role`: a DGEMMA_SPECIAL_* value. `out`: receives the id; not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT or _NOT_FOUND (the vocabulary has none). Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_special_token(
    model: *const dgemma_model,
    role: u32,
    out: *mut u32,
) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let tokenizer = unsafe { tokenizer(model)? };
        let id = match role {
            DGEMMA_SPECIAL_BOS => tokenizer.bos(),
            DGEMMA_SPECIAL_EOS => tokenizer.eos(),
            DGEMMA_SPECIAL_UNKNOWN => tokenizer.unk(),
            DGEMMA_SPECIAL_PADDING => tokenizer.pad(),
            DGEMMA_SPECIAL_MASK => tokenizer.mask(),
            _ => return Err(Error::argument("role", format!("is {role}, expected a DGEMMA_SPECIAL_* value"))),
        };
        let id = id.ok_or_else(|| Error::NotFound(format!("a token with role {role}")))?;
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(id) };
        Ok(())
    })
}

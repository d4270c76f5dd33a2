//! Text from tokens that arrive bit by bit.

use super::buffer::{give_text, output, required, slice};
use super::guard::guard;
use super::model::{dgemma_model, model_of};
use super::status::dgemma_status;
use super::vocabulary::{DGEMMA_DETOKENIZE_SPECIAL, check_flags, check_ids};
use crate::engine::Model;
use crate::error::{Error, Result};
use crate::tokenizer::StreamDecoder;
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Decodes a text token by token: what it gives back is complete characters, and together the text of all tokens at once.
/// It keeps the model it was made from alive.
pub struct dgemma_detokenizer {
    model: Model,
    decoder: Mutex<StreamDecoder>,
}

/// # Safety
/// `detokenizer` is NULL or live as long as the caller uses the result.
pub(super) unsafe fn lock<'a>(
    detokenizer: *const dgemma_detokenizer,
) -> Result<(&'a Model, MutexGuard<'a, StreamDecoder>)> {
    // SAFETY: the caller's promise.
    let detokenizer = unsafe { required(detokenizer, "detokenizer")? };
    match detokenizer.decoder.try_lock() {
        Ok(decoder) => Ok((&detokenizer.model, decoder)),
        Err(TryLockError::WouldBlock) => Err(Error::Busy("the detokenizer")),
        Err(TryLockError::Poisoned(_)) => Err(Error::Internal("the detokenizer failed before; free it".into())),
    }
}

/// Makes a detokenizer at the beginning of a text.
///
/// `model`: not NULL. `flags`: DGEMMA_DETOKENIZE_SPECIAL or 0. `out`: receives it, to be freed with
/// dgemma_detokenizer_free(); not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_detokenizer_create(
    model: *const dgemma_model,
    flags: u32,
    out: *mut *mut dgemma_detokenizer,
) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        check_flags(flags, DGEMMA_DETOKENIZE_SPECIAL)?;
        // SAFETY: the caller's promise.
        let model = unsafe { model_of(model)? }.clone();
        let decoder = Mutex::new(StreamDecoder::new(flags & DGEMMA_DETOKENIZE_SPECIAL != 0));
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(Box::into_raw(Box::new(dgemma_detokenizer { model, decoder }))) };
        Ok(())
    })
}

/// Takes the next tokens and gives the text that they complete, which may be none.
///
/// `detokenizer`: not NULL. `tokens`: `n_tokens` ids; NULL is fine when there are none. `buffer`, `cap`, `len`: see
/// "Buffers" above; a call that fails, also with DGEMMA_STATUS_BUFFER_TOO_SMALL, has taken none of the tokens.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _BUFFER_TOO_SMALL or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_detokenizer_push(
    detokenizer: *mut dgemma_detokenizer,
    tokens: *const u32,
    n_tokens: usize,
    buffer: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let ((model, mut decoder), ids) = unsafe { (lock(detokenizer)?, slice(tokens, n_tokens, "tokens")?) };
        check_ids(ids, model.tokenizer())?;
        let mut next = decoder.clone();
        let mut text = String::new();
        for &id in ids {
            text += &next.push(model.tokenizer(), id)?;
        }
        // SAFETY: the caller's promise.
        unsafe { give_text(&text, buffer, cap, len)? };
        *decoder = next;
        Ok(())
    })
}

/// Ends the text: gives what was held back, and is at the beginning of a new text then.
///
/// `detokenizer`: not NULL. `buffer`, `cap`, `len`: see "Buffers" above; a call that fails changes nothing.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _BUFFER_TOO_SMALL or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_detokenizer_finish(
    detokenizer: *mut dgemma_detokenizer,
    buffer: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (_, mut decoder) = unsafe { lock(detokenizer)? };
        let mut next = decoder.clone();
        // SAFETY: the caller's promise.
        unsafe { give_text(&next.finish(), buffer, cap, len)? };
        *decoder = next;
        Ok(())
    })
}

/// Frees a detokenizer; NULL is fine. No other call may be using it. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_detokenizer_free(detokenizer: *mut dgemma_detokenizer) {
    guard(|| {
        if !detokenizer.is_null() {
            // SAFETY: made by Box::into_raw in dgemma_detokenizer_create, and not freed yet by the caller's promise.
            drop(unsafe { Box::from_raw(detokenizer) });
        }
        Ok(())
    });
}

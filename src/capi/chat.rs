//! Conversations to prompts.

use super::buffer::{give_text, utf8};
use super::guard::guard;
use super::model::{dgemma_model, model_of};
use super::status::dgemma_status;
use super::vocabulary::check_flags;
use crate::error::{Error, Result};
use std::ffi::c_char;

/// dgemma_chat_render(): end where the model's answer begins.
pub const DGEMMA_CHAT_ADD_GENERATION_PROMPT: u32 = 1;

/// Renders a conversation through the model's chat template. Tokenize the result with DGEMMA_TOKENIZE_PARSE_SPECIAL and
/// without DGEMMA_TOKENIZE_ADD_BOS: the template writes the beginning itself.
///
/// `model`: not NULL. `messages`: a JSON list as templates in the Hugging Face form expect it, e.g.
/// [{"role": "user", "content": "Hello"}]; UTF-8, not NULL. `tools`: a JSON list of function schemas, or NULL. `flags`:
/// DGEMMA_CHAT_ADD_GENERATION_PROMPT or 0. `buffer`, `cap`, `len`: see "Buffers" above.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT (no JSON, no list), _TEMPLATE (broken, or refuses the messages) or
/// _BUFFER_TOO_SMALL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_chat_render(
    model: *const dgemma_model,
    messages: *const c_char,
    tools: *const c_char,
    flags: u32,
    buffer: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        check_flags(flags, DGEMMA_CHAT_ADD_GENERATION_PROMPT)?;
        // SAFETY: the caller's promise.
        let (model, messages) = unsafe { (model_of(model)?, list(messages, "messages")?) };
        // SAFETY: the caller's promise.
        let tools = if tools.is_null() { None } else { Some(unsafe { list(tools, "tools")? }) };
        let open = flags & DGEMMA_CHAT_ADD_GENERATION_PROMPT != 0;
        let text = model.chat_template()?.render(&messages, tools.as_ref(), open)?;
        // SAFETY: the caller's promise.
        unsafe { give_text(&text, buffer, cap, len) }
    })
}

/// # Safety
/// As [`utf8`].
unsafe fn list(json: *const c_char, name: &'static str) -> Result<serde_json::Value> {
    // SAFETY: the caller's promise.
    let text = unsafe { utf8(json, name)? };
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| Error::argument(name, format!("is no JSON: {e}")))?;
    if value.is_array() { Ok(value) } else { Err(Error::argument(name, "is no JSON list")) }
}

//! The model object.

use super::guard::guard;
use super::params::{dgemma_model_params, model_params};
use super::status::dgemma_status;
use crate::engine::Model;
use crate::error::{Error, Result};
use std::ffi::{CStr, c_char};

/// A loaded model. Immutable: any number of threads may use it at once, until one of them frees it.
pub struct dgemma_model(pub(super) Model);

/// A C string that must be there and be UTF-8.
///
/// # Safety
/// `text` is NULL or NUL-terminated, and lives for the call.
pub(super) unsafe fn utf8<'a>(text: *const c_char, name: &'static str) -> Result<&'a str> {
    if text.is_null() {
        return Err(Error::argument(name, "is NULL"));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|e| Error::argument(name, format!("is not UTF-8: {e}")))
}

/// The library's version, e.g. "0.1.0". Static; do not free it. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Loads a GGUF file: maps it, checks it, binds its weights. The file must not change while the model lives.
///
/// `path`: UTF-8, the file or the first part of a split set; not NULL. `params`: from dgemma_model_params_init(), or NULL
/// for the defaults. `out`: receives the model, to be freed with dgemma_model_free(); not NULL, untouched on failure.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _IO (missing or unreadable), _BAD_FILE (damaged or another architecture),
/// _TOKENIZER (unusable vocabulary) or _OUT_OF_MEMORY. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_load(
    path: *const c_char,
    params: *const dgemma_model_params,
    out: *mut *mut dgemma_model,
) -> dgemma_status {
    guard(|| {
        if out.is_null() {
            return Err(Error::argument("out", "is NULL"));
        }
        // SAFETY: the caller's promise.
        let (path, params) = unsafe { (utf8(path, "path")?, model_params(params)?) };
        let model = Box::new(dgemma_model(Model::load(path.as_ref(), &params)?));
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(Box::into_raw(model)) };
        Ok(())
    })
}

/// Frees a model; NULL is fine. No other call may be using it. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_free(model: *mut dgemma_model) {
    guard(|| {
        if !model.is_null() {
            // SAFETY: made by Box::into_raw in dgemma_model_load, and not freed yet by the caller's promise.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

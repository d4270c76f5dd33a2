//! Contexts copied, saved and loaded, and what memory things take.

use super::buffer::{check_buffer, output, slice, utf8};
use super::context::{boxed, dgemma_context, shared};
use super::guard::guard;
use super::model::{dgemma_model, model_of};
use super::sized::{self, Growable};
use super::status::dgemma_status;
use crate::error::{Error, Result};
use std::ffi::c_char;

/// Copies a context: its sequence, what is encoded of it, its sizes and seed. The copy goes its own way: it has its own
/// cancellers and counters, and blocks of the original stay with the original. The cheap way to try several continuations.
///
/// `context`: not NULL. `out`: receives the copy, to be freed with dgemma_context_free(); not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _OUT_OF_MEMORY or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_clone(
    context: *const dgemma_context,
    out: *mut *mut dgemma_context,
) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let shared = unsafe { shared(context)? };
        let copy = shared.run(|context| context.try_clone())?;
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(boxed(copy, shared.seed)) };
        Ok(())
    })
}

/// Saves a context into memory: its sequence and what is encoded of it, with a version, the model's fingerprint and a
/// checksum. Seed, counters and blocks under way are not part of it. dgemma_context_load() takes it back, in this process or
/// another, without encoding anything again.
///
/// `context`: not NULL. `buffer`, `cap`, `len`: see "Buffers" above, in bytes; no NUL is added.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _BUFFER_TOO_SMALL or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_save(
    context: *const dgemma_context,
    buffer: *mut u8,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        check_buffer(buffer, "buffer", cap)?;
        // SAFETY: the caller's promise.
        unsafe { shared(context)? }.run(|context| {
            let needed = context.saved_bytes() as usize;
            if !len.is_null() {
                // SAFETY: not NULL, and writable by the caller's promise.
                unsafe { len.write(needed) };
            }
            if needed > cap {
                return Err(Error::BufferTooSmall { needed, cap });
            }
            // SAFETY: room for `cap` bytes by the caller's promise, and `needed`, more than 0, are no more. Zeroed, because a
            // slice's bytes must be set and the program's may not be.
            let mut room = unsafe {
                buffer.write_bytes(0, needed);
                std::slice::from_raw_parts_mut(buffer, needed)
            };
            context.save(&mut room).map(|_| ())
        })
    })
}

/// Takes over what dgemma_context_save() wrote: the context's sequence becomes the saved one, encoded as it was. The context
/// may have another size, chunk and seed than the saved one, but needs the same model and the same kv_type.
///
/// `context`: not NULL. `bytes`: `n_bytes` bytes, not NULL. Bytes from elsewhere do no harm: everything is checked
/// before anything is taken over. (The checksum notices accidents; it is no signature.)
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT (not a saved context, of another version, damaged, of another model, of another
/// kv_type), _CONTEXT_FULL (more tokens than the context holds) or _BUSY; nothing was changed then. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_load(
    context: *mut dgemma_context,
    bytes: *const u8,
    n_bytes: usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (shared, bytes) = unsafe { (shared(context)?, slice(bytes, n_bytes, "bytes")?) };
        shared.run(|context| context.load(bytes))
    })
}

/// dgemma_context_save() into a file, which appears when it is complete; an older one of that name is replaced.
///
/// `context`: not NULL. `path`: UTF-8, not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _IO (the system refuses: no such folder, no right, disk full; an older file is
/// as it was) or _BUSY. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_save_file(
    context: *const dgemma_context,
    path: *const c_char,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (shared, path) = unsafe { (shared(context)?, utf8(path, "path")?) };
        shared.run(|context| context.save_file(path.as_ref()).map(|_| ()))
    })
}

/// dgemma_context_load() from a file.
///
/// `context`: not NULL. `path`: UTF-8, not NULL.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _IO (missing, not readable), _BAD_FILE (what dgemma_context_load() refuses in
/// bytes), _CONTEXT_FULL or _BUSY; nothing was changed then. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_load_file(context: *mut dgemma_context, path: *const c_char) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (shared, path) = unsafe { (shared(context)?, utf8(path, "path")?) };
        shared.run(|context| context.load_file(path.as_ref()))
    })
}

/// Where memory is, in bytes. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_memory {
    /// sizeof(dgemma_memory) in the calling program.
    pub struct_size: usize,
    /// The model's files, mapped (the system holds what is in use, once for all processes) or read. Shared by all contexts
    /// of the model.
    pub weight_bytes: u64,
    /// Cached keys and values at their full size; the system hands out the pages as they are filled. 0 for a model.
    pub kv_bytes: u64,
    /// Activations; a step needs some more for its time. 0 for a model.
    pub activation_bytes: u64,
}

// SAFETY: repr(C), integers only, the size first.
unsafe impl Growable for dgemma_memory {
    const LEAST: usize = 32;
}

/// # Safety
/// `out` is NULL or a struct whose size field is true.
unsafe fn report(out: *mut dgemma_memory, weight_bytes: u64, kv_bytes: u64, activation_bytes: u64) -> Result<()> {
    let memory = dgemma_memory { struct_size: size_of::<dgemma_memory>(), weight_bytes, kv_bytes, activation_bytes };
    // SAFETY: the caller's promise.
    unsafe { sized::report(out, &memory) }
}

/// Reports what memory a model takes; its contexts add theirs.
///
/// `model`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_memory(model: *const dgemma_model, out: *mut dgemma_memory) -> dgemma_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { report(out, model_of(model)?.sizes().file_bytes, 0, 0) })
}

/// Reports what memory a context takes; a fresh one answers what its full size will take.
///
/// `context`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUSY. Threads: one at
/// a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_context_memory(
    context: *const dgemma_context,
    out: *mut dgemma_memory,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let memory = unsafe { shared(context)? }.run(|context| Ok(context.memory()))?;
        // SAFETY: the caller's promise.
        unsafe { report(out, memory.weights, memory.kv, memory.activations) }
    })
}

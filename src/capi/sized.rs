//! Structs that may grow. Each begins with its size as the *program* knows it; the library knows its own.
//!
//! ```text
//!                         program older             program newer
//! options (program fills) rest: the defaults        rest must be zero ("as before"), else refused
//! reports (library fills) cut to the program's size rest: zero
//! ```

use crate::error::{Error, Result};

/// No struct will ever be that long: a larger size is garbage, and is not followed into memory.
const LONGEST: usize = 4096;

/// A C struct whose first field is `struct_size: usize`, made of integers, floats and pointers only, so that all zero
/// bytes are a value of it.
///
/// # Safety
/// The implementor is `repr(C)`, begins with `struct_size: usize`, and any bytes are a value of it.
pub(super) unsafe trait Growable: Copy {
    /// Its size in the release that introduced it.
    const LEAST: usize;
}

fn check<T: Growable>(struct_size: usize) -> Result<()> {
    let fits = struct_size >= T::LEAST && struct_size <= LONGEST && struct_size.is_multiple_of(align_of::<T>());
    if fits {
        return Ok(());
    }
    let (least, own) = (T::LEAST, size_of::<T>());
    let what = format!("is {struct_size}, expected {least} or more (here {own}): set it by the struct's init function");
    Err(Error::argument("struct_size", what))
}

/// Writes `defaults` as far as `struct_size` reaches, zeros behind what this library knows, and the size.
///
/// # Safety
/// `params` is NULL or points to `struct_size` writable bytes.
pub(super) unsafe fn init<T: Growable>(params: *mut T, struct_size: usize, defaults: &T) -> Result<()> {
    if params.is_null() {
        return Err(Error::argument("params", "is NULL"));
    }
    check::<T>(struct_size)?;
    // SAFETY: as long as struct_size by the caller's promise.
    unsafe { fill(params, struct_size, defaults) };
    Ok(())
}

/// The program's options over the defaults; the defaults for NULL.
///
/// # Safety
/// `params` is NULL or points to a struct whose first field states its readable bytes.
pub(super) unsafe fn read<T: Growable>(params: *const T, defaults: &T) -> Result<T> {
    let mut own = *defaults;
    if params.is_null() {
        return Ok(own);
    }
    // SAFETY: the first field is readable by the caller's promise.
    let size = unsafe { params.cast::<usize>().read_unaligned() };
    check::<T>(size)?;
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are readable by the caller's promise and fit `own`, of which any bytes are a value.
    unsafe { std::ptr::copy_nonoverlapping(params.cast::<u8>(), (&raw mut own).cast::<u8>(), known) };
    // SAFETY: `size` bytes are readable by the caller's promise.
    let unknown = unsafe { std::slice::from_raw_parts(params.cast::<u8>().add(known), size - known) };
    if let Some(at) = unknown.iter().position(|&b| b != 0) {
        let what = format!("has a field at byte {} that this library does not know; expected zero there", known + at);
        return Err(Error::argument("params", what));
    }
    Ok(own)
}

/// Writes a report as far as the program's struct reaches; its `struct_size` field stays what the program wrote.
///
/// # Safety
/// `out` is NULL or points to a struct whose first field states its writable bytes.
pub(super) unsafe fn report<T: Growable>(out: *mut T, value: &T) -> Result<()> {
    // SAFETY: the caller's promise.
    let size = unsafe { report_size(out)? };
    // SAFETY: as long as `size` by the caller's promise.
    unsafe { fill(out, size, value) };
    Ok(())
}

/// Checks the struct that a report is to go into, before the work is done.
///
/// # Safety
/// As [`report`].
pub(super) unsafe fn report_size<T: Growable>(out: *mut T) -> Result<usize> {
    if out.is_null() {
        return Err(Error::argument("out", "is NULL"));
    }
    // SAFETY: the first field is readable by the caller's promise.
    let size = unsafe { out.cast::<usize>().read_unaligned() };
    check::<T>(size)?;
    Ok(size)
}

/// # Safety
/// `to` points to `size` writable bytes, at least one `usize`.
unsafe fn fill<T: Growable>(to: *mut T, size: usize, from: &T) {
    let known = size.min(size_of::<T>());
    let bytes = to.cast::<u8>();
    // SAFETY: `size` bytes are writable by the caller's promise, and `known` does not exceed `from`.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const *from).cast::<u8>(), bytes, known);
        bytes.add(known).write_bytes(0, size - known);
        to.cast::<usize>().write_unaligned(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Options {
        struct_size: usize,
        old: u64,
        new: u64,
    }
    // SAFETY: repr(C), integers only, the size first.
    unsafe impl Growable for Options {
        const LEAST: usize = 16;
    }
    const DEFAULTS: Options = Options { struct_size: 24, old: 1, new: 2 };

    fn read_as(memory: &[u64; 4]) -> Result<Options> {
        // SAFETY: 32 bytes are readable.
        unsafe { read(memory.as_ptr().cast::<Options>(), &DEFAULTS) }
    }

    #[test]
    fn an_older_program_gets_the_defaults_of_what_it_does_not_know() {
        let options = read_as(&[16, 7, 99, 99]).unwrap();
        assert_eq!((options.old, options.new), (7, 2));
        let mut memory = [16u64, 0, 99, 99];
        // SAFETY: 16 bytes are writable.
        unsafe { init(memory.as_mut_ptr().cast::<Options>(), 16, &DEFAULTS).unwrap() };
        assert_eq!(memory, [16, 1, 99, 99]);
    }

    #[test]
    fn a_newer_program_must_leave_zero_what_this_library_does_not_know() {
        let mut memory = [32u64, 0, 99, 99];
        // SAFETY: 32 bytes are writable.
        unsafe { init(memory.as_mut_ptr().cast::<Options>(), 32, &DEFAULTS).unwrap() };
        assert_eq!(memory, [32, 1, 2, 0]);
        assert_eq!(read_as(&memory).unwrap().new, 2);
        memory[3] = 1 << 40;
        let refused = "argument `params`: has a field at byte 29 that this library does not know; expected zero there";
        assert_eq!(read_as(&memory).err().unwrap().to_string(), refused);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for size in [0, 8, 17, 1 << 20, u64::MAX] {
            let text = read_as(&[size, 0, 0, 0]).err().unwrap().to_string();
            assert!(text.starts_with(&format!("argument `struct_size`: is {size}, expected 16 or more")), "{text}");
        }
    }
}

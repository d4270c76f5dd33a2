//! The model that is part of the program: a tiny trained one, so that everything can be tried without a download.

/// The name that messages show.
#[cfg(has_built_in_model)]
pub const NAME: &str = "built-in dgemma-tiny.gguf";

/// Tensors lie at multiples of 32 in the file; so they do in memory.
#[cfg(has_built_in_model)]
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

#[cfg(has_built_in_model)]
static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../tiny/dgemma-tiny.gguf"));

/// The file, unless the program was built without it.
pub fn file() -> Option<(&'static str, &'static [u8])> {
    #[cfg(has_built_in_model)]
    return Some((NAME, &FILE.0));
    #[cfg(not(has_built_in_model))]
    None
}

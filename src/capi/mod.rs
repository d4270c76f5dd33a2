//! The C API: the only `extern "C"` of the library. `include/dgemma.h` is generated from this module, so the comments on
//! its items are the manual that C readers get.
//!
//! Rules, kept by every function: a status comes back and outputs are written only on success; NULL is answered, not
//! followed; a panic becomes a status (`guard.rs`); error text waits per thread (`last_error.rs`); structs that may grow
//! travel by pointer with their size (`sized.rs`); results of unknown length fill the caller's
//! buffer (`buffer.rs`); an object that one call at a time may use answers a second one with BUSY (`shared.rs`).

#![allow(non_camel_case_types)] // C names, as they appear in the header
#![allow(clippy::missing_safety_doc)] // the comments are the C manual: they say what each pointer must be

mod block;
mod buffer;
mod canceller;
mod chat;
mod context;
mod detokenizer;
mod generate;
mod guard;
mod keep;
mod last_error;
mod library;
mod log;
mod model;
mod noise;
mod params;
#[cfg(test)]
mod poison;
mod sampler;
mod shared;
mod sized;
mod status;
mod step;
mod vocabulary;

pub use block::*;
pub use canceller::*;
pub use chat::*;
pub use context::*;
pub use detokenizer::*;
pub use generate::*;
pub use keep::*;
pub use last_error::*;
pub use library::*;
pub use log::*;
pub use model::*;
pub use noise::*;
pub use params::*;
pub use sampler::*;
pub use status::*;
pub use step::*;
pub use vocabulary::*;

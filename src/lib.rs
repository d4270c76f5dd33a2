//! libdgemma: DiffusionGemma from GGUF files, behind a C API.
//!
//! DiffusionGemma denoises a *canvas* of tokens (256 in the 26B model) in parallel: a prompt is encoded causally into
//! per-layer K/V, then every denoising *step* runs the canvas through the same layers, draws a token per position,
//! keeps the positions whose entropies fit a bound, and puts fresh noise into the others, until the canvas is stable.
//!
//! The map, from the bottom up; imports point downwards only:
//!
//! | module | what it knows |
//! |---|---|
//! | [`cpu_level`], [`error`], [`log`] | what the processor can do; one error type; a log sink that the host owns (the library itself never prints) |
//! | [`quant`] | tensor formats, one per file: F32 ... Q4_K |
//! | [`gguf`] | the file: header, metadata, tensor table, mapping, writer |
//! | [`backend`] | what a device can do: one trait, a reference implementation, a fast CPU one, a CUDA one |
//! | [`tokenizer`] | vocabulary, encoding, decoding, chat templates |
//! | [`model`] | shape, weights, and the one forward pass, generic over the backend |
//! | [`sampler`] | logits statistics in, tokens out: schedule, acceptance, stopping, noise |
//! | [`engine`] | a loaded model, its contexts, and the denoising loop |
//! | [`capi`] | the only `extern "C"` |
//!
//! Start reading at [`engine`], then `model/forward.rs`.

pub mod backend;
pub mod capi;
pub mod cpu_level;
pub mod engine;
pub mod error;
pub mod gguf;
pub mod log;
pub mod model;
pub mod pages;
pub mod quant;
pub mod sampler;
pub mod tokenizer;

pub use error::{Error, Result};

//! From a Hugging Face checkpoint of DiffusionGemma to a GGUF file.
//!
//! A directory is read in three independent pieces, [`config`] (the numbers), [`tokenizer`] (the vocabulary) and
//! [`checkpoint`] (the weights, by name). [`names`] says which tensors a file with that configuration has and where they
//! come from ([`inputs`] finds them: they may be quantized, see [`fp8`] and [`nvfp4`]), [`mix`], [`types`] and
//! [`overrides`] in which formats; [`plan`] joins them all, or says what does not fit ([`source`] is what it hands on);
//! [`metadata`] lists the keys. Only when all of that has succeeded does [`convert`] create a file, and [`pipeline`] fills
//! it; [`dry_run`] shows what it would be. [`inspect`] and [`inspect_json`] show what is in one, [`diff`] and [`compare`]
//! what is different between two.
//!
//! [`gguf_input`] reads GGUF files instead of checkpoints. [`synth`] makes models up. [`collect`] runs a model on texts
//! ([`samples`]) to measure an importance matrix ([`imatrix`]); [`quality`] compares a model with itself in several mixes
//! ([`requantize`]).

pub mod checkpoint;
pub mod collect;
pub mod compare;
pub mod config;
pub mod convert;
pub mod diff;
pub mod dry_run;
pub mod e4m3;
pub mod fp8;
pub mod gguf_input;
pub mod imatrix;
pub mod input_file;
pub mod inputs;
pub mod inspect;
pub mod inspect_json;
pub mod json;
pub mod layers;
pub mod listing;
pub mod metadata;
pub mod mix;
pub mod names;
pub mod nvfp4;
pub mod overrides;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod quality;
pub mod random;
pub mod requantize;
pub mod samples;
pub mod scheme;
pub mod shapes;
pub mod source;
pub mod stack;
pub mod synth;
pub mod synth_tokenizer;
pub mod synth_weights;
pub mod tokenizer;
pub mod types;
pub mod vocabulary;

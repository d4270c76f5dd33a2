//! From a Hugging Face checkpoint of DiffusionGemma to a GGUF file.
//!
//! A directory is read in three independent pieces, [`config`] (the numbers), [`tokenizer`] (the vocabulary) and
//! [`checkpoint`] (the weights, by name). [`names`] says which tensors a file with that configuration has and where they
//! come from; [`plan`] joins the two, or says what does not fit ([`source`] is what it hands on); [`metadata`] lists the keys. Only when all of that has
//! succeeded does [`convert`] create a file. [`inspect`] shows what is in one.

pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod inspect;
pub mod json;
pub mod layers;
pub mod metadata;
pub mod names;
pub mod plan;
pub mod source;
pub mod tokenizer;
pub mod vocabulary;

//! The GGUF reader and writer: against each other, against files and readers of other people, against hostile files.

mod hostile;
mod peer;
mod raw;
mod roundtrip;
mod sample;
mod split;

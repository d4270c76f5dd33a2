//! The GGUF reader and writer: against each other, against files and readers of other people, against hostile files.

mod hostile;
#[cfg(target_os = "linux")]
mod pages;
mod peer;
mod raw;
mod roundtrip;
mod sample;
mod split;

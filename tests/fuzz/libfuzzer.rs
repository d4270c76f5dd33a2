//! The program that libFuzzer drives, once for each target: its name says which.
#![no_main]

mod common;
#[allow(dead_code)] // how many changed inputs `cargo test` tries
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    (targets::named(env!("CARGO_BIN_NAME")).run)(data);
});

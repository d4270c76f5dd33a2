//! The targets: one file for each thing that reads what somebody else wrote. Each says what an input is, and what must hold
//! beside that nothing crashes.

mod capi;
mod chat;
mod checkpoint;
mod gguf;
mod imatrix;
mod model;
mod snapshot;
mod tokenizer;

/// One of them.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it does with an input; whether that was taken. Panics where something does not hold.
    pub run: fn(&[u8]) -> bool,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many changed inputs the ordinary tests try: what takes two or three seconds.
    pub changed: usize,
}

macro_rules! targets {
    ($($name:ident: $changed:expr;)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[
            $(Target { name: stringify!($name), run: $name::run, seeds: $name::seeds, changed: $changed },)*
        ];
    };
}

targets! {
    gguf: 60_000;
    model: 8_000;
    tokenizer: 25_000;
    chat: 12_000;
    checkpoint: 6_000;
    imatrix: 60_000;
    snapshot: 200_000;
    capi: 100_000;
}

/// The target called `name`.
pub fn named(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target is called {name}"))
}

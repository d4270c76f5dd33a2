//! Configurations of published models by name, for what needs no weights: planning, and checkpoints made up for tests.

use crate::config::Config;
use dgemma::{Error, Result};

/// The names, for help texts.
pub const NAMES: &str = "26b, 26b-layers=N, tiny";

/// The configuration called `name`: the published `26b`, as `26b-layers=N` with only so many layers, or `tiny`.
pub fn named(name: &str) -> Result<Config> {
    let unknown = || Error::argument("shape", format!("{name:?} is unknown, expected one of {NAMES}"));
    match name.split_once("-layers=") {
        None if name == "26b" => Ok(published_26b(30)),
        None if name == "tiny" => Ok(tiny()),
        Some(("26b", layers)) => {
            let layers = layers.parse().ok().filter(|n| (1..=30).contains(n));
            layers
                .map(published_26b)
                .ok_or_else(|| Error::argument("shape", format!("{name:?}: expected 1 to 30 layers")))
        }
        _ => Err(unknown()),
    }
}

/// `google/diffusiongemma-26B-A4B-it`, cut after some layers. Every sixth layer has full attention, and so has the last
/// one, wherever it is.
fn published_26b(layers: usize) -> Config {
    let sliding: Vec<bool> = (0..layers).map(|n| n % 6 != 5 && n + 1 != layers).collect();
    Config {
        hidden: 2816,
        ffn: 2112,
        expert_ffn: 704,
        experts: 128,
        experts_used: 8,
        heads: 16,
        kv_heads: sliding.iter().map(|&s| if s { 8 } else { 2 }).collect(),
        sliding,
        head_dim: 256,
        head_dim_full: 512,
        window: 1024,
        context: 262_144,
        vocab: 262_144,
        canvas: 256,
        eps: 1e-6,
        softcap: Some(30.0),
        rope_base: 1e4,
        rope_base_full: 1e6,
        rotated_pairs_full: 64,
    }
}

/// Small enough for tests, with something of everything: rows that are whole 256-element blocks and rows that are not, both
/// kinds of layers, a vocabulary with all low special tokens.
fn tiny() -> Config {
    let sliding = vec![true, true, false, true, false];
    Config {
        hidden: 256,
        ffn: 512,
        expert_ffn: 96,
        experts: 16,
        experts_used: 4,
        heads: 4,
        kv_heads: sliding.iter().map(|&s| if s { 2 } else { 1 }).collect(),
        sliding,
        head_dim: 64,
        head_dim_full: 128,
        window: 64,
        context: 4096,
        vocab: 2048,
        canvas: 64,
        rotated_pairs_full: 16,
        ..published_26b(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(named("26b").unwrap(), published_26b(30));
        assert_eq!(named("26b").unwrap().sliding.iter().filter(|&&s| s).count(), 25);
        let two = named("26b-layers=2").unwrap();
        assert_eq!((two.sliding, two.kv_heads), (vec![true, false], vec![8, 2]));
        for name in ["7b", "26b-layers=0", "26b-layers=31", "26b-layers=", "26b-layers=x", ""] {
            assert!(named(name).unwrap_err().to_string().starts_with("argument `shape`: "), "{name}");
        }
    }
}

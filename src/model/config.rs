//! The network's shape, read from the metadata of a `diffusion-gemma` file and checked before any tensor is touched.
//! Next: `tensors.rs`, which checks the tensors against it.

use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use crate::log;

/// The architecture this library runs.
pub const ARCHITECTURE: &str = "diffusion-gemma";

/// Canvas length of files that do not say (the second llama.cpp branch writes no `diffusion.*` keys).
const DEFAULT_CANVAS: usize = 256;

/// One layer's attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Positions a row looks back, itself included; `None` on full layers.
    pub window: Option<usize>,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
}

/// The shape of the network.
#[derive(Clone, Debug)]
pub struct Config {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads, on every layer.
    pub heads: usize,
    /// Width of the dense branch.
    pub ffn: usize,
    /// Experts per layer.
    pub experts: usize,
    /// Experts chosen per row.
    pub top_k: usize,
    /// Width of one expert.
    pub expert_ffn: usize,
    /// Added to the mean square in every norm.
    pub eps: f32,
    /// `cap * tanh(logit / cap)`; `None` when the file does not ask for it.
    pub softcap: Option<f32>,
    /// Tokens denoised in parallel.
    pub canvas: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Rotary base of sliding layers.
    pub rope_base_sliding: f32,
    /// Rotary base of full layers.
    pub rope_base_full: f32,
    /// One entry per layer.
    pub layers: Vec<LayerShape>,
}

impl Config {
    /// Reads and checks the `diffusion-gemma.*` and `diffusion.canvas_length` keys as llama.cpp's converter writes them;
    /// which are required, and what stands in for the others, follows its loader.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let keys = Keys(file);
        let architecture = file.metadata().str("general.architecture")?;
        if architecture != ARCHITECTURE {
            return Err(keys.bad("general.architecture", format!("is `{architecture}`, expected `{ARCHITECTURE}`")));
        }
        let n_layers = keys.count("block_count", 1..=1024)?;
        let heads = keys.count("attention.head_count", 1..=65_536)?;
        let full_dim = keys.count("attention.key_length", 2..=65_536)?;
        let sliding_dim = keys.count("attention.key_length_swa", 2..=65_536)?;
        for (key, dim) in [("attention.value_length", full_dim), ("attention.value_length_swa", sliding_dim)] {
            let value = keys.optional_count(key)?.unwrap_or(dim);
            if value != dim {
                return Err(keys.bad(&full(key), format!("is {value}, expected the key length {dim}")));
            }
        }
        let window = keys.count("attention.sliding_window", 1..=1 << 30)?;
        let sliding = keys.sliding_pattern(n_layers)?;
        let kv_heads = keys.kv_heads(n_layers, heads)?;
        let layer = |(sliding, kv_heads): (bool, usize)| LayerShape {
            window: sliding.then_some(window),
            kv_heads,
            head_dim: if sliding { sliding_dim } else { full_dim },
        };
        let layers: Vec<LayerShape> = sliding.into_iter().zip(kv_heads).map(layer).collect();
        if let Some(odd) = layers.iter().find(|l| l.head_dim % 2 == 1) {
            return Err(keys.bad(&full("attention.key_length"), format!("{} is odd; rotary needs pairs", odd.head_dim)));
        }
        for (key, what) in [
            ("attention.shared_kv_layers", "shared K/V layers"),
            ("embedding_length_per_layer_input", "per-layer inputs"),
        ] {
            if keys.optional_count(key)?.unwrap_or(0) != 0 {
                return Err(keys.bad(&full(key), format!("{what} are not part of DiffusionGemma, expected 0")));
            }
        }
        let experts = keys.count("expert_count", 1..=65_536)?;
        let top_k = keys.count("expert_used_count", 1..=experts)?;
        Ok(Config {
            vocab: keys.vocab()?,
            hidden: keys.count("embedding_length", 1..=1 << 20)?,
            heads,
            ffn: keys.count("feed_forward_length", 1..=1 << 24)?,
            experts,
            top_k,
            expert_ffn: keys.expert_ffn()?,
            eps: keys.positive("attention.layer_norm_rms_epsilon", None)?,
            softcap: file
                .metadata()
                .get(&full("final_logit_softcapping"))
                .is_some()
                .then(|| keys.positive("final_logit_softcapping", None))
                .transpose()?,
            canvas: keys.canvas()?,
            context_length: keys.count("context_length", 1..=1 << 30)?,
            rope_base_sliding: keys.positive("rope.freq_base_swa", Some(10_000.0))?,
            rope_base_full: keys.positive("rope.freq_base", Some(10_000.0))?,
            layers,
        })
    }

    /// Largest `heads * head_dim` over the layers.
    pub fn max_query_width(&self) -> usize {
        self.layers.iter().map(|l| self.heads * l.head_dim).max().unwrap_or(0)
    }

    /// Largest `kv_heads * head_dim` over the layers.
    pub fn max_kv_width(&self) -> usize {
        self.layers.iter().map(|l| l.kv_heads * l.head_dim).max().unwrap_or(0)
    }
}

/// `diffusion-gemma.` before a key.
fn full(key: &str) -> String {
    format!("{ARCHITECTURE}.{key}")
}

/// The file, with getters that know the prefix and the ranges.
struct Keys<'a>(&'a Gguf);

impl Keys<'_> {
    fn bad(&self, key: &str, what: impl Into<String>) -> Error {
        Error::key(self.0.path(), key, what)
    }

    fn optional_count(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.0.metadata().opt_u32(&full(key))?.map(|n| n as usize))
    }

    fn count(&self, key: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
        let n = self.0.metadata().u32(&full(key))? as usize;
        if range.contains(&n) {
            return Ok(n);
        }
        Err(self.bad(&full(key), format!("is {n}, expected {} to {}", range.start(), range.end())))
    }

    fn positive(&self, key: &str, default: Option<f32>) -> Result<f32> {
        let value = match (self.0.metadata().opt_f32(&full(key))?, default) {
            (Some(value), _) => value,
            (None, Some(default)) => default,
            (None, None) => return Err(self.bad(&full(key), "is missing")),
        };
        if value.is_finite() && value > 0.0 {
            return Ok(value);
        }
        Err(self.bad(&full(key), format!("is {value}, expected a positive number")))
    }

    /// One bool per layer; or a period n, every n-th layer being full.
    fn sliding_pattern(&self, n_layers: usize) -> Result<Vec<bool>> {
        let key = full("attention.sliding_window_pattern");
        let pattern = match self.0.metadata().get(&key) {
            Some(Value::Array(_)) => self.0.metadata().bools(&key)?.to_vec(),
            Some(_) => {
                let period = self.count("attention.sliding_window_pattern", 1..=1024)?;
                (1..=n_layers).map(|i| i % period != 0).collect()
            }
            None => return Err(self.bad(&key, "is missing")),
        };
        if pattern.len() != n_layers {
            return Err(
                self.bad(&key, format!("has {} entries, expected one for each of {n_layers} layers", pattern.len()))
            );
        }
        Ok(pattern)
    }

    /// One number per layer; a single number or none (then = heads) is read as llama.cpp reads it.
    fn kv_heads(&self, n_layers: usize, heads: usize) -> Result<Vec<usize>> {
        let key = full("attention.head_count_kv");
        let counts: Vec<usize> = match self.0.metadata().get(&key) {
            Some(Value::Array(_)) => self.0.metadata().u32s(&key)?.into_iter().map(|n| n as usize).collect(),
            Some(_) => vec![self.count("attention.head_count_kv", 1..=heads)?; n_layers],
            None => vec![heads; n_layers],
        };
        if counts.len() != n_layers {
            return Err(
                self.bad(&key, format!("has {} entries, expected one for each of {n_layers} layers", counts.len()))
            );
        }
        match counts.iter().find(|&&n| n == 0 || !heads.is_multiple_of(n)) {
            Some(n) => Err(self.bad(&key, format!("has an entry {n}, which does not divide {heads} query heads"))),
            None => Ok(counts),
        }
    }

    fn canvas(&self) -> Result<usize> {
        let key = "diffusion.canvas_length";
        match self.0.metadata().opt_u32(key)? {
            Some(n @ 1..=65_536) => Ok(n as usize),
            Some(n) => Err(self.bad(key, format!("is {n}, expected 1 to 65536"))),
            None => {
                log::warn(|| format!("{}: no `{key}`, using {DEFAULT_CANVAS}", self.0.path().display()));
                Ok(DEFAULT_CANVAS)
            }
        }
    }

    /// The vocabulary is as long as the embedding; `tensors.rs` compares with the tokenizer.
    fn vocab(&self) -> Result<usize> {
        let table = self.0.require("token_embd.weight")?;
        match table.shape.get(1) {
            Some(&n) if n <= u32::MAX as usize => Ok(n),
            _ => Err(Error::tensor(self.0.path(), &table.name, "expected two dimensions, [hidden, vocabulary]")),
        }
    }

    /// Optional in the file: the down projection of the experts has it as its row length.
    fn expert_ffn(&self) -> Result<usize> {
        match self.optional_count("expert_feed_forward_length")? {
            Some(n) if n > 0 => Ok(n),
            _ => Ok(self.0.require("blk.0.ffn_down_exps.weight")?.shape[0]),
        }
    }
}

//! `config.json`: the shape of the model. Nothing is guessed, with one exception (see `softcap`): the defaults of the
//! Python class are not those of the published model.

use crate::json::{File, Node};
use crate::layers::{self, FullLayers};
use dgemma::Result;
use std::path::Path;

/// The class name of the release, and the one from before it.
const CLASSES: [&str; 2] = ["DiffusionGemmaForBlockDiffusion", "DiffusionGemma4ModelForBlockDiffusion"];

/// The numbers of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of the dense MLP, and of the self-conditioning one.
    pub ffn: u32,
    /// Width of one expert.
    pub expert_ffn: u32,
    /// Experts per layer.
    pub experts: u32,
    /// Experts per token.
    pub experts_used: u32,
    /// Query heads.
    pub heads: u32,
    /// Per layer: sliding-window attention or full.
    pub sliding: Vec<bool>,
    /// Per layer: K/V heads.
    pub kv_heads: Vec<u32>,
    /// Head size of sliding layers.
    pub head_dim: u32,
    /// Head size of full layers.
    pub head_dim_full: u32,
    /// Keys that a prompt token sees on a sliding layer, itself included.
    pub window: u32,
    /// Longest context.
    pub context: u32,
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// Tokens in a canvas.
    pub canvas: u32,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Soft cap of the logits.
    pub softcap: Option<f32>,
    /// Rotary base of sliding layers.
    pub rope_base: f32,
    /// Rotary base of full layers.
    pub rope_base_full: f32,
    /// Rotary pairs of a full layer that do rotate.
    pub rotated_pairs_full: u32,
}

impl Config {
    /// Reads `config.json` in `directory`.
    pub fn read(directory: &Path) -> Result<Config> {
        let file = File::read(&directory.join("config.json"))?;
        let root = file.root();
        check_class(&root)?;
        let text = root.need("text_config")?;
        let sliding = layers::types(&text)?;
        let kv_heads = text.need("num_key_value_heads")?.positive()?;
        let head_dim = text.need("head_dim")?.positive()?;
        let full = FullLayers::read(&text, &sliding, kv_heads)?;
        let (sliding_rope, full_rope) = layers::rope(&text)?;
        let config = Config {
            hidden: text.need("hidden_size")?.positive()?,
            ffn: text.need("intermediate_size")?.positive()?,
            expert_ffn: text.need("moe_intermediate_size")?.positive()?,
            experts: text.need("num_experts")?.positive()?,
            experts_used: text.need("top_k_experts")?.positive()?,
            heads: text.need("num_attention_heads")?.positive()?,
            kv_heads: sliding.iter().map(|&s| if s { kv_heads } else { full.kv_heads }).collect(),
            head_dim,
            head_dim_full: full.head_dim,
            window: text.need("sliding_window")?.positive()?,
            context: text.need("max_position_embeddings")?.positive()?,
            vocab: text.need("vocab_size")?.positive()?,
            canvas: root.need("canvas_length")?.positive()?,
            eps: text.need("rms_norm_eps")?.f32()?,
            softcap: softcap(&text)?,
            rope_base: sliding_rope.need("rope_theta")?.f32()?,
            rope_base_full: full_rope.need("rope_theta")?.f32()?,
            rotated_pairs_full: layers::rotated_pairs(&full_rope, full.head_dim)?,
            sliding,
        };
        at_most(&root, "canvas_length", config.canvas, 65_536)?;
        config.check(&text)?;
        Ok(config)
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.sliding.len()
    }

    /// The head size of layer `n`.
    pub fn head_dim_of(&self, n: usize) -> u32 {
        if self.sliding[n] { self.head_dim } else { self.head_dim_full }
    }

    /// What the format, the model's architecture or the library's reader does not take.
    fn check(&self, text: &Node) -> Result<()> {
        for (key, n, most) in [
            ("num_hidden_layers", self.layers() as u32, 1024),
            ("hidden_size", self.hidden, 1 << 20),
            ("intermediate_size", self.ffn, 1 << 24),
            ("moe_intermediate_size", self.expert_ffn, 1 << 24),
            ("num_experts", self.experts, 65_536),
            ("num_attention_heads", self.heads, 65_536),
            ("head_dim", self.head_dim, 65_536),
            ("global_head_dim", self.head_dim_full, 65_536),
            ("sliding_window", self.window, 1 << 30),
            ("max_position_embeddings", self.context, 1 << 30),
        ] {
            at_most(text, key, n, most)?;
        }
        for (n, &kv_heads) in self.kv_heads.iter().enumerate() {
            if !self.heads.is_multiple_of(kv_heads) {
                let what = format!("{} heads cannot share {kv_heads} K/V heads evenly in layer {n}", self.heads);
                return Err(text.error_at("num_attention_heads", what));
            }
        }
        for (key, dim) in [("head_dim", self.head_dim), ("global_head_dim", self.head_dim_full)] {
            if !dim.is_multiple_of(2) {
                return Err(text.error_at(key, format!("is {dim}, expected an even number")));
            }
        }
        if self.experts_used > self.experts {
            let what = format!("is {}, but there are only {} experts", self.experts_used, self.experts);
            return Err(text.error_at("top_k_experts", what));
        }
        Ok(())
    }
}

fn at_most(node: &Node, key: &str, n: u32, most: u32) -> Result<()> {
    if n <= most { Ok(()) } else { Err(node.error_at(key, format!("is {n}, expected 1 to {most}"))) }
}

fn check_class(root: &Node) -> Result<()> {
    let classes = root.need("architectures")?;
    let known = classes.list()?.iter().any(|class| class.str().is_ok_and(|name| CLASSES.contains(&name)));
    if !known {
        return Err(classes.error(format!("is not DiffusionGemma: expected {}", CLASSES[0])));
    }
    let text = root.need("text_config")?;
    let fixed_bools =
        [(root, "tie_word_embeddings", true), (&text, "attention_bias", false), (&text, "attention_k_eq_v", true)];
    for (node, key, expected) in fixed_bools {
        if node.get(key).is_some_and(|v| v.bool().ok() != Some(expected)) {
            return Err(node.error_at(key, format!("only {expected} is supported")));
        }
    }
    let fixed_words = [("hidden_activation", "gelu_pytorch_tanh"), ("use_bidirectional_attention", "vision")];
    for (key, expected) in fixed_words {
        if text.get(key).is_some_and(|v| v.str().ok() != Some(expected)) {
            return Err(text.error_at(key, format!("only {expected} is supported")));
        }
    }
    Ok(())
}

/// The soft cap of the logits. The model's class has 30 as a constant, which is not saved: absent means 30, and only an
/// explicit null means none.
fn softcap(text: &Node) -> Result<Option<f32>> {
    let key = "final_logit_softcapping";
    match text.get(key) {
        Some(cap) => cap.f32().map(Some),
        None => Ok((!text.is_null(key)).then_some(30.0)),
    }
}

//! Pointers to all weights, bound once at load, with their shapes beside them. Next: `state.rs`, `forward.rs`.

use super::config::{Config, LayerShape};
use super::tensors::{Tensors, in_layer};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::log;

/// Frequencies of pairs that do not rotate are stored divided by this or more (the writers use 1e30).
const NO_ROTATION: f32 = 1e20;
/// The share of a full layer's pairs that rotate, for files without `rope_freqs.weight` (config: partial_rotary_factor).
const PARTIAL_ROTARY: f32 = 0.25;

/// One layer. H hidden, D head width, Q query heads, K key/value heads, F dense width, E experts, f expert width.
pub(super) struct LayerWeights<B: Backend> {
    pub attn_norm: B::Buffer,      // [H]
    pub q: B::Weight,              // [Q * D, H]
    pub k: B::Weight,              // [K * D, H]
    pub v: Option<B::Weight>,      // [K * D, H]; none on full layers: V is the raw k projection
    pub o: B::Weight,              // [H, Q * D]
    pub q_norm: B::Buffer,         // [D]
    pub k_norm: B::Buffer,         // [D]
    pub post_attention: B::Buffer, // [H]
    pub ffn_norm: B::Buffer,       // [H]
    pub gate: B::Weight,           // [F, H]
    pub up: B::Weight,             // [F, H]
    pub down: B::Weight,           // [H, F]
    pub post_ffw_1: B::Buffer,     // [H]
    pub pre_ffw_2: B::Buffer,      // [H]
    pub router: B::Weight,         // [E, H]
    pub router_scale: B::Buffer,   // [H], already times H^-0.5
    pub experts: Experts<B>,
    pub expert_scale: B::Buffer, // [E]
    pub post_ffw_2: B::Buffer,   // [H]
    pub post_ffw: B::Buffer,     // [H]
    pub prompt_scalar: f32,      // the layer's output factor on prompt rows
    pub canvas_scalar: f32,      // the same on canvas rows
}

/// A layer's experts, with gate and up in one stack or in two.
pub(super) struct Experts<B: Backend> {
    /// `[E, 2 f, H]`, or `[E, f, H]` beside `split_up`.
    pub gate: B::Weight,
    /// `[E, f, H]` in files that keep it apart.
    pub split_up: Option<B::Weight>,
    /// `[E, H, f]`.
    pub down: B::Weight,
}

/// The whole network on a backend.
pub struct Weights<B: Backend> {
    /// Its shape.
    pub config: Config,
    pub(super) embedding: B::Weight,            // [V, H]
    pub(super) head: Option<B::Weight>,         // [V, H]; none: the embedding
    pub(super) output_norm: B::Buffer,          // [H]
    pub(super) sc_norm: B::Buffer,              // [H]
    pub(super) sc_gate: B::Weight,              // [F, H]
    pub(super) sc_up: B::Weight,                // [F, H]
    pub(super) sc_down: B::Weight,              // [H, F]
    pub(super) rope_sliding: Option<B::Buffer>, // [D / 2] inverse frequencies of sliding layers
    pub(super) rope_full: Option<B::Buffer>,    // the same of full layers
    pub(super) layers: Vec<LayerWeights<B>>,
}

impl<B: Backend> Weights<B> {
    /// Binds every tensor of `file`. `progress` hears the share done, in 0..=1, and returns false to give up.
    pub fn load(backend: &B, file: &Gguf, mut progress: impl FnMut(f32) -> bool) -> Result<Self> {
        let config = Config::from_gguf(file)?;
        let bind = Bind { backend, tensors: Tensors { file, config: &config } };
        let (h, f, v) = (config.hidden, config.ffn, config.vocab);
        let mut layers = Vec::with_capacity(config.layers.len());
        for (i, shape) in config.layers.iter().enumerate() {
            layers.push(bind.layer(i, shape)?);
            if !progress((i + 1) as f32 / config.layers.len() as f32) {
                return Err(Error::Cancelled);
            }
        }
        let sc_norm = if file.tensor("self_cond_pre_norm.weight").is_some() {
            "self_cond_pre_norm.weight"
        } else {
            "self_cond_norm.weight"
        };
        Ok(Weights {
            embedding: bind.matrix("token_embd.weight", &[h, v])?,
            head: bind.tensors.find("output.weight", &[h, v])?.map(|t| backend.weight(t)).transpose()?,
            output_norm: bind.vector("output_norm.weight", h)?,
            sc_norm: bind.vector(sc_norm, h)?,
            sc_gate: bind.matrix("self_cond_gate.weight", &[h, f])?,
            sc_up: bind.matrix("self_cond_up.weight", &[h, f])?,
            sc_down: bind.matrix("self_cond_down.weight", &[f, h])?,
            rope_sliding: bind.rope(true)?,
            rope_full: bind.rope(false)?,
            layers,
            config,
        })
    }
}

/// Loads tensors by name onto a backend.
struct Bind<'a, B: Backend> {
    backend: &'a B,
    tensors: Tensors<'a>,
}

impl<B: Backend> Bind<'_, B> {
    fn matrix(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        self.backend.weight(self.tensors.get(name, shape)?)
    }

    fn upload(&self, values: &[f32]) -> Result<B::Buffer> {
        let mut buffer = self.backend.buffer(values.len(), "weights")?;
        self.backend.write(values, &mut buffer, 0)?;
        Ok(buffer)
    }

    fn vector(&self, name: &str, len: usize) -> Result<B::Buffer> {
        self.upload(&self.tensors.values(name, &[len])?)
    }

    fn layer(&self, i: usize, shape: &LayerShape) -> Result<LayerWeights<B>> {
        let c = self.tensors.config;
        let (h, f, e, d) = (c.hidden, c.ffn, c.experts, shape.head_dim);
        let (q_width, kv_width) = (c.heads * d, shape.kv_heads * d);
        let vector = |name: &str, len| self.vector(&in_layer(i, name), len);
        let matrix = |name: &str, dims: &[usize]| self.matrix(&in_layer(i, name), dims);
        let v = match self.tensors.find(&in_layer(i, "attn_v.weight"), &[h, kv_width])? {
            Some(tensor) => Some(self.backend.weight(tensor)?),
            None if shape.window.is_none() => None,
            None => {
                return Err(Error::tensor(
                    self.tensors.file.path(),
                    &in_layer(i, "attn_v.weight"),
                    "is missing on a sliding layer",
                ));
            }
        };
        let mut router_scale = self.tensors.values(&in_layer(i, "ffn_gate_inp.scale"), &[h])?;
        router_scale.iter_mut().for_each(|s| *s *= (h as f32).powf(-0.5));
        let (prompt_scalar, canvas_scalar) = self.scalars(i)?;
        Ok(LayerWeights {
            attn_norm: vector("attn_norm.weight", h)?,
            q: matrix("attn_q.weight", &[h, q_width])?,
            k: matrix("attn_k.weight", &[h, kv_width])?,
            v,
            o: matrix("attn_output.weight", &[q_width, h])?,
            q_norm: vector("attn_q_norm.weight", d)?,
            k_norm: vector("attn_k_norm.weight", d)?,
            post_attention: vector("post_attention_norm.weight", h)?,
            ffn_norm: vector("ffn_norm.weight", h)?,
            gate: matrix("ffn_gate.weight", &[h, f])?,
            up: matrix("ffn_up.weight", &[h, f])?,
            down: matrix("ffn_down.weight", &[f, h])?,
            post_ffw_1: vector("post_ffw_norm_1.weight", h)?,
            pre_ffw_2: vector("pre_ffw_norm_2.weight", h)?,
            router: matrix("ffn_gate_inp.weight", &[h, e])?,
            router_scale: self.upload(&router_scale)?,
            experts: self.experts(i)?,
            expert_scale: vector("ffn_down_exps.scale", e)?,
            post_ffw_2: vector("post_ffw_norm_2.weight", h)?,
            post_ffw: vector("post_ffw_norm.weight", h)?,
            prompt_scalar,
            canvas_scalar,
        })
    }

    fn experts(&self, i: usize) -> Result<Experts<B>> {
        let c = self.tensors.config;
        let (h, e, f) = (c.hidden, c.experts, c.expert_ffn);
        let down = self.matrix(&in_layer(i, "ffn_down_exps.weight"), &[f, h, e])?;
        if let Some(fused) = self.tensors.find(&in_layer(i, "ffn_gate_up_exps.weight"), &[h, 2 * f, e])? {
            return Ok(Experts { gate: self.backend.weight(fused)?, split_up: None, down });
        }
        let Some(gate) = self.tensors.find(&in_layer(i, "ffn_gate_exps.weight"), &[h, f, e])? else {
            let what = "is missing, and so is the split form `ffn_gate_exps.weight`";
            return Err(Error::tensor(self.tensors.file.path(), &in_layer(i, "ffn_gate_up_exps.weight"), what));
        };
        let up = self.matrix(&in_layer(i, "ffn_up_exps.weight"), &[h, f, e])?;
        Ok(Experts { gate: self.backend.weight(gate)?, split_up: Some(up), down })
    }

    /// The layer's output factors for prompt and canvas rows. Files of the second llama.cpp branch lack the first.
    fn scalars(&self, i: usize) -> Result<(f32, f32)> {
        let canvas = self.tensors.values(&in_layer(i, "layer_output_scale.weight"), &[1])?[0];
        let name = in_layer(i, "enc_layer_output_scale.weight");
        if self.tensors.file.tensor(&name).is_some() {
            return Ok((self.tensors.values(&name, &[1])?[0], canvas));
        }
        if i == 0 {
            log::warn(|| {
                format!("{}: no encoder layer scalars, using the decoder's", self.tensors.file.path().display())
            });
        }
        Ok((canvas, canvas))
    }

    /// Inverse frequencies base^(-2i/D) of one kind of layer; on full layers divided by `rope_freqs.weight`.
    fn rope(&self, sliding: bool) -> Result<Option<B::Buffer>> {
        let c = self.tensors.config;
        let Some(shape) = c.layers.iter().find(|l| l.window.is_some() == sliding) else { return Ok(None) };
        let (dim, half) = (shape.head_dim, shape.head_dim / 2);
        let base = f64::from(if sliding { c.rope_base_sliding } else { c.rope_base_full });
        let mut inv_freq: Vec<f32> = (0..half).map(|i| base.powf(-2.0 * i as f64 / dim as f64) as f32).collect();
        if !sliding {
            for (f, divisor) in inv_freq.iter_mut().zip(self.rope_divisors(half)?) {
                *f = if divisor >= NO_ROTATION { 0.0 } else { *f / divisor };
            }
        }
        self.upload(&inv_freq).map(Some)
    }

    fn rope_divisors(&self, half: usize) -> Result<Vec<f32>> {
        if self.tensors.file.tensor("rope_freqs.weight").is_some() {
            return self.tensors.values("rope_freqs.weight", &[half]);
        }
        log::warn(|| {
            format!(
                "{}: no `rope_freqs.weight`, rotating a quarter of each full layer's pairs",
                self.tensors.file.path().display()
            )
        });
        let rotating = (half as f32 * PARTIAL_ROTARY) as usize;
        Ok((0..half).map(|i| if i < rotating { 1.0 } else { f32::INFINITY }).collect())
    }
}

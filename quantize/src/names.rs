//! Which tensors a file has, what they are called here and there, and their shapes.
//!
//! Nothing is transposed, permuted, scaled or folded on the way: PyTorch's order of bytes is the file's already.

use crate::config::Config;

/// Where a tensor comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The tensor of that name in the checkpoint.
    Checkpoint(String),
    /// These numbers.
    Generated(Vec<f32>),
}

/// A tensor that the file must have.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Name in the file.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// PyTorch order: the last dimension is contiguous.
    pub shape: Vec<usize>,
}

const DECODER: &str = "model.decoder.";
const ENCODER: &str = "model.encoder.language_model.";
/// Parts of a checkpoint that a text model has no use for.
const VISION: [&str; 2] = ["model.encoder.vision_tower.", "model.encoder.embed_vision."];

/// All tensors of a file, in the order in which it has them: those of no layer first, then layer by layer, by name.
pub fn expected(config: &Config) -> Vec<Expected> {
    let mut all = outside_layers(config);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    for n in 0..config.layers() {
        let mut layer = of_layer(config, n);
        layer.sort_by(|a, b| a.name.cmp(&b.name));
        all.append(&mut layer);
    }
    all
}

/// What the checkpoint tensor `name` is for, if it is not expected itself.
#[derive(Debug, PartialEq)]
pub enum Other<'a> {
    /// Images only.
    Vision,
    /// The encoder's name for a weight that it shares with the decoder, whose name this is.
    Shared(String),
    /// No idea.
    Unknown(&'a str),
}

/// Sorts `name` into one of the kinds of tensors that do not go into the file under their own name.
pub fn other(name: &str) -> Other<'_> {
    if VISION.iter().any(|prefix| name.starts_with(prefix)) {
        return Other::Vision;
    }
    match name.strip_prefix(ENCODER) {
        Some(rest) => Other::Shared(format!("{DECODER}{rest}")),
        None => Other::Unknown(name),
    }
}

/// The encoder's name for the decoder's tensor `name`. The layer scalars are not shared: each side has its own.
pub fn shared_name(name: &str) -> Option<String> {
    let rest = name.strip_prefix(DECODER)?;
    let shared = !rest.ends_with("layer_scalar") && !rest.starts_with("self_conditioning.");
    shared.then(|| format!("{ENCODER}{rest}"))
}

fn outside_layers(c: &Config) -> Vec<Expected> {
    let (hidden, ffn, vocab) = (c.hidden as usize, c.ffn as usize, c.vocab as usize);
    let decoder = |name: &str, hf: &str, shape: &[usize]| Expected {
        name: name.to_owned(),
        origin: Origin::Checkpoint(format!("{DECODER}{hf}")),
        shape: shape.to_vec(),
    };
    let factors = rope_factors(c);
    vec![
        decoder("token_embd.weight", "embed_tokens.weight", &[vocab, hidden]),
        decoder("output_norm.weight", "norm.weight", &[hidden]),
        decoder("self_cond_pre_norm.weight", "self_conditioning.pre_norm.weight", &[hidden]),
        decoder("self_cond_gate.weight", "self_conditioning.gate_proj.weight", &[ffn, hidden]),
        decoder("self_cond_up.weight", "self_conditioning.up_proj.weight", &[ffn, hidden]),
        decoder("self_cond_down.weight", "self_conditioning.down_proj.weight", &[hidden, ffn]),
        Expected {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![factors.len()],
            origin: Origin::Generated(factors),
        },
    ]
}

/// What the rotary frequencies of full layers are divided by: 1 for the pairs that rotate, and for the others so much
/// that they stand still.
fn rope_factors(c: &Config) -> Vec<f32> {
    (0..c.head_dim_full / 2).map(|pair| if pair < c.rotated_pairs_full { 1.0 } else { 1e30 }).collect()
}

fn of_layer(c: &Config, n: usize) -> Vec<Expected> {
    let (hidden, ffn, expert_ffn, experts) =
        (c.hidden as usize, c.ffn as usize, c.expert_ffn as usize, c.experts as usize);
    let dim = c.head_dim_of(n) as usize;
    let (q, kv) = (c.heads as usize * dim, c.kv_heads[n] as usize * dim);
    let mut layer: Vec<(&str, &str, Vec<usize>)> = vec![
        ("attn_norm.weight", "input_layernorm.weight", vec![hidden]),
        ("attn_q.weight", "self_attn.q_proj.weight", vec![q, hidden]),
        ("attn_k.weight", "self_attn.k_proj.weight", vec![kv, hidden]),
        ("attn_output.weight", "self_attn.o_proj.weight", vec![hidden, q]),
        ("attn_q_norm.weight", "self_attn.q_norm.weight", vec![dim]),
        ("attn_k_norm.weight", "self_attn.k_norm.weight", vec![dim]),
        ("post_attention_norm.weight", "post_attention_layernorm.weight", vec![hidden]),
        ("ffn_norm.weight", "pre_feedforward_layernorm.weight", vec![hidden]),
        ("ffn_gate.weight", "mlp.gate_proj.weight", vec![ffn, hidden]),
        ("ffn_up.weight", "mlp.up_proj.weight", vec![ffn, hidden]),
        ("ffn_down.weight", "mlp.down_proj.weight", vec![hidden, ffn]),
        ("post_ffw_norm_1.weight", "post_feedforward_layernorm_1.weight", vec![hidden]),
        ("pre_ffw_norm_2.weight", "pre_feedforward_layernorm_2.weight", vec![hidden]),
        ("ffn_gate_inp.weight", "router.proj.weight", vec![experts, hidden]),
        ("ffn_gate_inp.scale", "router.scale", vec![hidden]),
        ("ffn_gate_up_exps.weight", "experts.gate_up_proj", vec![experts, 2 * expert_ffn, hidden]),
        ("ffn_down_exps.weight", "experts.down_proj", vec![experts, hidden, expert_ffn]),
        ("ffn_down_exps.scale", "router.per_expert_scale", vec![experts]),
        ("post_ffw_norm_2.weight", "post_feedforward_layernorm_2.weight", vec![hidden]),
        ("post_ffw_norm.weight", "post_feedforward_layernorm.weight", vec![hidden]),
        ("layer_output_scale.weight", "layer_scalar", vec![1]),
    ];
    // On full layers V is what K is before its norm.
    if c.sliding[n] {
        layer.push(("attn_v.weight", "self_attn.v_proj.weight", vec![kv, hidden]));
    }
    let tensor = |name: &str, hf: String, shape| Expected {
        name: format!("blk.{n}.{name}"),
        origin: Origin::Checkpoint(hf),
        shape,
    };
    let decoder = layer.into_iter().map(|(name, hf, shape)| tensor(name, format!("{DECODER}layers.{n}.{hf}"), shape));
    // Prompt and canvas go through the same layers with different scalars: this one is the encoder's.
    let scalar = tensor("enc_layer_output_scale.weight", format!("{ENCODER}layers.{n}.layer_scalar"), vec![1]);
    decoder.chain([scalar]).collect()
}

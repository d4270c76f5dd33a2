//! Checkpoints: `config.json`, the vocabulary, safetensors, and the conversion of what fits together.
//!
//! Input: config.json, tokenizer.json, tokenizer_config.json, model.safetensors.index.json, the argument of `--tensor-type`,
//! model.safetensors, separated by 0xFF; empty ones do not exist. What is taken becomes a GGUF file with the tensors that
//! were planned; what is not is answered with a line that names a file of the checkpoint, or the argument.

use crate::common::{allowed, assert_tells, bounded, config, folder, joined, number, pieces, vocabulary};
use dgemma::gguf::Gguf;
use dgemma_quantize::config::Config;
use dgemma_quantize::convert::{self, Options};
use dgemma_quantize::names::{self, Origin};
use dgemma_quantize::overrides::Override;
use serde_json::{Map, Value, json};
use std::path::Path;

const FILES: [&str; 4] = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"];

/// Whether the checkpoint was converted.
pub fn run(data: &[u8]) -> bool {
    let [config, tokenizer, settings, index, tensor_type, weights] = pieces(data);
    let files = FILES.into_iter().zip([config, tokenizer, settings, index]).chain([("model.safetensors", weights)]);
    let folder = folder("checkpoint");
    for (name, content) in files {
        let path = folder.join(name);
        let done = if content.is_empty() { std::fs::remove_file(path) } else { std::fs::write(path, content) };
        assert!(done.is_ok() || content.is_empty());
    }
    bounded(allowed(data.len()), || match convert(&folder, &String::from_utf8_lossy(tensor_type)) {
        Ok(()) => true,
        Err(error) => {
            assert_tells(&error, &[folder.to_str().unwrap(), "argument `tensor-type`: "]);
            false
        }
    })
}

fn convert(folder: &Path, tensor_type: &str) -> dgemma::Result<()> {
    let mut options = Options { threads: 1, verify: true, ..Options::of_type("Q8_0")? };
    if !tensor_type.is_empty() {
        options.types.overrides.push(Override::parse(tensor_type)?);
    }
    let prepared = convert::prepare(folder, &options)?;
    let plans: Vec<_> = prepared.steps.iter().map(|step| step.plan.clone()).collect();
    let out = folder.join("out.gguf");
    convert::write(&out, prepared, &options)?;
    let file = Gguf::open(&out).unwrap();
    let written = file.tensors().iter().map(|info| (&info.name, &info.shape, info.format.name));
    assert!(written.eq(plans.iter().map(|plan| (&plan.name, &plan.shape, plan.format.name))));
    Ok(())
}

/// Inputs to begin with: a checkpoint in BF16; one with an index of shards; one with weights in FP8 and NVFP4.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |weights: (Vec<u8>, Vec<String>), quantization: Value, index: bool, tensor_type: &str| {
        let [config, tokenizer, settings] =
            [config_json(quantization), tokenizer_json(), json!({"bos_token": "<bos>"})];
        let map: Map<String, Value> = weights.1.into_iter().map(|name| (name, json!("model.safetensors"))).collect();
        let index = if index { json!({"weight_map": map}).to_string() } else { String::new() };
        let texts = [config.to_string(), tokenizer.to_string(), settings.to_string(), index, tensor_type.to_owned()];
        let mut pieces: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        pieces.push(&weights.0);
        joined(&pieces)
    };
    let mixed = json!({"quant_method": "compressed-tensors", "format": "mixed-precision"});
    vec![
        seed(safetensors(false), Value::Null, false, ""),
        seed(safetensors(false), Value::Null, true, "attn_*=F16"),
        seed(safetensors(true), mixed, false, ""),
    ]
}

/// The smallest model, with rows that NVFP4 can have.
fn shape() -> Config {
    Config { hidden: 16, ..config() }
}

fn config_json(quantization: Value) -> Value {
    let c = shape();
    json!({
        "architectures": ["DiffusionGemmaForBlockDiffusion"],
        "canvas_length": c.canvas,
        "quantization_config": quantization,
        "text_config": {
            "hidden_size": c.hidden, "intermediate_size": c.ffn, "moe_intermediate_size": c.expert_ffn,
            "num_experts": c.experts, "top_k_experts": c.experts_used, "num_hidden_layers": c.layers(),
            "layer_types": ["sliding_attention", "full_attention"], "num_attention_heads": c.heads,
            "num_key_value_heads": c.kv_heads[0], "num_global_key_value_heads": c.kv_heads[1],
            "head_dim": c.head_dim, "global_head_dim": c.head_dim_full, "sliding_window": c.window,
            "max_position_embeddings": c.context, "rms_norm_eps": 1e-6, "vocab_size": c.vocab, "eos_token_id": [1],
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
            },
        },
    })
}

fn tokenizer_json() -> Value {
    let made = vocabulary();
    let ids: Map<String, Value> = made.tokens.iter().enumerate().map(|(id, text)| (text.clone(), json!(id))).collect();
    let merges: Vec<&str> = made.merges.iter().collect();
    let added = json!([{"id": 2, "content": "<bos>", "special": true}]);
    json!({"added_tokens": added, "model": {"type": "BPE", "byte_fallback": true, "vocab": ids, "merges": merges}})
}

/// A file of tensors being put together.
#[derive(Default)]
struct Tensors {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Tensors {
    fn add(&mut self, name: String, dtype: &str, shape: &[usize], bytes: impl IntoIterator<Item = u8>) {
        let start = self.data.len();
        self.data.extend(bytes);
        let offsets = [start, self.data.len()];
        self.header.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
    }
}

/// All weights, in BF16, some of them quantized if asked for; and their names.
fn safetensors(quantized: bool) -> (Vec<u8>, Vec<String>) {
    let mut tensors = Tensors::default();
    for tensor in names::expected(&shape()) {
        let Origin::Checkpoint(name) = tensor.origin else { continue };
        let count: usize = tensor.shape.iter().product();
        let codes = |n: usize| (0..n).map(|n| (number(n) * 100.0) as u8 & 0x77);
        if quantized && name.ends_with("q_proj.weight") {
            tensors.add(name.replace("weight", "weight_scale"), "BF16", &[1], [0x80, 0x3f]);
            tensors.add(name, "F8_E4M3", &tensor.shape, codes(count));
        } else if quantized && name.ends_with("k_proj.weight") {
            let [rows, columns] = tensor.shape[..] else { unreachable!("a matrix") };
            tensors.add(name.replace("weight", "weight_scale"), "F8_E4M3", &[rows, columns / 16], codes(count / 16));
            tensors.add(name.replace("weight", "weight_global_scale"), "F32", &[1], 1f32.to_le_bytes());
            tensors.add(name.replace("weight", "weight_packed"), "U8", &[rows, columns / 2], codes(count / 2));
        } else {
            let numbers = (0..count).flat_map(|n| ((number(n).to_bits() >> 16) as u16).to_le_bytes());
            tensors.add(name, "BF16", &tensor.shape, numbers);
        }
    }
    let names = tensors.header.keys().cloned().collect();
    let header = Value::Object(tensors.header).to_string();
    ([&(header.len() as u64).to_le_bytes(), header.as_bytes(), &tensors.data].concat(), names)
}

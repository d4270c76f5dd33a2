//! Hugging Face checkpoints made up for measurements: any shape, in BF16, in as many shards as wanted, with random weights
//! or with holes in the place of them, which read as zeros and cost no disk.

pub mod process;

use dgemma::quant;
use dgemma_quantize::config::Config;
use dgemma_quantize::names::{self, Expected, Origin};
use dgemma_quantize::random;
use dgemma_quantize::synth_tokenizer;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What the weights are.
#[allow(dead_code)] // each user has one of them
#[derive(Clone, Copy, PartialEq)]
pub enum Fill {
    /// Normal, with a deviation of 0.02; drawn from a pool, or making them would take longer than converting them.
    Random,
    /// Zeros that are not on the disk.
    Holes,
}

/// Random numbers to draw from, in BF16: a prime number of them, so that rows do not repeat.
const POOL: u64 = 4_194_301;

/// Writes the checkpoint into `directory`, which must exist; returns the bytes of the weights.
pub fn write(directory: &Path, config: &Config, shards: usize, fill: Fill) -> u64 {
    let put = |name: &str, value: &Value| std::fs::write(directory.join(name), value.to_string()).unwrap();
    put("config.json", &config_json(config));
    put("tokenizer.json", &tokenizer_json(config.vocab as usize));
    put("tokenizer_config.json", &json!({"chat_template": "{{ messages }}"}));
    let tensors: Vec<(String, Vec<usize>)> = names::expected(config).into_iter().filter_map(stored).collect();
    let pool = if fill == Fill::Random { pool() } else { Vec::new() };
    let mut weight_map = Map::new();
    let mut bytes = 0;
    for (n, tensors) in tensors.chunks(tensors.len().div_ceil(shards)).enumerate() {
        let name = match shards {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{shards:05}.safetensors", n + 1),
        };
        bytes += write_shard(&directory.join(&name), tensors, &pool);
        weight_map.extend(tensors.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
    }
    if shards > 1 {
        put("model.safetensors.index.json", &json!({"weight_map": weight_map}));
    }
    bytes
}

fn stored(tensor: Expected) -> Option<(String, Vec<usize>)> {
    match tensor.origin {
        Origin::Checkpoint(name) => Some((name, tensor.shape)),
        Origin::Generated(_) => None,
    }
}

fn pool() -> Vec<u8> {
    let values: Vec<f32> = (0..POOL).map(|n| 0.02 * random::normal(7, n)).collect();
    let mut bytes = vec![0; 2 * values.len()];
    (quant::by_name("BF16").unwrap().encode)(&values, None, &mut bytes);
    bytes
}

/// Header and weights of one shard, the weights from `pool` where there is one; returns the bytes of the weights.
fn write_shard(path: &Path, tensors: &[(String, Vec<usize>)], pool: &[u8]) -> u64 {
    let mut header = Map::new();
    let mut end = 0u64;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>() as u64;
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let mut left = if pool.is_empty() { 0 } else { end as usize };
    while left > 0 {
        let count = left.min(pool.len());
        file.write_all(&pool[..count]).unwrap();
        left -= count;
    }
    let file = file.into_inner().unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
    // What is on the disk already does not compete with the conversion for it.
    file.sync_all().unwrap();
    end
}

fn config_json(c: &Config) -> Value {
    let kind = |&sliding: &bool| if sliding { "sliding_attention" } else { "full_attention" };
    let full = c.sliding.iter().position(|sliding| !sliding).unwrap();
    let kv_heads = c.sliding.iter().position(|&sliding| sliding).map_or(c.kv_heads[full], |n| c.kv_heads[n]);
    json!({
        "architectures": ["DiffusionGemmaForBlockDiffusion"],
        "canvas_length": c.canvas,
        "tie_word_embeddings": true,
        "text_config": {
            "hidden_size": c.hidden,
            "intermediate_size": c.ffn,
            "moe_intermediate_size": c.expert_ffn,
            "num_experts": c.experts,
            "top_k_experts": c.experts_used,
            "num_hidden_layers": c.layers(),
            "layer_types": c.sliding.iter().map(kind).collect::<Vec<_>>(),
            "num_attention_heads": c.heads,
            "num_key_value_heads": kv_heads,
            "num_global_key_value_heads": c.kv_heads[full],
            "head_dim": c.head_dim,
            "global_head_dim": c.head_dim_full,
            "sliding_window": c.window,
            "max_position_embeddings": c.context,
            "rms_norm_eps": c.eps,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": c.rope_base},
                "full_attention": {
                    "rope_type": "proportional",
                    "rope_theta": c.rope_base_full,
                    "partial_rotary_factor": f64::from(2 * c.rotated_pairs_full) / f64::from(c.head_dim_full),
                },
            },
            "vocab_size": c.vocab,
            "bos_token_id": 2,
            "eos_token_id": 1,
        },
    })
}

fn tokenizer_json(vocab: usize) -> Value {
    let made = synth_tokenizer::tokenizer(vocab, 0).unwrap();
    let ids: Map<String, Value> = made.tokens.iter().enumerate().map(|(id, text)| (text.clone(), json!(id))).collect();
    let merges: Vec<&str> = made.merges.iter().collect();
    json!({
        "added_tokens": [],
        "model": {"type": "BPE", "byte_fallback": true, "vocab": ids, "merges": merges},
    })
}

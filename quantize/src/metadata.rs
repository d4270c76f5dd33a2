//! The keys of a file, in the order in which published files have them.

use crate::config::Config;
use crate::json::File;
use crate::tokenizer::Tokenizer;
use dgemma::Result;
use dgemma::gguf::writer::Plan;
use dgemma::gguf::{Array, Value};
use std::path::Path;

/// All keys. `directory`, if there is one, is asked for `generation_config.json`; `file_type` is the number of the mix.
pub fn keys(
    directory: Option<&Path>,
    name: &str,
    config: &Config,
    tokenizer: &Tokenizer,
    plans: &[Plan],
    file_type: u32,
) -> Result<Vec<(String, Value)>> {
    let text = |key: &str, value: &str| (format!("general.{key}"), Value::String(value.to_owned()));
    let mut keys = vec![
        text("architecture", "diffusion-gemma"),
        text("type", "model"),
        text("name", name),
        text("size_label", &size_label(plans)),
    ];
    keys.extend(model(config).into_iter().map(|(key, value)| (format!("diffusion-gemma.{key}"), value)));
    keys.push(("diffusion.canvas_length".to_owned(), Value::U32(config.canvas)));
    let sampler = directory.map_or(Ok(Vec::new()), sampler)?;
    keys.extend(sampler.into_iter().map(|(key, value)| (format!("diffusion.eb_{key}"), value)));
    keys.extend(tokenizer.keys());
    keys.push(("general.quantization_version".to_owned(), Value::U32(2)));
    keys.push(("general.file_type".to_owned(), Value::U32(file_type)));
    Ok(keys)
}

/// The hyper-parameters. The plain names are about full layers, the ones with `swa` about sliding-window layers.
fn model(c: &Config) -> Vec<(&'static str, Value)> {
    let kv_heads = c.kv_heads.iter().map(|&n| n as i32).collect();
    let mut keys = vec![
        ("block_count", Value::U32(c.layers() as u32)),
        ("context_length", Value::U32(c.context)),
        ("embedding_length", Value::U32(c.hidden)),
        ("feed_forward_length", Value::U32(c.ffn)),
        ("attention.head_count", Value::U32(c.heads)),
        ("attention.head_count_kv", Value::Array(Array::I32(kv_heads))),
        ("rope.freq_base", Value::F32(c.rope_base_full)),
        ("rope.freq_base_swa", Value::F32(c.rope_base)),
        ("attention.layer_norm_rms_epsilon", Value::F32(c.eps)),
        ("expert_count", Value::U32(c.experts)),
        ("expert_used_count", Value::U32(c.experts_used)),
        ("attention.key_length", Value::U32(c.head_dim_full)),
        ("attention.value_length", Value::U32(c.head_dim_full)),
    ];
    keys.extend(c.softcap.map(|cap| ("final_logit_softcapping", Value::F32(cap))));
    keys.extend([
        ("attention.sliding_window", Value::U32(c.window)),
        // Two features of related models that this one does not have; some readers insist on the keys.
        ("attention.shared_kv_layers", Value::U32(0)),
        ("embedding_length_per_layer_input", Value::U32(0)),
        ("attention.sliding_window_pattern", Value::Array(Array::Bool(c.sliding.clone()))),
        ("attention.key_length_swa", Value::U32(c.head_dim)),
        ("attention.value_length_swa", Value::U32(c.head_dim)),
        ("expert_feed_forward_length", Value::U32(c.expert_ffn)),
        // The whole head: which pairs of it rotate is in the tensor rope_freqs.weight.
        ("rope.dimension_count", Value::U32(c.head_dim_full)),
        ("rope.dimension_count_swa", Value::U32(c.head_dim)),
        ("attention.causal", Value::Bool(false)),
    ]);
    keys
}

/// The defaults of the sampler, as far as `generation_config.json` has them.
fn sampler(directory: &Path) -> Result<Vec<(&'static str, Value)>> {
    let Some(file) = File::read_if_there(&directory.join("generation_config.json"))? else {
        return Ok(Vec::new());
    };
    let root = file.root();
    let bound = root.get("sampler_config").and_then(|sampler| sampler.get("entropy_bound"));
    let integer = |key| root.get(key).map(|node| node.u32().map(Value::U32)).transpose();
    let number = |key| root.get(key).map(|node| node.f32().map(Value::F32)).transpose();
    let keys = [
        ("max_steps", integer("max_denoising_steps")?),
        ("t_min", number("t_min")?),
        ("t_max", number("t_max")?),
        ("entropy_bound", bound.map(|node| node.f32().map(Value::F32)).transpose()?),
        ("stability_threshold", integer("stability_threshold")?),
        ("confidence_threshold", number("confidence_threshold")?),
    ];
    Ok(keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// Experts x parameters that one expert and everything outside experts have, e.g. `128x2.6B`.
pub fn size_label(plans: &[Plan]) -> String {
    let (mut experts, mut parameters) = (0, 0);
    for plan in plans {
        let elements: usize = plan.shape.iter().product();
        match plan.shape[..] {
            [_, _, n] if plan.name.contains("_exps.") => {
                experts = n;
                parameters += elements / n;
            }
            _ => parameters += elements,
        }
    }
    format!("{experts}x{}", rounded(parameters as f64))
}

/// Two digits, or more if they stand before the point.
fn rounded(n: f64) -> String {
    let (scaled, unit) = match n {
        n if n > 1e12 => (n * 1e-12, "T"),
        n if n > 1e9 => (n * 1e-9, "B"),
        n if n > 1e6 => (n * 1e-6, "M"),
        n => (n * 1e-3, "K"),
    };
    let decimals = match scaled.round() {
        x if x >= 10.0 => 0,
        x if x >= 1.0 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_rounded_to_two_digits() {
        let cases = [(171_000.0, "171K"), (2.1e6, "2.1M"), (2.54e9, "2.5B"), (9.96e9, "10B"), (430.0, "0.43K")];
        for (n, text) in cases {
            assert_eq!(super::rounded(n), text);
        }
    }
}

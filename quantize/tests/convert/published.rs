//! The published 26B model, as far as it is known without having it: numbers of tensors, elements and bytes.

use dgemma::gguf::writer::{Header, Plan};
use dgemma::quant;
use dgemma_quantize::config::Config;
use dgemma_quantize::{metadata, names, plan};
use std::path::Path;

fn config() -> Config {
    let sliding: Vec<bool> = (0..30).map(|n| n % 6 != 5).collect();
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
        context: 262144,
        vocab: 262144,
        canvas: 256,
        eps: 1e-6,
        softcap: Some(30.0),
        rope_base: 1e4,
        rope_base_full: 1e6,
        rotated_pairs_full: 64,
    }
}

fn plans(target: &str) -> Vec<Plan> {
    let target = quant::by_name(target).unwrap();
    let plan = |tensor: names::Expected| Plan {
        format: plan::format(&tensor.name, &tensor.shape, target).unwrap(),
        shape: tensor.shape.into_iter().rev().collect(),
        name: tensor.name,
    };
    names::expected(&config()).into_iter().map(plan).collect()
}

#[test]
fn tensors_and_bytes_are_those_of_the_published_files() {
    for (target, data_bytes) in [("bf16", 50_525_009_792), ("f16", 50_525_009_792), ("q8_0", 26_863_006_592)] {
        let plans = plans(target);
        let header = Header::new(Path::new("26b"), &[], &plans).unwrap();
        assert_eq!(plans.len(), 692);
        assert_eq!(plans.iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>(), 25_250_987_068);
        assert_eq!(plans.iter().filter(|p| p.format.name == "F32").count(), 423);
        assert_eq!(plans.iter().filter(|p| p.format.name.eq_ignore_ascii_case(target)).count(), 269);
        assert_eq!(header.file_bytes - header.bytes.len() as u64, data_bytes);
        assert_eq!(metadata::size_label(&plans), "128x2.6B");
    }
    let plans = plans("q8_0");
    let first: Vec<&str> = plans.iter().map(|p| p.name.as_str()).take(8).collect();
    let expected = [
        "output_norm",
        "rope_freqs",
        "self_cond_down",
        "self_cond_gate",
        "self_cond_pre_norm",
        "self_cond_up",
        "token_embd",
        "blk.0.attn_k",
    ];
    assert!(first.iter().zip(expected).all(|(name, stem)| *name == format!("{stem}.weight")), "{first:?}");
    let layer = |n: usize| plans.iter().filter(|p| p.name.starts_with(&format!("blk.{n}."))).count();
    assert_eq!((layer(0), layer(5)), (23, 22));
}

//! Blocks that become zero because their weights are below the smallest numbers of a format: one warning a tensor.

use crate::hf::{Hf, Scratch, stderr};
use crate::quantized::{nvfp4_with_factor, quantized};
use dgemma::gguf::Gguf;
use serde_json::json;

const Q: &str = "model.decoder.layers.1.self_attn.q_proj.weight";

/// The smallest checkpoint with `values` in the place of the first ones of a matrix of 64 x 64.
fn beginning_with(values: &[f32]) -> Hf {
    let mut hf = Hf::micro();
    let bytes = values.iter().flat_map(|x| x.to_le_bytes());
    hf.tensors.get_mut(Q).unwrap().2.iter_mut().zip(bytes).for_each(|(old, new)| *old = new);
    hf
}

#[track_caller]
fn warns(hf: &Hf, target: &str, expected: &str) {
    let scratch = Scratch::new(&format!("faint-{target}-{:?}", std::thread::current().id()));
    let output = hf.convert(&scratch, target);
    assert_eq!(stderr(&output), expected, "{target}");
    assert!(output.status.success() && Gguf::open(&scratch.out()).is_ok());
}

fn line(tensor: &str, counts: &str, format: &str) -> String {
    format!(
        "Warn: tensor {tensor}: {counts} weights became zero in {format}, which cannot hold numbers that small; \
         --tensor-type {tensor}=BF16 keeps them, MXFP4 in 4 bits\n"
    )
}

/// NVFP4's scales begin at 2^-9, for a largest code of 6: 0.0059 is just above the half of that, 0.0058 below. Zeros lose nothing.
#[test]
fn scales_of_nvfp4() {
    let values = [[0.0058; 16], [0.0; 16], [0.0059; 16], [-1e-20; 16]].concat();
    warns(&beginning_with(&values), "nvfp4", &line("blk.1.attn_q.weight", "2 of 256 blocks of 16", "NVFP4"));
    warns(&beginning_with(&values[..16]), "mxfp4_moe", "");
    warns(&beginning_with(&values[16..48]), "nvfp4", "");
    warns(&Hf::micro(), "nvfp4", "");
}

/// F16, alone or as scales, ends at 2^-24. Of MXFP4_MOE, only the experts are MXFP4.
#[test]
fn scales_in_f16() {
    let hf = beginning_with(&[1e-9; 64]);
    let formats = [("q8_0", "Q8_0"), ("q4_0", "Q4_0"), ("q5_1", "Q5_1"), ("f16", "F16"), ("mxfp4_moe", "Q8_0")];
    for (target, format) in formats {
        warns(&hf, target, &line("blk.1.attn_q.weight", "2 of 128 blocks of 32", format));
    }
    for target in ["bf16", "f32", "iq4_nl"] {
        warns(&hf, target, "");
    }
}

/// Where codes are taken over: the number of the whole tensor makes those of one expert too small.
#[test]
fn codes_of_a_checkpoint() {
    const UP: &str = "model.decoder.layers.2.experts.3.up_proj";
    let mut hf = quantized(nvfp4_with_factor).0;
    hf.config["quantization_config"] = json!({"quant_method": "modelopt", "quant_algo": "NVFP4"});
    hf.tensors.get_mut(&format!("{UP}.weight_scale_2")).unwrap().2 = 1e-9f32.to_le_bytes().to_vec();
    warns(&hf, "nvfp4", &line("blk.2.ffn_gate_up_exps.weight", "128 of 1536 blocks of 16", "NVFP4"));
}

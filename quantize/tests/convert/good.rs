//! Checkpoints that convert.

use crate::hf::{Hf, Scratch, Tensor, convert, golden, stderr};
use dgemma::gguf::{Array, Gguf, Value};
use safetensors::tensor::Dtype;
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// Converts and opens.
fn converted(hf: &Hf, name: &str, target: &str) -> (Scratch, Gguf) {
    let scratch = Scratch::new(name);
    let output = hf.convert(&scratch, target);
    assert!(output.status.success(), "{}", stderr(&output));
    let file = Gguf::open(&scratch.out()).unwrap();
    (scratch, file)
}

#[track_caller]
pub fn assert_same_tensors(ours: &Gguf, theirs: &Gguf) {
    assert_eq!(ours.tensors().len(), theirs.tensors().len());
    for info in theirs.tensors() {
        let (ours, theirs) = (ours.require(&info.name).unwrap(), theirs.require(&info.name).unwrap());
        assert_eq!((&ours.shape, ours.format), (&theirs.shape, theirs.format), "{}", info.name);
        assert!(*ours.data == *theirs.data, "{}: the bytes differ", info.name);
    }
}

/// The order of published files: byte-comparable ones.
#[test]
fn keys_and_tensors_are_in_the_published_order() {
    let (_scratch, ours) = converted(&Hf::micro(), "order", "q8_0");
    let theirs = Gguf::open(&golden().join("peer/micro-Q8_0.gguf")).unwrap();
    let names = |file: &Gguf| file.tensors().iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    let keys: Vec<&str> = ours.metadata().entries().iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        &keys[..5],
        ["general.architecture", "general.type", "general.name", "general.size_label", "diffusion-gemma.block_count"]
    );
    let at = |key| keys.iter().position(|&k| k == key).unwrap();
    assert_eq!(at("diffusion.eb_max_steps"), at("diffusion.canvas_length") + 1);
    assert_eq!(at("tokenizer.ggml.model"), at("diffusion.canvas_length") + 7);
    assert_eq!(&keys[keys.len() - 2..], ["general.quantization_version", "general.file_type"]);
}

#[test]
fn shards_give_the_same_file() {
    let (single, _) = converted(&Hf::micro(), "single", "f16");
    let (sharded, _) = converted(&Hf::micro().sharded(), "sharded", "f16");
    assert!(std::fs::read(single.out()).unwrap() == std::fs::read(sharded.out()).unwrap());
}

/// Both ways of saying how full layers differ, the older class name, a template in a file of its own, and less.
#[test]
fn other_forms_of_the_configuration() {
    let (_scratch, plain) = converted(&Hf::micro(), "plain", "f32");
    let mut fields = Hf::micro();
    fields.text_config().as_object_mut().unwrap().remove("per_layer_config");
    fields.config["architectures"] = json!(["DiffusionGemma4ModelForBlockDiffusion"]);
    let (_scratch, fields) = converted(&fields, "fields", "f32");
    assert_eq!(fields.metadata().entries(), plain.metadata().entries());

    let mut map = Hf::micro();
    for key in ["global_head_dim", "num_global_key_value_heads", "final_logit_softcapping", "attention_k_eq_v"] {
        map.text_config().as_object_mut().unwrap().remove(key);
    }
    let (_scratch, map) = converted(&map, "map", "f32");
    assert_eq!(map.metadata().entries(), plain.metadata().entries());

    let mut less = Hf::micro();
    less.generation_config = None;
    less.text_config()["final_logit_softcapping"] = json!(null);
    less.files.insert("chat_template.jinja".to_owned(), Some(b"{{ from_a_file }}".to_vec()));
    let (_scratch, less) = converted(&less, "less", "f32");
    let meta = less.metadata();
    assert_eq!(meta.str("tokenizer.chat_template").unwrap(), "{{ from_a_file }}");
    assert!(meta.entries().iter().all(|(key, _)| !key.starts_with("diffusion.eb_") && !key.contains("softcapping")));
}

/// Without a list of special tokens, the flags in tokenizer.json count. Merges may be strings.
#[test]
fn other_forms_of_the_tokenizer() {
    let (_scratch, plain) = converted(&Hf::micro(), "tokenizer-plain", "f32");
    let kinds = plain.metadata().i32s("tokenizer.ggml.token_type").unwrap();
    // <pad> .. <mask>, <|tool>; <|tool_call> is visible; <unused0> is nothing special; <0x00>.
    assert_eq!((kinds[0], kinds[4], kinds[5], kinds[7], kinds[17], kinds[29]), (3, 3, 3, 4, 1, 6));

    let mut hf = Hf::micro();
    hf.tokenizer_config.as_object_mut().unwrap().remove("additional_special_tokens");
    for merge in hf.tokenizer["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    let (_scratch, file) = converted(&hf, "tokenizer-flags", "f32");
    let kinds = file.metadata().i32s("tokenizer.ggml.token_type").unwrap();
    assert_eq!((kinds[5], kinds[7], kinds[17], kinds[29]), (3, 4, 3, 6));
    assert_eq!(file.metadata().get("tokenizer.ggml.merges"), plain.metadata().get("tokenizer.ggml.merges"));

    hf.files.insert("tokenizer_config.json".to_owned(), None);
    let scratch = Scratch::new("tokenizer-bare");
    let output = hf.convert(&scratch, "f32");
    assert!(output.status.success());
    assert!(stderr(&output).starts_with("Warn: ") && stderr(&output).ends_with("no chat template found\n"));
    let file = Gguf::open(&scratch.out()).unwrap();
    let ids = |key| file.metadata().opt_u32(&format!("tokenizer.ggml.{key}_token_id")).unwrap();
    assert_eq!(
        (ids("bos"), ids("eos"), ids("padding"), ids("unknown"), ids("mask")),
        (Some(2), Some(1), Some(0), None, None)
    );
}

/// A fine-tuned checkpoint may have a shared weight under the encoder's name, or under both.
#[test]
fn shared_weights_under_the_encoders_name() {
    let (_scratch, plain) = converted(&Hf::micro(), "shared-plain", "f32");
    let mut hf = Hf::micro();
    let tensors = std::mem::take(&mut hf.tensors);
    for (name, tensor) in tensors {
        let moved = name.replace("model.decoder.", "model.encoder.language_model.");
        let keeps =
            name.ends_with("layer_scalar") || name.contains("self_conditioning") || name == "model.decoder.norm.weight";
        if name == "model.decoder.norm.weight" {
            hf.tensors.insert(moved, tensor.clone());
            hf.tensors.insert(name, tensor);
        } else {
            hf.tensors.insert(if keeps { name } else { moved }, tensor);
        }
    }
    let (_scratch, file) = converted(&hf, "shared", "f32");
    assert_same_tensors(&file, &plain);
}

/// F16 weights are widened exactly; rows that are no whole number of blocks become F16.
#[test]
fn f16_sources_and_rows_that_do_not_fit() {
    let mut hf = Hf::micro();
    // 40 is no multiple of 32: the expert width is halved twice and rounded.
    hf.text_config()["moe_intermediate_size"] = json!(8);
    for (name, Tensor(dtype, shape, data)) in &mut hf.tensors {
        if name.ends_with("experts.gate_up_proj") {
            *shape = vec![6, 16, 64];
            data.truncate(6 * 16 * 64 * 4);
        }
        if name.ends_with("experts.down_proj") {
            *shape = vec![6, 64, 8];
            *dtype = Dtype::F16;
            *data = [0x00, 0x3c].repeat(6 * 64 * 8);
        }
    }
    let (_scratch, file) = converted(&hf, "f16", "q8_0");
    let down = file.require("blk.0.ffn_down_exps.weight").unwrap();
    assert_eq!((down.format.name, &down.shape[..], &down.data[..2]), ("F16", &[8, 64, 6][..], &[0x00, 0x3c][..]));
    assert_eq!(file.require("blk.0.ffn_gate_up_exps.weight").unwrap().format.name, "Q8_0");
}

#[test]
fn the_name_is_the_callers_or_the_directorys() {
    let (scratch, file) = converted(&Hf::micro(), "name", "f32");
    assert_eq!(file.metadata().str("general.name").unwrap(), "hf");
    let hub = scratch.0.join("models--someone--some-model/snapshots");
    std::fs::create_dir_all(&hub).unwrap();
    std::fs::rename(scratch.0.join("hf"), hub.join("0123abcd")).unwrap();
    assert!(convert(&hub.join("0123abcd"), &scratch.out(), "f32").status.success());
    assert_eq!(Gguf::open(&scratch.out()).unwrap().metadata().str("general.name").unwrap(), "some-model");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    command.arg("convert").args([&hub.join("0123abcd"), &scratch.out()]).args(["--name", "My Model"]);
    assert!(command.status().unwrap().success());
    assert_eq!(Gguf::open(&scratch.out()).unwrap().metadata().str("general.name").unwrap(), "My Model");
}

#[test]
fn inspect_lists_keys_and_tensors() {
    let inspect =
        |path: &Path| Command::new(env!("CARGO_BIN_EXE_dgemma-quantize")).arg("inspect").arg(path).output().unwrap();
    let output = inspect(&golden().join("peer/micro-Q8_0.gguf"));
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line:?} is not in:\n{text}");
    has("GGUF version 3, alignment 32, 307776 bytes");
    has("51 keys");
    has("75 tensors (shape: row length first)");
    has("  diffusion-gemma.block_count: u32 = 3");
    has("  diffusion-gemma.attention.head_count_kv: array of i32[3] = [2, 2, 1]");
    has("  tokenizer.ggml.scores: array of f32[512] = [-1000, -1000, -1000, -1000, -1000, -1000, -1000, -1000, ...]");
    has("  blk.2.ffn_down_exps.weight               Q8_0   32 x 64 x 6                       13056");
    has("  Q8_0       30           260096           276352   8.500");

    let output = inspect(Path::new("/nonexistent.gguf"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "error: /nonexistent.gguf: No such file or directory (os error 2)\n");
}

/// Special arrays keep their types: readers look for i32, bool and f32.
#[test]
fn arrays_have_the_published_types() {
    let (_scratch, file) = converted(&Hf::micro(), "arrays", "f32");
    let get = |key| file.metadata().get(key).unwrap();
    assert!(matches!(get("diffusion-gemma.attention.head_count_kv"), Value::Array(Array::I32(_))));
    assert!(matches!(get("diffusion-gemma.attention.sliding_window_pattern"), Value::Array(Array::Bool(_))));
    assert!(matches!(get("tokenizer.ggml.token_type"), Value::Array(Array::I32(_))));
    assert!(matches!(get("tokenizer.ggml.scores"), Value::Array(Array::F32(_))));
}

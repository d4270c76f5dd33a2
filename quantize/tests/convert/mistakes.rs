//! Every mistake is one line that names the file and the place, exit status 1, and no output file.

use crate::hf::{Hf, Scratch, Tensor, convert, stderr};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

const INDEX: &str = "model.safetensors.index.json";

/// Converts a changed checkpoint and compares the complaint, in which `HF` stands for the checkpoint's directory.
#[track_caller]
pub fn refused(change: impl FnOnce(&mut Hf), message: &str) {
    refused_as("f16", change, message);
}

#[track_caller]
fn refused_as(target: &str, change: impl FnOnce(&mut Hf), message: &str) {
    let mut hf = Hf::micro();
    change(&mut hf);
    let scratch = Scratch::new(&format!("mistake-{:?}", std::thread::current().id()));
    let output = hf.convert(&scratch, target);
    let said = stderr(&output).replace(&format!("{}/hf", scratch.0.display()), "HF");
    assert_eq!(said, format!("error: {message}\n"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(scratch.0.join("out")).unwrap().count(), 0, "something was written");
}

fn text(change: impl FnOnce(&mut Value)) -> impl FnOnce(&mut Hf) {
    |hf| change(hf.text_config())
}

fn tensor(name: &'static str, change: impl FnOnce(&mut Tensor)) -> impl FnOnce(&mut Hf) {
    move |hf| change(hf.tensors.get_mut(name).expect("a tensor"))
}

fn file(name: &'static str, bytes: &'static [u8]) -> impl FnOnce(&mut Hf) {
    move |hf| drop(hf.files.insert(name.to_owned(), Some(bytes.to_vec())))
}

#[test]
fn files() {
    let missing = "No such file or directory (os error 2)";
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        refused(|hf| drop(hf.files.insert(name.to_owned(), None)), &format!("HF/{name}: {missing}"));
    }
    let message = "HF/config.json: is not valid JSON: EOF while parsing a value at line 1 column 1";
    refused(file("config.json", b"{"), &message.replace("a value", "an object"));
    refused(file("config.json", b"[]"), "HF/config.json: key `architectures`: is missing");
    let scratch = Scratch::new("nowhere");
    let output = convert(&scratch.0.join("nowhere"), &scratch.out(), "f32");
    assert!(stderr(&output).ends_with(&format!("/nowhere/config.json: {missing}\n")));
}

#[test]
fn an_output_that_cannot_be_written() {
    let scratch = Scratch::new("no-directory");
    let golden = crate::hf::golden().join("micro/hf");
    let output = convert(&golden, &scratch.0.join("missing/model.gguf"), "f32");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/missing/model.gguf"), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1);
    let output = convert(&golden, &scratch.0, "f32");
    assert!(stderr(&output).ends_with(": is a directory, expected a file name\n"));
}

#[test]
fn configurations() {
    let config = |message: &str| format!("HF/config.json: key `text_config.{message}");
    refused(
        |hf| hf.config["architectures"] = json!(["Gemma3ForCausalLM"]),
        "HF/config.json: key `architectures`: is not DiffusionGemma: expected DiffusionGemmaForBlockDiffusion",
    );
    refused(
        |hf| hf.config["canvas_length"] = json!(0),
        "HF/config.json: key `canvas_length`: is 0, expected a positive integer",
    );
    refused(
        |hf| hf.config["tie_word_embeddings"] = json!(false),
        "HF/config.json: key `tie_word_embeddings`: only true is supported",
    );
    refused(text(|c| c["attention_bias"] = json!(true)), &config("attention_bias`: only false is supported"));
    refused(
        text(|c| c["hidden_activation"] = json!("silu")),
        &config("hidden_activation`: only gelu_pytorch_tanh is supported"),
    );
    refused(
        text(|c| c["use_bidirectional_attention"] = json!("all")),
        &config("use_bidirectional_attention`: only vision is supported"),
    );
    refused(text(|c| c["hidden_size"] = json!(null)), &config("hidden_size`: is missing"));
    refused(
        text(|c| c["hidden_size"] = json!(-64)),
        &config("hidden_size`: is -64, expected a non-negative 32-bit integer"),
    );
    refused(text(|c| c["rms_norm_eps"] = json!("small")), &config("rms_norm_eps`: is \"small\", expected a number"));
    refused(
        text(|c| c["layer_types"][1] = json!("linear")),
        &config("layer_types[1]`: is neither sliding_attention nor full_attention"),
    );
    refused(
        text(|c| c["num_hidden_layers"] = json!(4)),
        &config("layer_types`: has 3 entries, but num_hidden_layers is 4"),
    );
    refused(
        text(|c| c["layer_types"][2] = json!("sliding_attention")),
        &config("layer_types`: ends with sliding_attention, but the last layer is always full"),
    );
    refused(
        text(|c| c["num_key_value_heads"] = json!(3)),
        &config("num_attention_heads`: 4 heads cannot share 3 K/V heads evenly in layer 0"),
    );
    refused(text(|c| c["top_k_experts"] = json!(7)), &config("top_k_experts`: is 7, but there are only 6 experts"));
    refused(
        text(|c| c["global_head_dim"] = json!(64)),
        &config("per_layer_config`: does not agree with global_head_dim and num_global_key_value_heads"),
    );
    refused(
        text(|c| c["per_layer_config"]["0"] = json!({"head_dim": 32})),
        &config("per_layer_config.0`: is about a sliding layer, which the format cannot express"),
    );
    refused(
        text(|c| c["per_layer_config"]["3"] = json!({"head_dim": 32})),
        &config("per_layer_config.3`: is about a layer that does not exist"),
    );
    refused(
        text(|c| (c["per_layer_config"], c["global_head_dim"]) = (json!(null), json!(null))),
        &config("global_head_dim`: is missing, and so is per_layer_config"),
    );
    let rope = |key: &str, value: Value| {
        let key = key.to_owned();
        text(move |c| c["rope_parameters"]["full_attention"][key] = value)
    };
    refused(
        rope("rope_type", json!("yarn")),
        &config("rope_parameters.full_attention.rope_type`: only proportional is supported"),
    );
    refused(
        rope("partial_rotary_factor", json!(1.5)),
        &config("rope_parameters.full_attention.partial_rotary_factor`: is not between 0 and 1"),
    );
    refused(
        |hf| hf.generation_config = Some(json!({"t_min": "cold"})),
        "HF/generation_config.json: key `t_min`: is \"cold\", expected a number",
    );
}

/// Found with the fuzz targets: memory was asked for by such numbers before anything said that they cannot be.
#[test]
fn numbers_far_from_what_is_there() {
    let most = u32::MAX;
    let config = |key: &str, limit: u32| format!("HF/config.json: key `{key}`: is {most}, expected 1 to {limit}");
    refused(|hf| hf.config["canvas_length"] = json!(most), &config("canvas_length", 65_536));
    for (key, limit) in [("num_experts", 65_536), ("num_attention_heads", 65_536), ("hidden_size", 1 << 20)] {
        refused(text(|c| c[key] = json!(most)), &config(&format!("text_config.{key}"), limit));
    }
    let head_dim = |c: &mut Value| {
        c["global_head_dim"] = json!(most - 1);
        c["per_layer_config"] = json!(null);
    };
    refused(text(head_dim), &config("text_config.global_head_dim", 65_536).replace(&most.to_string(), "4294967294"));
    let message = format!("no token has id 512, but config.json says vocab_size {most}");
    refused(text(|c| c["vocab_size"] = json!(most)), &format!("HF/tokenizer.json: key `model.vocab`: {message}"));
}

#[test]
fn tokenizers() {
    let vocab = |message: &str| format!("HF/tokenizer.json: key `model.vocab`: {message}");
    refused(text(|c| c["vocab_size"] = json!(513)), &vocab("no token has id 512, but config.json says vocab_size 513"));
    refused(
        |hf| drop(hf.tokenizer["model"]["vocab"].as_object_mut().unwrap().insert("new".to_owned(), json!(512))),
        &vocab("token \"new\" has id 512, but config.json says vocab_size 512"),
    );
    refused(
        |hf| hf.tokenizer["model"]["type"] = json!("Unigram"),
        "HF/tokenizer.json: key `model`: is not BPE with byte fallback",
    );
    refused(
        |hf| hf.tokenizer["added_tokens"][3]["id"] = json!(9),
        "HF/tokenizer.json: key `added_tokens[3]`: \"<unk>\" has id 9 here and 3 in the vocabulary",
    );
    refused(
        |hf| hf.tokenizer["model"]["merges"][1] = json!(["a b", "c"]),
        "HF/tokenizer.json: key `model.merges[1]`: \"a b\" cannot be part of a merge",
    );
    refused(
        |hf| hf.tokenizer["model"]["merges"][1] = json!(["a", "b", "c"]),
        "HF/tokenizer.json: key `model.merges[1]`: is not a pair",
    );
    refused(
        |hf| hf.tokenizer_config["eos_token"] = json!("<end>"),
        "HF/tokenizer_config.json: key `eos_token`: \"<end>\" is not in tokenizer.json",
    );
    refused(
        |hf| hf.tokenizer_config["chat_template"] = json!([{"name": "rag", "template": "x"}]),
        "HF/tokenizer_config.json: key `chat_template`: has no template called default",
    );
}

#[test]
fn tensors_that_do_not_fit() {
    const NORM: &str = "model.decoder.layers.1.input_layernorm.weight";
    let at = |name: &str| format!("HF/model.safetensors: tensor `{name}`: ");
    refused(|hf| drop(hf.tensors.remove(NORM)), &(at(NORM) + "is missing"));
    const SCALAR: &str = "model.encoder.language_model.layers.0.layer_scalar";
    refused(|hf| drop(hf.tensors.remove(SCALAR)), &(at(SCALAR) + "is missing"));
    let unknown = "is not part of a DiffusionGemma with this config.json";
    for name in [
        "lm_head.weight",
        "model.decoder.layers.3.input_layernorm.weight",
        "model.decoder.layers.2.self_attn.v_proj.weight",
        "model.encoder.language_model.layers.9.input_layernorm.weight",
    ] {
        let add = |hf: &mut Hf| drop(hf.tensors.insert(name.to_owned(), Tensor(Dtype::F32, vec![1], vec![0; 4])));
        refused(add, &(at(name) + unknown));
    }
    let shape = at(NORM) + "has shape [8, 8], but config.json asks for [64]";
    refused(tensor(NORM, |t| t.1 = vec![8, 8]), &shape);
    let dtype = at(NORM) + "is stored as I32, expected F32, F16 or BF16";
    refused(tensor(NORM, |t| t.0 = Dtype::I32), &dtype);
}

/// A config.json with one layer less, or one more, than the tensors are of.
#[test]
fn another_number_of_layers() {
    let layers = |kinds: &'static [&'static str]| {
        text(move |c| {
            c["num_hidden_layers"] = json!(kinds.len());
            c["layer_types"] = json!(kinds);
            c["per_layer_config"] = json!(null);
        })
    };
    let (sliding, full) = ("sliding_attention", "full_attention");
    const EXTRA: &str = "model.decoder.layers.2.experts.down_proj";
    const MISSING: &str = "model.decoder.layers.3.self_attn.k_proj.weight";
    // The shapes of the two layers that are left must fit, or they are what is complained about.
    let two = |hf: &mut Hf| {
        layers(&["sliding_attention", "full_attention"])(hf);
        for part in ["q_proj.weight", "k_proj.weight", "o_proj.weight", "q_norm.weight", "k_norm.weight"] {
            let [from, to] = [2, 1].map(|n| format!("model.decoder.layers.{n}.self_attn.{part}"));
            hf.tensors.insert(to, hf.tensors[&from].clone());
        }
        hf.tensors.remove("model.decoder.layers.1.self_attn.v_proj.weight");
    };
    let unknown = "is not part of a DiffusionGemma with this config.json";
    refused(two, &format!("HF/model.safetensors: tensor `{EXTRA}`: {unknown}"));
    let four = |hf: &mut Hf| {
        text(move |c| {
            c["num_hidden_layers"] = json!(4);
            c["layer_types"] = json!([sliding, sliding, full, full]);
            c["per_layer_config"] = json!(null);
        })(hf);
    };
    refused(four, &format!("HF/model.safetensors: tensor `{MISSING}`: is missing"));
}

#[test]
fn numbers_that_are_none() {
    const Q: &str = "model.decoder.layers.1.self_attn.q_proj.weight";
    let set = |at: usize, x: f32| tensor(Q, move |t| t.2[4 * at..4 * at + 4].copy_from_slice(&x.to_le_bytes()));
    let at = format!("HF/model.safetensors: tensor `{Q}`: ");
    for target in ["f32", "f16", "bf16", "q8_0"] {
        refused_as(target, set(77, f32::NAN), &format!("{at}element 77 is NaN"));
        refused_as(target, set(0, f32::NEG_INFINITY), &format!("{at}element 0 is -inf"));
    }
    refused_as("f16", set(5, 1e5), &format!("{at}element 5 is 100000, too large for F16"));
    refused_as("nvfp4", set(5, -2689.0), &format!("{at}element 5 is -2689, too large for NVFP4"));
    refused_as(
        "bf16",
        set(6, 3.4e38),
        &format!("{at}element 6 is 340000000000000000000000000000000000000, too large for BF16"),
    );
}

#[test]
fn damaged_safetensors() {
    let whole = Hf::micro().shard(|_| true);
    let message = "HF/model.safetensors: is truncated or not a safetensors file: ";
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        let mut hf = Hf::micro();
        hf.files.insert("model.safetensors".to_owned(), Some(whole[..length].to_vec()));
        let scratch = Scratch::new("truncated");
        let output = hf.convert(&scratch, "f32");
        let said = stderr(&output).replace(&format!("{}/hf", scratch.0.display()), "HF");
        assert!(said.starts_with(&format!("error: {message}")) && said.lines().count() == 1, "{length}: {said}");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(std::fs::read_dir(scratch.0.join("out")).unwrap().count(), 0, "something was written");
    }
}

/// A header with one name twice: with the same place, which a JSON reader would merge without a word, and with another.
#[test]
fn a_name_twice_in_one_header() {
    const NORM: &str = "model.decoder.norm.weight";
    let whole = Hf::micro().shard(|_| true);
    let length = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&whole[8..length]).unwrap();
    let other = header.keys().find(|name| *name != NORM).unwrap();
    for place in [NORM, other] {
        let text = String::from_utf8(whole[8..length].to_vec()).unwrap();
        let twice = text.replacen('{', &format!("{{\"{NORM}\":{},", header[place]), 1);
        let mut bytes = (twice.len() as u64).to_le_bytes().to_vec();
        bytes.extend(twice.as_bytes());
        bytes.extend(&whole[length..]);
        let change = |hf: &mut Hf| drop(hf.files.insert("model.safetensors".to_owned(), Some(bytes)));
        refused(change, &format!("HF/model.safetensors: tensor `{NORM}`: appears twice in the header"));
    }
}

/// Header bytes overwritten, from a fixed seed: an error or a file, never a panic (whose exit status is 101).
#[test]
fn hostile_safetensors() {
    let whole = Hf::micro().shard(|_| true);
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let scratch = Scratch::new("hostile");
    let hf = Hf::micro();
    assert!(hf.convert(&scratch, "q8_0").status.success());
    let mut state = 5u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    for _ in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..=below(3) {
            let at = if below(4) == 0 { below(8) } else { below(header) };
            bytes[at] = b"0123456789[]{}:,\"\0\xff "[below(20)];
        }
        std::fs::write(scratch.0.join("hf/model.safetensors"), bytes).unwrap();
        let output = convert(&scratch.0.join("hf"), &scratch.out(), "q8_0");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
    }
}

#[test]
fn shards() {
    fn sharded(change: impl FnOnce(&mut Hf)) -> impl FnOnce(&mut Hf) {
        |hf| {
            *hf = hf.clone().sharded();
            change(hf);
        }
    }
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    refused(
        sharded(|hf| drop(hf.files.insert(two.to_owned(), None))),
        &format!("HF/{two}: No such file or directory (os error 2)"),
    );
    refused(
        sharded(|hf| drop(hf.files.insert(two.to_owned(), hf.files[one].clone()))),
        &format!("HF/{one}: tensor `model.decoder.layers.0.experts.down_proj`: is also in HF/{two}"),
    );
    let index = |change: fn(&mut Value)| {
        sharded(move |hf| {
            let mut index = serde_json::from_slice(hf.files[INDEX].as_ref().unwrap()).unwrap();
            change(&mut index);
            hf.files.insert(INDEX.to_owned(), Some(index.to_string().into_bytes()));
        })
    };
    refused(index(|i| *i = json!({})), &format!("HF/{INDEX}: key `weight_map`: is missing"));
    refused(
        index(|i| i["weight_map"]["new"] = json!("model-00002-of-00002.safetensors")),
        &format!("HF/{two}: tensor `new`: is missing, but the index lists it"),
    );
    refused(
        index(|i| i["weight_map"]["model.decoder.norm.weight"] = json!("model-00001-of-00002.safetensors")),
        &format!("HF/{two}: tensor `model.decoder.norm.weight`: the index says it is in HF/{one}"),
    );
    refused(
        index(|i| i["weight_map"]["x"] = json!("../elsewhere.safetensors")),
        &format!("HF/{INDEX}: key `weight_map.x`: \"../elsewhere.safetensors\" is not a plain file name"),
    );
}

//! Files that say the same thing in another way: gate and up of the experts apart, the layout of the second llama.cpp
//! branch, counts in other types, an untied head. Made here from a file of the usual layout, with our writer.

mod common;
use common::*;
use dgemma::engine::{Model, ModelParams};
use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::gguf::{Array, Gguf, Value};
use dgemma::log;
use std::sync::{Arc, Mutex};

/// A file in memory, to be changed and written.
struct File {
    keys: Vec<(String, Value)>,
    tensors: Vec<(Plan, Vec<u8>)>,
}

impl File {
    fn micro() -> Self {
        let file = Gguf::open(&golden("peer").join("micro-f32.gguf")).unwrap();
        let tensor = |name: &str| {
            let t = file.tensor(name).unwrap();
            (Plan { name: t.name.clone(), shape: t.shape.clone(), format: t.format }, t.data.to_vec())
        };
        File {
            keys: file.metadata().entries().to_vec(),
            tensors: file.tensors().iter().map(|t| tensor(&t.name)).collect(),
        }
    }

    fn set(&mut self, key: &str, value: Option<Value>) {
        self.keys.retain(|(k, _)| k != key);
        self.keys.extend(value.map(|v| (key.to_owned(), v)));
    }

    fn take(&mut self, name: &str) -> (Plan, Vec<u8>) {
        let at = self.tensors.iter().position(|(plan, _)| plan.name == name).unwrap();
        self.tensors.remove(at)
    }

    fn put(&mut self, name: &str, like: &Plan, shape: Vec<usize>, data: Vec<u8>) {
        self.tensors.push((Plan { name: name.to_owned(), shape, format: like.format }, data));
    }

    fn model(&self) -> dgemma::Result<Model> {
        let file = Gguf::from_bytes("test.gguf".as_ref(), to_bytes(&self.keys, &self.tensors).unwrap())?;
        Model::from_gguf(file, &ModelParams::default(), |_| true)
    }

    fn logits(&self) -> Vec<f32> {
        let ids = |kind: &str| raw_ids(&golden("peer").join(format!("micro-{kind}20.i32")));
        let mut context = context(&self.model().unwrap(), 0);
        context.set_tokens(&ids("p")).unwrap();
        context.canvas_logits(&ids("c"), None).unwrap()
    }
}

const LAYERS: usize = 3;

/// Splits `[hidden, 2 f, experts]` into two stacks of `[hidden, f, experts]`.
fn split_experts(file: &mut File) {
    for layer in 0..LAYERS {
        let (plan, data) = file.take(&format!("blk.{layer}.ffn_gate_up_exps.weight"));
        let (hidden, f, experts) = (plan.shape[0], plan.shape[1] / 2, plan.shape[2]);
        let half = data.len() / experts / 2;
        let halves =
            |which: usize| -> Vec<u8> { data.chunks(half).skip(which).step_by(2).flatten().copied().collect() };
        file.put(&format!("blk.{layer}.ffn_gate_exps.weight"), &plan, vec![hidden, f, experts], halves(0));
        file.put(&format!("blk.{layer}.ffn_up_exps.weight"), &plan, vec![hidden, f, experts], halves(1));
    }
}

#[test]
fn split_experts_and_other_spellings_give_the_same_logits() {
    let want = File::micro().logits();
    let mut split = File::micro();
    split_experts(&mut split);
    assert_eq!(split.logits(), want);

    let mut spelled = File::micro();
    let prefix = "diffusion-gemma.attention";
    spelled.set(&format!("{prefix}.head_count_kv"), Some(Value::Array(Array::U32(vec![2, 2, 1]))));
    spelled.set(&format!("{prefix}.sliding_window_pattern"), Some(Value::U32(3))); // every third layer is full
    spelled.set("diffusion-gemma.expert_feed_forward_length", None);
    spelled.take("rope_freqs.weight"); // a quarter of the pairs, as the writers put it
    spelled.tensors.reverse(); // order carries no meaning
    assert_eq!(spelled.logits(), want);
}

#[test]
fn an_untied_head_is_used() {
    let want = File::micro().logits();
    let mut file = File::micro();
    let (plan, data) = file.take("token_embd.weight");
    // The head's rows in another order: logits come out in that order.
    let row = data.len() / plan.shape[1];
    let reversed: Vec<u8> = data.chunks(row).rev().flatten().copied().collect();
    file.put("output.weight", &plan, plan.shape.clone(), reversed);
    file.put("token_embd.weight", &plan, plan.shape.clone(), data);
    let mut got = file.logits();
    got.chunks_mut(plan.shape[1]).for_each(<[f32]>::reverse);
    assert_eq!(got, want);
}

/// The second branch: another name for a norm, no encoder scalars (the decoder's are used, with a warning), no
/// `diffusion.*` keys (256 tokens of canvas, with a warning).
#[test]
fn the_second_branch_s_layout_loads_with_warnings() {
    let mut file = File::micro();
    let (plan, data) = file.take("self_cond_pre_norm.weight");
    file.put("self_cond_norm.weight", &plan, plan.shape.clone(), data);
    let mut with_decoder_scalars = File::micro();
    for layer in 0..LAYERS {
        let name = format!("blk.{layer}.enc_layer_output_scale.weight");
        file.take(&name);
        let (plan, _) = with_decoder_scalars.take(&name);
        let (decoder, data) = with_decoder_scalars.take(&format!("blk.{layer}.layer_output_scale.weight"));
        with_decoder_scalars.put(&decoder.name, &plan, vec![1], data.clone());
        with_decoder_scalars.put(&name, &plan, vec![1], data);
    }
    assert_eq!(file.logits(), with_decoder_scalars.logits());
    assert_ne!(file.logits(), File::micro().logits(), "encoder scalars have no effect");

    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    log::set_sink(Some(Arc::new(move |_, text: &str| sink.lock().unwrap().push(text.to_owned()))));
    file.keys.retain(|(k, _)| !k.starts_with("diffusion."));
    let model = file.model().unwrap();
    log::set_sink(None);
    assert_eq!((model.config().canvas, model.sampler_defaults().steps), (256, 48));
    let heard = heard.lock().unwrap().join("\n");
    assert!(heard.contains("no `diffusion.canvas_length`, using 256"), "{heard}");
    assert!(heard.contains("no encoder layer scalars, using the decoder's"), "{heard}");
}

/// One clear line for each way in which a model can be incomplete.
#[test]
fn what_is_wrong_is_named() {
    let expect = |what: &str, change: &dyn Fn(&mut File), message: &str| {
        let mut file = File::micro();
        change(&mut file);
        let error = file.model().map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, format!("test.gguf: {message}"), "{what}");
    };
    let set = |key: &'static str, value: Value| move |file: &mut File| file.set(key, Some(value.clone()));
    expect(
        "architecture",
        &set("general.architecture", Value::String("gemma3".into())),
        "key `general.architecture`: is `gemma3`, expected `diffusion-gemma`",
    );
    expect(
        "no layers",
        &set("diffusion-gemma.block_count", Value::U32(0)),
        "key `diffusion-gemma.block_count`: is 0, expected 1 to 1024",
    );
    expect(
        "pattern",
        &set("diffusion-gemma.attention.sliding_window_pattern", Value::Array(Array::Bool(vec![true]))),
        "key `diffusion-gemma.attention.sliding_window_pattern`: has 1 entries, expected one for each of 3 layers",
    );
    expect(
        "heads",
        &set("diffusion-gemma.attention.head_count_kv", Value::Array(Array::I32(vec![2, 3, 1]))),
        "key `diffusion-gemma.attention.head_count_kv`: has an entry 3, which does not divide 4 query heads",
    );
    expect(
        "experts",
        &set("diffusion-gemma.expert_used_count", Value::U32(9)),
        "key `diffusion-gemma.expert_used_count`: is 9, expected 1 to 6",
    );
    expect(
        "eps",
        &set("diffusion-gemma.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
        "key `diffusion-gemma.attention.layer_norm_rms_epsilon`: is NaN, expected a positive number",
    );
    expect(
        "canvas",
        &set("diffusion.canvas_length", Value::U32(0)),
        "key `diffusion.canvas_length`: is 0, expected 1 to 65536",
    );
    expect(
        "sampler",
        &set("diffusion.eb_t_min", Value::F32(-1.0)),
        "sampler keys `diffusion.eb_*`: argument `t_min`: is -1, expected a positive number",
    );
    expect(
        "value length",
        &set("diffusion-gemma.attention.value_length", Value::U32(16)),
        "key `diffusion-gemma.attention.value_length`: is 16, expected the key length 32",
    );
    expect(
        "width",
        &set("diffusion-gemma.embedding_length", Value::U32(32)),
        "tensor `blk.0.attn_v.weight`: has shape [64, 32], expected [32, 32] (contiguous dimension first)",
    );
    expect(
        "missing tensor",
        &|f| drop(f.take("blk.1.ffn_down_exps.scale")),
        "tensor `blk.1.ffn_down_exps.scale`: is missing",
    );
    expect(
        "missing v",
        &|f| drop(f.take("blk.0.attn_v.weight")),
        "tensor `blk.0.attn_v.weight`: is missing on a sliding layer",
    );
    expect(
        "missing experts",
        &|f| drop(f.take("blk.2.ffn_gate_up_exps.weight")),
        "tensor `blk.2.ffn_gate_up_exps.weight`: is missing, and so is the split form `ffn_gate_exps.weight`",
    );
}

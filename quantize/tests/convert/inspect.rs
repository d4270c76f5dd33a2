//! `inspect --json` and `diff`.

use crate::hf::{Scratch, golden, stderr};
use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::gguf::{Array, Value};
use dgemma::quant;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(command: &str, paths: &[&Path], options: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    program.arg(command).args(paths).args(options).output().unwrap()
}

fn inspected(options: &[&str]) -> Json {
    let output = run("inspect", &[&golden().join("peer/micro-Q8_0.gguf")], options);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn json_has_everything() {
    let all = inspected(&["--json"]);
    assert_eq!((&all["version"], &all["alignment"], &all["bytes"]), (&json!(3), &json!(32), &json!(307_776)));
    assert_eq!(all["total"], json!({ "tensors": 75, "elements": 263_080, "bytes": 288_288 }));
    assert_eq!(all["totals"]["Q8_0"], json!({ "tensors": 30, "elements": 260_096, "bytes": 276_352 }));
    let entry = |list: &str, name: &str, key: &str| {
        all[list].as_array().unwrap().iter().find(|e| e[name] == key).unwrap_or_else(|| panic!("{key}")).clone()
    };
    let key = |name: &str| entry("keys", "key", name);
    assert_eq!(
        key("diffusion-gemma.attention.head_count_kv"),
        json!({
            "key": "diffusion-gemma.attention.head_count_kv", "type": "array of i32", "length": 3, "value": [2, 2, 1]
        })
    );
    assert_eq!((&key("diffusion.eb_t_min")["type"], &key("diffusion.eb_t_min")["value"]), (&json!("f32"), &json!(0.4)));
    assert_eq!(key("diffusion-gemma.attention.causal")["value"], json!(false));
    assert_eq!(key("tokenizer.ggml.tokens")["value"].as_array().unwrap().len(), 512);
    let tensor = entry("tensors", "name", "blk.2.ffn_down_exps.weight");
    assert_eq!((&tensor["type"], &tensor["shape"]), (&json!("Q8_0"), &json!([32, 64, 6])));
    // The file is full of tensors from the data section to its end.
    let last = all["tensors"].as_array().unwrap().last().unwrap();
    let end = last["offset"].as_u64().unwrap() + last["bytes"].as_u64().unwrap().next_multiple_of(32);
    assert_eq!(end, 307_776);
}

#[test]
fn json_with_short_arrays() {
    let short = inspected(&["--json", "--elements=2"]);
    let tokens = short["keys"].as_array().unwrap().iter().find(|e| e["key"] == "tokenizer.ggml.tokens").unwrap();
    assert_eq!((&tokens["length"], &tokens["value"]), (&json!(512), &json!(["<pad>", "<eos>"])));
    let output = run("inspect", &[Path::new("/nonexistent.gguf")], &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "error: /nonexistent.gguf: No such file or directory (os error 2)\n");
}

type Tensor<'a> = (&'a str, &'a [usize], &'a str, &'a [f32]);

fn file(scratch: &Scratch, name: &str, keys: &[(&str, Value)], tensors: &[Tensor]) -> PathBuf {
    let keys: Vec<_> = keys.iter().map(|(key, value)| (format!("k.{key}"), value.clone())).collect();
    let tensor = |&(name, shape, format, values): &Tensor| {
        let format = quant::by_name(format).unwrap();
        let mut data = vec![0; values.len() / format.block * format.block_bytes];
        (format.encode)(values, None, &mut data);
        (Plan { name: name.to_owned(), shape: shape.to_vec(), format }, data)
    };
    let path = scratch.0.join(name);
    std::fs::write(&path, to_bytes(&keys, &tensors.iter().map(tensor).collect::<Vec<_>>()).unwrap()).unwrap();
    path
}

/// Every kind of difference, each in one line; and status 1, as of `diff`.
#[test]
fn differences() {
    let scratch = Scratch::new("diff");
    let list = |values: &[i32]| Value::Array(Array::I32(values.to_vec()));
    let text = |text: &str| Value::String(text.to_owned());
    let a_keys = [
        ("same", Value::U32(1)),
        ("number", Value::U32(1)),
        ("type", Value::U32(1)),
        ("left", Value::Bool(true)),
        ("list", list(&[1, 2, 3])),
        ("longer", list(&[1])),
        ("text", text("abc")),
    ];
    let b_keys = [
        ("text", text("abd")),
        ("number", Value::U32(2)),
        ("type", Value::I32(1)),
        ("right", text("x")),
        ("list", list(&[1, 9, 3])),
        ("longer", list(&[1, 2])),
        ("same", Value::U32(1)),
    ];
    let (ones, mut other) = ([1.0f32; 64], [1.0f32; 64]);
    other[5] = 3.0;
    let a_tensors: [Tensor; 5] = [
        ("same", &[64], "Q8_0", &ones),
        ("values", &[32, 2], "F32", &ones),
        ("shape", &[32, 2], "F32", &ones),
        ("type", &[64], "F32", &ones),
        ("left", &[64], "F32", &ones),
    ];
    let b_tensors: [Tensor; 5] = [
        ("type", &[64], "BF16", &ones),
        ("values", &[32, 2], "F32", &other),
        ("shape", &[64], "F16", &ones),
        ("right", &[64], "F32", &ones),
        ("same", &[64], "Q8_0", &ones),
    ];
    let a = file(&scratch, "a.gguf", &a_keys, &a_tensors);
    let b = file(&scratch, "b.gguf", &b_keys, &b_tensors);
    let output = run("diff", &[&a, &b], &[]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), String::new()));
    let printed = String::from_utf8(output.stdout).unwrap();
    let (left, right) = (a.display(), b.display());
    let expected = [
        "key k.number: 1 | 2".to_owned(),
        "key k.type: u32 1 | i32 1".to_owned(),
        format!("key k.left: only in {left}: true"),
        "key k.list: element 1: 2 | 9".to_owned(),
        "key k.longer: 1 | 2 elements, the first 1 are equal".to_owned(),
        "key k.text: \"abc\" | \"abd\", from byte 2 on".to_owned(),
        format!("key k.right: only in {right}: \"x\""),
        // 1.0 and 3.0 are 3f800000 and 40400000; the cosine is 66 / sqrt(64 * 72).
        "tensor values: 2 of 256 bytes (F32): max |a-b| 2.000e0, rmse 2.500e-1, cosine 0.97227182".to_owned(),
        "tensor shape: F32 32 x 2 | F16 64".to_owned(),
        "tensor type: F32 | BF16: max |a-b| 0.000e0, rmse 0.000e0, cosine 1.00000000".to_owned(),
        format!("tensor left: only in {left}"),
        format!("tensor right: only in {right}"),
        "12 differences".to_owned(),
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);

    let itself = run("diff", &[&a, &a], &[]);
    assert_eq!(itself.status.code(), Some(0));
    assert_eq!(String::from_utf8(itself.stdout).unwrap(), "equal: 7 keys, 5 tensors\n");
    let missing = run("diff", &[&a, &scratch.0.join("no.gguf")], &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        missing.stdout.is_empty() && stderr(&missing).ends_with("no.gguf: No such file or directory (os error 2)\n")
    );
}

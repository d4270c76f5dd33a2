//! GGUF files as the input: what is copied, what is converted, what is refused.

use crate::good::assert_same_tensors;
use crate::hf::{Scratch, convert, golden, stderr};
use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::gguf::{Gguf, Value};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn peer(kind: &str) -> PathBuf {
    golden().join(format!("peer/micro-{kind}.gguf"))
}

#[track_caller]
fn converted(input: &Path, scratch: &Scratch, target: &str) -> Gguf {
    let output = convert(input, &scratch.out(), target);
    assert!(output.status.success(), "{}", stderr(&output));
    Gguf::open(&scratch.out()).unwrap()
}

fn allowed(input: &Path, scratch: &Scratch, target: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    let options = ["--type", target, "--allow-requantize"];
    command.arg("convert").args([input, &scratch.out()]).args(options).output().unwrap()
}

/// A copy of `file` with changed tensors and keys.
fn changed(file: &Gguf, path: &Path, tensors: impl Fn(Plan, Vec<u8>) -> Vec<(Plan, Vec<u8>)>, keys: &[(&str, Value)]) {
    let infos = file.tensors().iter();
    let all = infos.flat_map(|info| {
        let tensor = file.require(&info.name).unwrap();
        let plan = Plan { name: tensor.name.clone(), shape: tensor.shape.clone(), format: tensor.format };
        tensors(plan, tensor.data.to_vec())
    });
    let mut entries = file.metadata().entries().to_vec();
    entries.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    std::fs::write(path, to_bytes(&entries, &all.collect::<Vec<_>>()).unwrap()).unwrap();
}

/// A file with everything as it was has the same tensors, and the same keys.
#[test]
fn the_same_types_are_the_very_bytes() {
    let scratch = Scratch::new("gguf-same");
    for kind in ["f32", "bf16", "Q8_0", "Q4_0"] {
        let theirs = Gguf::open(&peer(kind)).unwrap();
        let ours = converted(&peer(kind), &scratch, kind);
        assert_same_tensors(&ours, &theirs);
        assert_eq!(ours.metadata().entries(), theirs.metadata().entries());
    }
}

/// By way of a file or directly from the checkpoint: the same tensors.
#[test]
fn a_float_file_gives_what_its_checkpoint_gives() {
    let (by_way, direct) = (Scratch::new("gguf-by-way"), Scratch::new("gguf-direct"));
    for target in ["q8_0", "q4_k_m", "bf16"] {
        let ours = converted(&peer("f32"), &by_way, target);
        let theirs = converted(&golden().join("micro/hf"), &direct, target);
        assert_same_tensors(&ours, &theirs);
        let number = |file: &Gguf| file.metadata().u32("general.file_type").unwrap();
        assert_eq!(number(&ours), number(&theirs));
    }
}

/// Smaller is always possible; larger only when asked for.
#[test]
fn quantized_tensors_do_not_grow_by_accident() {
    let scratch = Scratch::new("gguf-lossy");
    converted(&peer("Q8_0"), &scratch, "q4_0");
    std::fs::remove_file(scratch.out()).unwrap();
    let file = peer("Q8_0");
    let refused = convert(&file, &scratch.out(), "bf16");
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    let message =
        "Q8_0 would become BF16, which is larger but no better: start from the original, or use --allow-requantize";
    assert_eq!(said, format!("error: {}: tensor `self_cond_down.weight`: {message}\n", file.display()));
    assert!(!scratch.out().exists());

    assert!(allowed(&file, &scratch, "f32").status.success());
    let (ours, theirs) = (Gguf::open(&scratch.out()).unwrap(), Gguf::open(&file).unwrap());
    let tensor = theirs.require("blk.1.ffn_gate_up_exps.weight").unwrap();
    let mut values = vec![0.0; tensor.shape.iter().product()];
    (tensor.format.decode)(&tensor.data, &mut values);
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(*ours.require(&tensor.name).unwrap().data == bytes[..]);
}

/// The layout of the second llama.cpp branch, and parts: the usual layout comes out, in one file.
#[test]
fn other_layouts_become_the_usual_one() {
    let scratch = Scratch::new("gguf-layouts");
    let (input, usual) = (scratch.0.join("input.gguf"), Gguf::open(&peer("Q8_0")).unwrap());
    let other = |plan: Plan, data: Vec<u8>| {
        let name = plan.name.clone();
        if let Some(layer) = name.strip_suffix("ffn_gate_up_exps.weight") {
            let [columns, rows, experts] = plan.shape[..] else { unreachable!() };
            let half = data.len() / experts / 2;
            let part = |part: usize, name: &str| {
                let data = data.chunks(half).skip(part).step_by(2).flatten().copied().collect();
                let shape = vec![columns, rows / 2, experts];
                (Plan { name: format!("{layer}{name}"), shape, format: plan.format }, data)
            };
            return vec![part(0, "ffn_gate_exps.weight"), part(1, "ffn_up_exps.weight")];
        }
        match name.as_str() {
            "self_cond_pre_norm.weight" => vec![(Plan { name: "self_cond_norm.weight".to_owned(), ..plan }, data)],
            _ => vec![(plan, data)],
        }
    };
    changed(&usual, &input, other, &[("quantize.imatrix.file", Value::String("old".to_owned()))]);
    let ours = converted(&input, &scratch, "q8_0");
    assert_same_tensors(&ours, &usual);
    assert!(ours.metadata().get("quantize.imatrix.file").is_none());

    let parts = scratch.0.join("parts.gguf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    command.arg("convert").args([&input, &parts]).args(["--type=q8_0", "--split-max-size=100K"]);
    assert!(command.status().unwrap().success());
    let mut names = std::fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().path());
    let first = names.find(|path| path.to_string_lossy().contains("-00001-of-")).unwrap();
    let ours = converted(&first, &scratch, "q8_0");
    assert_same_tensors(&ours, &usual);
    assert!(ours.metadata().entries().iter().all(|(key, _)| !key.starts_with("split.")));
}

#[test]
fn mistakes() {
    let scratch = Scratch::new("gguf-mistakes");
    let (input, usual) = (scratch.0.join("input.gguf"), Gguf::open(&peer("f32")).unwrap());
    let refused = |message: &str| {
        let output = convert(&input, &scratch.out(), "q8_0");
        let said = stderr(&output);
        assert_eq!(said, format!("error: {}: {message}\n", input.display()));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(std::fs::read_dir(scratch.0.join("out")).unwrap().count(), 0);
    };
    let on = |name: &'static str, change: fn(&mut Plan, &mut Vec<u8>) -> bool| {
        move |mut plan: Plan, mut data: Vec<u8>| {
            let keep = plan.name != name || change(&mut plan, &mut data);
            if keep { vec![(plan, data)] } else { vec![] }
        }
    };
    const Q: &str = "blk.1.attn_q.weight";
    changed(&usual, &input, on(Q, |_, _| false), &[]);
    refused(&format!("tensor `{Q}`: is missing"));
    let turned = on(Q, |plan, _| {
        plan.shape = vec![32, 128];
        true
    });
    changed(&usual, &input, turned, &[]);
    refused(&format!("tensor `{Q}`: has shape [32, 128], expected [64, 64] (row length first)"));
    let renamed = on("rope_freqs.weight", |plan, _| {
        plan.name = "blk.0.attn_q.scale".to_owned();
        true
    });
    changed(&usual, &input, renamed, &[]);
    refused("tensor `blk.0.attn_q.scale`: is not part of a DiffusionGemma with these keys");
    let nan = on(Q, |_, data| {
        data[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
        true
    });
    changed(&usual, &input, nan, &[]);
    refused(&format!("tensor `{Q}`: element 10 is NaN"));
    let whole = std::fs::read(peer("f32")).unwrap();
    for length in [0, 3, 100, whole.len() / 2] {
        std::fs::write(&input, &whole[..length]).unwrap();
        let output = convert(&input, &scratch.out(), "q8_0");
        assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(1), 1));
        assert!(stderr(&output).contains("input.gguf: "), "{}", stderr(&output));
    }
}

//! Importance matrices: measured on the built-in model by the program, read back by this library and by another reader,
//! and refused where they do not fit.

use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::gguf::{Array, Gguf, Value};
use dgemma::quant;
use dgemma_quantize::imatrix::{Entry, Imatrix};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tiny").join(name)
}

/// A file of this test alone.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs `dgemma-quantize imatrix` on the built-in model.
fn imatrix(text: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    command.arg("imatrix").arg(tiny("dgemma-tiny.gguf")).arg("--text").arg(text).arg("-o").arg(out);
    command.args(more).output().unwrap()
}

#[track_caller]
fn stderr(output: &Output, success: bool) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.success(), success, "{text}");
    text
}

/// The two tensors of each weight that is multiplied with something, with the shapes of llama.cpp, in an independent reader.
#[test]
fn a_measured_file_is_read_elsewhere() {
    let out = scratch("measured.gguf");
    assert_eq!(stderr(&imatrix(&tiny("calibration.jsonl"), &out, &["--samples", "6"]), true), "");
    let theirs = gguf_rs::get_gguf_container_array_size(out.to_str().unwrap(), u64::MAX).unwrap().decode().unwrap();
    let keys = theirs.metadata();
    assert_eq!(keys["general.type"], "imatrix");
    assert_eq!(keys["imatrix.datasets"], serde_json::json!(["calibration.jsonl"]));
    assert_eq!(keys["imatrix.chunk_count"], 6);
    assert!(keys["imatrix.chunk_size"].as_u64().unwrap() > 32, "a prompt and a canvas of 32");
    let shapes: BTreeMap<&str, &[u64]> = theirs.tensors().iter().map(|t| (t.name.as_str(), &t.shape[..])).collect();

    let model = Gguf::open(&tiny("dgemma-tiny.gguf")).unwrap();
    let mut expected = 0;
    for weight in model.tensors() {
        let is_matrix = weight.shape.len() > 1 && weight.name.ends_with("weight");
        let of = |what: &str| shapes.get(format!("{}.{what}", weight.name).as_str()).map(|s| s.to_vec());
        let matrices = weight.shape.iter().skip(2).product::<usize>() as u64;
        let columns = weight.shape[0] as u64;
        assert_eq!(of("in_sum2"), is_matrix.then(|| vec![columns, matrices]), "{}", weight.name);
        assert_eq!(of("counts"), is_matrix.then(|| vec![1, matrices]), "{}", weight.name);
        expected += 2 * usize::from(is_matrix);
    }
    assert_eq!(shapes.len(), expected);
}

/// Rows are counted where they should be: six prompts, then five levels, each without and with self-conditioning.
#[test]
fn counts_follow_from_the_passes() {
    let out = scratch("counts.gguf");
    let levels = ["--samples", "6", "--levels", "1,0.5,0"];
    stderr(&imatrix(&tiny("calibration.jsonl"), &out, &[&levels[..], &["--threads", "3"]].concat()), true);
    let measured = Imatrix::open(&out).unwrap();
    let counts = |name: &str| measured.entries[name].counts.clone();
    let canvases = 6.0 * 3.0 * 32.0;
    assert_eq!(counts("token_embd.weight"), [2.0 * canvases]);
    assert_eq!(counts("self_cond_down.weight"), [canvases]);
    let all = counts("blk.0.attn_q.weight")[0];
    assert!(all > 2.0 * canvases, "prompts count too");
    for layer in 0..6 {
        let routed: f32 = counts(&format!("blk.{layer}.ffn_down_exps.weight")).iter().sum();
        // Prompt rows leave the last layer once their keys and values are there.
        let rows = if layer == 5 { 2.0 * canvases } else { all };
        assert_eq!(routed, 2.0 * rows, "two experts for each row");
        assert_eq!(counts(&format!("blk.{layer}.ffn_gate_up_exps.weight")).iter().sum::<f32>(), routed);
    }
    // The same again, with another number of threads.
    let again = scratch("counts-again.gguf");
    stderr(&imatrix(&tiny("calibration.jsonl"), &again, &[&levels[..], &["--threads", "1"]].concat()), true);
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&again).unwrap(), "the file depends on the threads");
}

/// Plain text: blank lines separate, long texts are cut into chunks.
#[test]
fn plain_text_is_cut_into_chunks() {
    let (text, out) = (scratch("plain.txt"), scratch("plain.gguf"));
    // Letters are tokens of their own: 100 and the first token, in chunks of 40, 40 and 21; and a short text.
    std::fs::write(&text, format!("{}\n\n\nabc\n", "x".repeat(100))).unwrap();
    stderr(&imatrix(&text, &out, &["--chunk", "40", "--levels", "1"]), true);
    let measured = Imatrix::open(&out).unwrap();
    assert_eq!((measured.chunk_count, measured.datasets), (4, vec!["plain.txt".to_owned()]));
    assert_eq!(measured.entries["token_embd.weight"].counts, [4.0 * 2.0 * 32.0]);
    // Prompts of 8, 8, 10 and 2 tokens.
    assert_eq!(measured.entries["blk.0.attn_q.weight"].counts, [4.0 * 2.0 * 32.0 + 28.0]);
}

#[test]
fn mistakes_are_named_and_nothing_is_written() {
    let (text, out) = (scratch("mistakes.jsonl"), scratch("mistakes.gguf"));
    let bad = |content: &str, more: &[&str], expected: &str| {
        std::fs::write(&text, content).unwrap();
        let said = stderr(&imatrix(&text, &out, more), false);
        assert!(said.starts_with("error: ") && said.contains(expected), "{said:?}, expected {expected:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!out.exists(), "{expected}");
    };
    let good = r#"{"prompt": "Add 1 and 2.", "answer": "3"}"#;
    bad("", &[], "mistakes.jsonl: has no text in it");
    bad(&format!("{good}\n\n{{\"prompt\": 1}}\n"), &[], "mistakes.jsonl: line 3: has no string `prompt`");
    bad("{\"prompt\": \"x\"}\n", &[], "line 1: has no string `answer`");
    bad("hello\n", &[], "line 1: is no JSON object");
    bad(good, &["--levels", "0.5,1.5"], "argument `levels`: contain 1.5, expected numbers from 0 to 1");
    let long = format!("{{\"prompt\": \"{}\", \"answer\": \"3\"}}", "x".repeat(5000));
    bad(&long, &[], "more than the model's context of 4096");
    let said = stderr(&imatrix(&scratch("nowhere.txt"), &out, &[]), false);
    assert!(said.contains("nowhere.txt: No such file"), "{said}");
}

fn entry(columns: usize, sums: &[f32], counts: &[f32]) -> Entry {
    Entry { columns, sums: sums.to_vec(), counts: counts.to_vec() }
}

/// A matrix of two columns and a stack of three.
fn example(path: &Path) -> Imatrix {
    let entries = [
        ("a.weight", entry(2, &[8.0, 2.0], &[4.0])),
        ("b.weight", entry(2, &[8.0, 2.0, 0.0, 0.0, 1.0, 3.0], &[2.0, 0.0, 1.0])),
        ("c.weight", entry(2, &[0.0; 4], &[0.0; 2])),
    ];
    Imatrix {
        path: path.to_owned(),
        datasets: vec!["one.txt".into(), "two.txt".into()],
        chunk_count: 3,
        chunk_size: 512,
        entries: entries.into_iter().map(|(name, e)| (name.to_owned(), e)).collect(),
    }
}

#[test]
fn what_is_written_is_read_back_and_becomes_importance() {
    let path = scratch("example.gguf");
    let written = example(&path);
    written.write(&path).unwrap();
    let read = Imatrix::open(&path).unwrap();
    assert_eq!(read, written);
    let of = |name: &str, shape: &[usize]| read.importance(name, shape).unwrap().map(|i| i.to_vec());
    assert_eq!(of("a.weight", &[2, 9]).unwrap(), [2.0, 0.5]);
    // The expert nobody was routed to gets the mean of the two others.
    assert_eq!(of("b.weight", &[2, 9, 3]).unwrap(), [4.0, 1.0, 2.5, 2.0, 1.0, 3.0]);
    assert_eq!(of("c.weight", &[2, 9, 2]).unwrap(), [1.0; 4]);
    assert_eq!(of("a.weight", &[2, 9, 5]).unwrap(), [2.0, 0.5], "one for all matrices");
    assert_eq!(of("other.weight", &[2, 9]), None);
    let wrong = |name: &str, shape: &[usize], expected: &str| {
        let said = read.importance(name, shape).unwrap_err().to_string();
        assert!(said.contains(&path.display().to_string()) && said.ends_with(expected), "{said}");
    };
    wrong("a.weight", &[3, 9], "tensor `a.weight.in_sum2`: has 2 columns, but the weight has 3");
    wrong("b.weight", &[2, 9, 4], "tensor `b.weight.in_sum2`: is of 3 matrices, but the weight has 4");
    read.check_names(["a.weight", "b.weight", "c.weight", "d.weight"]).unwrap();
    let said = read.check_names(["a.weight", "b.weight"]).unwrap_err().to_string();
    assert!(said.ends_with("tensor `c.weight.in_sum2`: belongs to a weight that the model does not have"), "{said}");
}

#[test]
fn damaged_files_are_refused() {
    let path = scratch("damaged.gguf");
    let keys = |kind: &str| {
        vec![
            ("general.type".to_owned(), Value::String(kind.to_owned())),
            ("imatrix.datasets".to_owned(), Value::Array(Array::String(["t"].into_iter().collect()))),
            ("imatrix.chunk_count".to_owned(), Value::U32(1)),
            ("imatrix.chunk_size".to_owned(), Value::U32(1)),
        ]
    };
    let tensor = |name: &str, shape: &[usize], values: &[f32], format: &str| {
        let format = quant::by_name(format).unwrap();
        let mut bytes = vec![0; values.len() / format.block * format.block_bytes];
        (format.encode)(values, None, &mut bytes);
        (Plan { name: name.into(), shape: shape.to_vec(), format }, bytes)
    };
    let bad = |keys: &[(String, Value)], tensors: &[(Plan, Vec<u8>)], expected: &str| {
        std::fs::write(&path, to_bytes(keys, tensors).unwrap()).unwrap();
        let said = Imatrix::open(&path).unwrap_err().to_string();
        assert!(said.starts_with(&path.display().to_string()) && said.contains(expected), "{said}");
    };
    let sums = || tensor("a.weight.in_sum2", &[2, 2], &[1.0; 4], "F32");
    let counts = |values: &[f32]| tensor("a.weight.counts", &[1, values.len()], values, "F32");
    bad(&keys("model"), &[sums(), counts(&[1.0; 2])], "key `general.type`: is \"model\", expected \"imatrix\"");
    bad(&keys("imatrix")[..2], &[sums(), counts(&[1.0; 2])], "key `imatrix.chunk_count`: is missing");
    bad(&keys("imatrix"), &[], "has no sums of squares");
    bad(&keys("imatrix"), &[sums()], "tensor `a.weight.counts`: is missing");
    bad(&keys("imatrix"), &[counts(&[1.0])], "tensor `a.weight.counts`: comes without its sums");
    bad(&keys("imatrix"), &[sums(), counts(&[1.0])], "tensor `a.weight.counts`: has 1 numbers, expected 2");
    bad(&keys("imatrix"), &[sums(), counts(&[1.0, -1.0])], "element 1 is -1, expected a finite number of 0 or more");
    let half = tensor("a.weight.in_sum2", &[2, 2], &[1.0; 4], "F16");
    bad(&keys("imatrix"), &[half, counts(&[1.0; 2])], "tensor `a.weight.in_sum2`: is F16, expected F32");
    let model = Imatrix::open(&tiny("dgemma-tiny.gguf")).unwrap_err().to_string();
    assert!(model.contains("general.type"), "{model}");
}

/// A golden checkpoint, converted.
fn convert(name: &str, out: &Path, more: &[&str]) -> Output {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name).join("hf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    command.arg("convert").arg(checkpoint).arg(out).args(more).output().unwrap()
}

/// A conversion with an importance matrix says so in its keys, has the mix's types for that case, and other codes.
#[test]
fn conversions_use_it() {
    let (f32, matrix) = (scratch("tiny-k-f32.gguf"), scratch("tiny-k-imatrix.gguf"));
    stderr(&convert("tiny-k", &f32, &["--type", "F32"]), true);
    let program = env!("CARGO_BIN_EXE_dgemma-quantize");
    let mut measure = Command::new(program);
    measure.arg("imatrix").arg(&f32).arg("--text").arg(tiny("calibration.jsonl")).arg("-o").arg(&matrix);
    stderr(&measure.args(["--samples", "2", "--levels", "1"]).output().unwrap(), true);
    let with = ["--imatrix", matrix.to_str().unwrap()];
    let (plain, weighted) = (scratch("tiny-k-plain.gguf"), scratch("tiny-k-weighted.gguf"));
    assert_eq!(stderr(&convert("tiny-k", &plain, &["--type", "Q4_0"]), true), "");
    assert_eq!(stderr(&convert("tiny-k", &weighted, &[&["--type", "Q4_0"], &with[..]].concat()), true), "");
    let (plain, weighted) = (Gguf::open(&plain).unwrap(), Gguf::open(&weighted).unwrap());
    let keys = weighted.metadata();
    assert_eq!(keys.str("quantize.imatrix.file").unwrap(), "tiny-k-imatrix.gguf");
    assert_eq!(keys.str("quantize.imatrix.dataset").unwrap(), "calibration.jsonl");
    assert_eq!(
        keys.u32("quantize.imatrix.entries_count").unwrap(),
        Imatrix::open(&matrix).unwrap().entries.len() as u32
    );
    assert_eq!(keys.u32("quantize.imatrix.chunks_count").unwrap(), 2);
    assert_eq!(plain.metadata().opt_str("quantize.imatrix.file").unwrap(), None);
    let (mut same, mut different) = (0, 0);
    for info in plain.tensors().iter().filter(|info| info.format.name == "Q4_0") {
        let (plain, weighted) = (plain.require(&info.name).unwrap(), weighted.require(&info.name).unwrap());
        *(if *plain.data == *weighted.data { &mut same } else { &mut different }) += 1;
    }
    assert!(same == 0 && different > 10, "{same} tensors do not change with importance, {different} do");
    // Of another model: refused before anything is written.
    let out = scratch("refused.gguf");
    let said = stderr(&convert("micro", &out, &with), false);
    assert!(said.contains("tiny-k-imatrix.gguf: tensor `") && !out.exists(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// What llama.cpp leaves out of its files is quantized without, and said.
#[test]
fn weights_without_statistics_are_named() {
    let (matrix, out) = (scratch("partial.gguf"), scratch("partial-out.gguf"));
    example_of(&matrix, "blk.0.attn_q.weight", 64);
    let said = stderr(&convert("micro", &out, &["--type", "Q8_0", "--imatrix", matrix.to_str().unwrap()]), true);
    assert!(said.starts_with("Warn: ") && said.contains("partial.gguf: has nothing about `"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    example_of(&matrix, "blk.0.attn_q.weight", 32);
    let said = stderr(&convert("micro", &out, &["--type", "Q8_0", "--imatrix", matrix.to_str().unwrap()]), false);
    assert!(said.ends_with("`blk.0.attn_q.weight.in_sum2`: has 32 columns, but the weight has 64\n"), "{said}");
}

/// A file with one weight of `columns` columns.
fn example_of(path: &Path, weight: &str, columns: usize) {
    let entries = BTreeMap::from([(weight.to_owned(), entry(columns, &vec![1.0; columns], &[1.0]))]);
    Imatrix { entries, ..example(path) }.write(path).unwrap();
}

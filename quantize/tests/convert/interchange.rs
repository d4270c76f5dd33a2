//! Our files and llama.cpp's of the same checkpoints: the same tensors, types and keys, and the same bytes where the format
//! leaves no choice. Where it does, no tensor is further from the checkpoint's weights than theirs by more than 1 %.
//!
//! `tests/golden/peer` holds a selection of files that llama.cpp's converter and quantizer made; set `DGEMMA_PEER_DIR` to a
//! folder of more (`NAME-MIX.gguf` beside the checkpoints `hf-NAME`) to compare with all of them. The quantized ones were
//! made from a BF16 conversion, so the checkpoint is rounded first where it is F32.

use crate::hf::{Hf, Scratch, golden, stderr};
use dgemma::gguf::{Gguf, Tensor, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Formats whose bytes follow from the numbers: no search for good scales in which encoders could differ.
const FIXED: [&str; 8] = ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"];

/// Keys that need not agree, and why.
const ON_PURPOSE: [(&str, &str); 2] = [
    ("general.name", "free text: llama.cpp prettifies the directory's name, ours is the name itself"),
    ("tokenizer.ggml.add_sep_token", "says false, which is also its default; the published files do not have it"),
];

/// Files with their checkpoints.
fn pairs() -> Vec<(PathBuf, PathBuf)> {
    let mut pairs = files(&golden().join("peer"), |_| golden().join("micro/hf"));
    if let Some(more) = std::env::var_os("DGEMMA_PEER_DIR").map(PathBuf::from) {
        pairs.extend(files(&more, |name| more.join(format!("hf-{name}"))));
    }
    pairs
}

fn files(folder: &Path, checkpoint: impl Fn(&str) -> PathBuf) -> Vec<(PathBuf, PathBuf)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "gguf"));
    paths.sort();
    paths.into_iter().map(|path| (checkpoint(name_and_mix(&path).0), path.clone())).map(|(c, p)| (p, c)).collect()
}

/// `NAME-MIX.gguf`.
fn name_and_mix(path: &Path) -> (&str, &str) {
    path.file_stem().unwrap().to_str().unwrap().split_once('-').unwrap()
}

#[test]
fn files_equal_those_of_llama_cpp() {
    let scratch = Scratch::new("interchange");
    let mut compared = String::new();
    for (path, checkpoint) in pairs() {
        let (name, mix) = name_and_mix(&path);
        let hf = Hf::read(&checkpoint);
        let hf = if mix == "f32" { hf } else { hf.through_bf16() };
        let output = hf.convert(&scratch, mix);
        assert!(output.status.success(), "{name} {mix}: {}", stderr(&output));
        assert_eq!(stderr(&output), "");
        let [ours, theirs] = [&scratch.out(), &path].map(|path| Gguf::open(path).unwrap());
        let label = format!("{name}-{mix}");
        let same = compare_tensors(&label, &ours, &theirs);
        compare_keys(&label, &ours, &theirs);
        let exact = Scratch::new("interchange-exact");
        assert!(hf.convert(&exact, "f32").status.success());
        let worst = compare_errors(&label, &Gguf::open(&exact.out()).unwrap(), &ours, &theirs);
        compared += &format!("  {label}: {same} tensors bit for bit{worst}\n");
    }
    eprint!("compared with llama.cpp's files:\n{compared}");
}

/// How many tensors have the same bytes.
fn compare_tensors(label: &str, ours: &Gguf, theirs: &Gguf) -> usize {
    let names = |file: &Gguf| file.tensors().iter().map(|t| t.name.clone()).collect::<BTreeSet<_>>();
    assert_eq!(names(ours), names(theirs), "{label}");
    let mut same = 0;
    for info in theirs.tensors() {
        let [ours, theirs] = [ours, theirs].map(|file| file.require(&info.name).unwrap());
        let of = |t: &Tensor| (t.shape.clone(), t.format.name);
        assert_eq!(of(&ours), of(&theirs), "{label}: {}", info.name);
        if FIXED.contains(&info.format.name) {
            assert!(*ours.data == *theirs.data, "{label}: {}: the bytes differ", info.name);
            same += 1;
        }
    }
    same
}

/// Plain and weighted error of each tensor in a format that leaves a choice, against the weights it was made from: ours may be
/// 1 % more than theirs. For each format, how many tensors there are and the worst of both ratios.
fn compare_errors(label: &str, exact: &Gguf, ours: &Gguf, theirs: &Gguf) -> String {
    let mut worst: BTreeMap<&str, (usize, [f64; 2])> = BTreeMap::new();
    for info in theirs.tensors().iter().filter(|info| !FIXED.contains(&info.format.name)) {
        let [x, ours, theirs] = [exact, ours, theirs].map(|file| values(&file.require(&info.name).unwrap()));
        let (count, worst) = worst.entry(info.format.name).or_default();
        *count += 1;
        for ((power, weights), worst) in [(0, "plain"), (2, "weighted")].into_iter().zip(worst) {
            let ratio = error(&x, &ours, power) / error(&x, &theirs, power);
            assert!(ratio <= 1.01, "{label}: {}: the {weights} error is {ratio} times theirs", info.name);
            *worst = worst.max(ratio);
        }
    }
    let words = worst.iter().map(|(format, (count, [plain, weighted]))| {
        format!("; {count} of {format}, errors at most {plain:.4} (plain) and {weighted:.4} (weighted) times theirs")
    });
    words.collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let mut values = vec![0.0; tensor.shape.iter().product()];
    (tensor.format.decode)(&tensor.data, &mut values);
    values
}

/// The root of the sum of |x|^power (x - y)^2.
fn error(x: &[f32], y: &[f32], power: i32) -> f64 {
    let squares = x.iter().zip(y).map(|(x, y)| f64::from(x.abs().powi(power)) * f64::from(x - y).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Types and values, in any order.
fn compare_keys(label: &str, ours: &Gguf, theirs: &Gguf) {
    let entries = |file: &Gguf| -> Vec<(String, Value)> {
        let kept = file.metadata().entries().iter().filter(|(key, _)| ON_PURPOSE.iter().all(|(k, _)| k != key));
        let mut kept: Vec<_> = kept.cloned().collect();
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        kept
    };
    let (ours, theirs) = (entries(ours), entries(theirs));
    let keys = |entries: &[(String, Value)]| entries.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&theirs), "{label}");
    for ((key, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        assert!(ours == theirs, "{label}: {key}: {ours}, not {theirs}");
    }
}

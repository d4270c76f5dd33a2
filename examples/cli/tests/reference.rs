//! `eval` and `conform`, with checkpoints whose values the reference implementation computed.

mod common;
use common::*;
use dgemma_quantize::convert::{self, Options};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::Path;

/// The golden checkpoint `name` as a GGUF file.
fn converted(name: &str, test: &str) -> String {
    let out = scratch(&format!("{test}-{name}.gguf"));
    convert::run(&golden(name).join("hf"), &out, &Options::of_type("f32").unwrap()).unwrap();
    out.display().to_string()
}

/// Tensors as they travel: name, dtype, shape, bytes.
type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, t)| (name.to_owned(), t.dtype(), t.shape().to_vec(), t.data().to_vec())).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let view = |t: &(_, Dtype, Vec<usize>, Vec<u8>)| TensorView::new(t.1, t.2.clone(), &t.3).unwrap().dtype();
    assert!(tensors.iter().all(|t| view(t) == t.1));
    let views = tensors.iter().map(|t| (t.0.clone(), TensorView::new(t.1, t.2.clone(), &t.3).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn find<'t>(tensors: &'t Tensors, name: &str) -> &'t (String, Dtype, Vec<usize>, Vec<u8>) {
    tensors.iter().find(|t| t.0 == name).unwrap()
}

/// Every check of every golden directory; the slow backend does the smallest.
#[test]
fn the_golden_checkpoints_conform() {
    for (name, backend) in [("tiny-a", "cpu"), ("tiny-a", "reference"), ("tiny-b", "cpu"), ("tiny-k", "cpu")] {
        let model = converted(name, backend);
        let run = good(&["conform", &model, &golden(name).display().to_string(), "--backend", backend]);
        assert_eq!(run.out.lines().count(), 19, "{}", run.out);
        assert!(run.out.lines().all(|line| line.starts_with("ok ")), "{name} {backend}:\n{}", run.out);
    }
}

/// A value that is off, and ids that are off, fail their own check and no other.
#[test]
fn a_difference_fails() {
    let (model, directory) = (converted("tiny-a", "difference"), scratch("different"));
    std::fs::create_dir_all(&directory).unwrap();
    let mut tensors = read(&golden("tiny-a/reference.safetensors"));
    let at = tensors.iter().position(|t| t.0 == "logits2").unwrap();
    let value = floats(&tensors[at].3)[7] + 0.01;
    tensors[at].3[28..32].copy_from_slice(&value.to_le_bytes());
    write(&directory.join("reference.safetensors"), &tensors);
    let text = std::fs::read_to_string(golden("tiny-a/tokenizer.json")).unwrap();
    std::fs::write(directory.join("tokenizer.json"), text.replacen("264", "265", 1)).unwrap();
    let directory = directory.display().to_string();
    let run = run(&["conform", &model, &directory]);
    assert_eq!(run.status, Some(1), "{}{}", run.out, run.err);
    let failed: Vec<&str> = run.out.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(failed.len(), 3, "{}", run.out);
    assert_eq!(failed[0], "FAIL token ids        1 of 23 differ");
    assert_eq!(failed[1], "FAIL decoded text     1 of 23 differ");
    assert!(failed[2].starts_with("FAIL logits2          1.0e-2 ("), "{}", failed[2]);
    assert!(failed[2].contains(" at 7 of 16384"), "{}", failed[2]);
    assert_eq!(run.err, "");
    let lenient = common::run(&["conform", &model, &directory, "--tolerance", "0.02"]);
    assert_eq!(lenient.out.lines().filter(|line| line.starts_with("FAIL")).count(), 2);
    let empty = common::run(&["conform", &model, &golden("chat").display().to_string()]);
    assert!(empty.status == Some(1) && empty.err.contains("nothing in it to check against"), "{}", empty.err);
}

/// The recorded inputs give the recorded outputs, conditioned and not.
#[test]
fn evaluation() {
    let model = converted("tiny-b", "eval");
    let reference = read(&golden("tiny-b/reference.safetensors"));
    let (input, output) = (scratch("eval-in.safetensors"), scratch("eval-out.safetensors"));
    let mut tensors = vec![find(&reference, "prompt").clone(), find(&reference, "canvas").clone()];
    for expected in ["logits", "logits_sc"] {
        write(&input, &tensors);
        let (input, output_name) = (input.display().to_string(), output.display().to_string());
        good(&["eval", &model, &input, &output_name, "--chunk", "5", "--exact"]);
        let results = read(&output);
        for (name, expected) in [("encoder_hidden", "encoder_hidden"), ("logits", expected)] {
            let (got, want) = (find(&results, name), find(&reference, expected));
            assert_eq!((got.1, &got.2), (Dtype::F32, &want.2), "{expected}");
            let pairs = floats(&got.3).into_iter().zip(floats(&want.3));
            let worst = pairs.map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
            assert!(worst < 5e-3, "{expected}: worst difference {worst}");
        }
        let logits = find(&reference, "logits");
        let conditioning = floats(&logits.3).iter().flat_map(|x| (x / 0.8).to_le_bytes()).collect();
        tensors.push(("sc".into(), Dtype::F32, logits.2.clone(), conditioning));
    }
    let broken = run(&["eval", &model, &output.display().to_string(), "x"]);
    assert!(broken.status == Some(1) && broken.err.contains("tensor `prompt`: is missing"), "{}", broken.err);
}

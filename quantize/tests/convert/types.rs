//! Which types a conversion gives to tensors: mixes for small models, overrides, mistakes in them, and dry runs.

use crate::hf::{Scratch, golden, stderr};
use dgemma::gguf::Gguf;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

fn run(command: &str, paths: &[&Path], options: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    program.arg(command).args(paths).args(options).output().unwrap()
}

fn convert(scratch: &Scratch, options: &[&str]) -> Output {
    run("convert", &[&golden().join("micro/hf"), &scratch.out()], options)
}

/// The types in the file that these options give.
fn types(options: &[&str]) -> impl Fn(&str) -> &'static str + use<> {
    // Tests run side by side.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let scratch = Scratch::new(&format!("types-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let output = convert(&scratch, options);
    assert!(output.status.success(), "{}", stderr(&output));
    let file = Gguf::open(&scratch.out()).unwrap();
    move |name| file.require(name).unwrap().format.name
}

#[test]
fn the_first_override_that_matches_counts_and_the_embedding_has_its_own() {
    let types = types(&[
        "--type=q4_0",
        "--tensor-type=blk.1.ffn_down.=f32",
        "--tensor-type=ffn_down*weight=Q5_1",
        "--tensor-type=token_embd=f16",
        "--token-embedding-type=q5_0",
    ]);
    assert_eq!(types("blk.1.ffn_down.weight"), "F32");
    assert_eq!(types("blk.1.ffn_down_exps.weight"), "Q5_1");
    assert_eq!(types("blk.0.ffn_down.weight"), "Q5_1");
    assert_eq!(types("blk.0.ffn_down_exps.scale"), "F32");
    assert_eq!(types("blk.0.ffn_up.weight"), "Q4_0");
    assert_eq!(types("token_embd.weight"), "Q5_0");
}

/// Overrides hold for mixes without exceptions too, and what does not fit falls back.
#[test]
fn overrides_of_a_float_mix() {
    let types = types(&["--type=bf16", "--tensor-type=attn_q=q4_0", "--token-embedding-type=q8_0"]);
    assert_eq!((types("blk.0.attn_q.weight"), types("blk.0.attn_k.weight")), ("Q4_0", "BF16"));
    assert_eq!((types("token_embd.weight"), types("blk.0.attn_q_norm.weight")), ("Q8_0", "F32"));
}

/// Every mix converts, in rows of 64, 96, 128 and 32: what does not fit falls back.
#[test]
fn every_mix_converts() {
    for (mix, embedding, down) in [
        ("Q6_K", "Q8_0", "Q8_0"),
        ("Q5_K_M", "Q8_0", "Q5_1"),
        ("Q5_K_S", "Q8_0", "Q5_1"),
        ("Q4_K_M", "Q8_0", "Q5_0"),
        ("Q4_K_S", "Q8_0", "Q5_0"),
        ("MXFP4_MOE", "Q8_0", "Q8_0"),
        ("IQ4_NL", "Q8_0", "IQ4_NL"),
        ("NVFP4", "Q8_0", "MXFP4"),
        ("IQ4_XS", "Q8_0", "IQ4_NL"),
        ("Q3_K_L", "Q8_0", "Q5_1"),
        ("Q3_K_M", "Q8_0", "Q5_0"),
        ("Q3_K_S", "Q8_0", "Q4_0"),
        ("Q2_K", "Q8_0", "Q4_0"),
    ] {
        let types = types(&[&format!("--type={mix}")]);
        let both = (types("token_embd.weight"), types("blk.0.ffn_down.weight"));
        assert_eq!(both, (embedding, down), "{mix}");
        assert_eq!(types("blk.0.ffn_gate_inp.weight"), "F32", "{mix}");
    }
}

#[test]
fn mistakes_leave_no_file() {
    let scratch = Scratch::new("type-mistakes");
    let cases = [
        ("--type=q9", "error: argument `type`: no mix is called q9, expected one of F32, BF16,"),
        ("--tensor-type=ffn", "error: argument `tensor-type`: \"ffn\" is not of the form PATTERN=TYPE"),
        (
            "--tensor-type=ffn=q9",
            "error: argument `tensor-type`: \"q9\" is no type that can be written, expected one of",
        ),
        ("--tensor-type=fnf=f32", "error: argument `tensor-type`: \"fnf\" matches no tensor"),
        ("--tensor-type=ffn_norm=f16", "error: argument `tensor-type`: \"ffn_norm\" matches no matrix:"),
        ("--token-embedding-type=q9", "error: argument `token-embedding-type`: \"q9\" is no type that can be written"),
    ];
    for (option, message) in cases {
        let output = convert(&scratch, &[option]);
        assert!(stderr(&output).starts_with(message), "{option}: {}", stderr(&output));
        assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(1), 1), "{option}");
    }
    assert_eq!(std::fs::read_dir(scratch.out().parent().unwrap()).unwrap().count(), 0);
}

/// What a dry run says is what a conversion gives; and it writes nothing.
#[test]
fn a_dry_run_tells_the_truth() {
    let scratch = Scratch::new("dry");
    let output = convert(&scratch, &["--type=q4_0", "--dry-run"]);
    assert!(output.status.success() && !scratch.out().exists());
    let text = String::from_utf8(output.stdout).unwrap();
    let without_out = run("convert", &[&golden().join("micro/hf")], &["--type=q4_0", "--dry-run"]);
    assert_eq!(String::from_utf8(without_out.stdout).unwrap(), text);

    assert!(convert(&scratch, &["--type=q4_0"]).status.success());
    let bytes = std::fs::metadata(scratch.out()).unwrap().len();
    let has = |line: &str| assert!(text.lines().any(|l| l.starts_with(line)), "{line:?} is not in:\n{text}");
    has(&format!("file: {bytes} bytes, of which "));
    has(
        "  token_embd.weight                        Q8_0   64 x 512                          34816  Q6_K has blocks of 256",
    );
    for tensor in Gguf::open(&scratch.out()).unwrap().tensors() {
        has(&format!("  {:40} {:6} ", tensor.name, tensor.format.name));
    }
    let neither = run("convert", &[&golden().join("micro/hf")], &[]);
    assert_eq!(neither.status.code(), Some(2));
}

#[test]
fn plans_need_no_checkpoint() {
    let output = run("plan", &[], &["--shape=26b", "--type=q4_k_m"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line:?} is not in:\n{text}");
    has(
        "  blk.0.ffn_down_exps.weight               Q8_0   704 x 2816 x 128              269615104  Q6_K has blocks of 256",
    );
    has("  Q4_K      194      16629268480       9353963520   4.500");
    has("data section: 16790985600 bytes, with each tensor padded to 32");
    let output = run("plan", &[], &["--shape=7b"]);
    assert_eq!(
        stderr(&output),
        "error: argument `shape`: \"7b\" is unknown, expected one of 26b, 26b-layers=N, tiny\n"
    );
}

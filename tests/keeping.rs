//! K/V in fewer bits, and contexts copied, saved and loaded: always the logits of a fresh context. On micro-f32: window 8,
//! canvas 16, prompts of 100 that wrap every ring many times.

mod common;
use common::*;
use dgemma::Error;
use dgemma::engine::{BackendKind, Context, ContextParams, GenerateParams, KvType, Model};
use std::ops::ControlFlow;
use std::path::PathBuf;

const TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Bf16];

fn micro(kind: BackendKind) -> Model {
    load(&golden("peer").join("micro-f32.gguf"), kind)
}

fn prompt() -> Vec<u32> {
    raw_ids(&golden("peer").join("micro-p100.i32"))
}

fn logits(context: &mut Context) -> Vec<f32> {
    context.canvas_logits(&raw_ids(&golden("peer").join("micro-c100.i32")), None).unwrap()
}

/// A context with the prompt, of which `encoded` is encoded.
fn filled(model: &Model, params: &ContextParams, encoded: usize) -> Context {
    let mut context = model.context(params).unwrap();
    context.set_tokens(&prompt()[..encoded]).unwrap();
    context.prefill(|_, _| ControlFlow::Continue(())).unwrap();
    context.append(&prompt()[encoded..]).unwrap();
    context
}

fn params(kv: KvType, chunk: usize) -> ContextParams {
    ContextParams { kv: Some(kv), chunk, size: 0 }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Rounding moves the logits a little, and not differently for other chunks.
#[test]
fn narrow_keys_and_values_move_the_logits_a_little() {
    for (name, kind) in BACKENDS {
        let model = micro(kind);
        let exact = logits(&mut filled(&model, &params(KvType::F32, 100), 100));
        // Measured: 4.4e-3 and 4.5e-2.
        for (kv, bound) in [(KvType::F16, 1e-2), (KvType::Bf16, 1e-1)] {
            let whole = logits(&mut filled(&model, &params(kv, 100), 100));
            let error = worst(&whole, &exact);
            eprintln!("{name} {}: logits differ from f32 by {error:.1e} at most", kv.name());
            assert!(error > 0.0 && error < bound, "{name} {}: {error}, expected at most {bound}", kv.name());
            for chunk in [1, 7, 64] {
                let got = logits(&mut filled(&model, &params(kv, chunk), 100));
                assert_close(&format!("{name} {} chunk {chunk}", kv.name()), &got, &whole, 1e-4);
            }
        }
    }
}

#[test]
fn narrow_types_halve_the_memory() {
    let model = micro(BackendKind::Cpu);
    let memory = TYPES.map(|kv| model.context(&params(kv, 0)).unwrap().memory());
    assert_eq!((memory[0].kv, memory[0].kv), (2 * memory[1].kv, 2 * memory[2].kv));
    assert_eq!(memory[0].weights, model.sizes().file_bytes);
    assert!(memory[0].activations > 0 && memory[0].kv > 0);
}

#[test]
fn a_copy_goes_its_own_way() {
    for (name, kind) in BACKENDS {
        let model = micro(kind);
        let expected = logits(&mut filled(&model, &params(KvType::F32, 16), 100));
        let mut original = filled(&model, &params(KvType::F32, 16), 90);
        let mut copy = original.try_clone().unwrap();
        assert_eq!((copy.tokens(), copy.encoded()), (original.tokens(), 90));
        original.set_tokens(&prompt()[50..]).unwrap();
        let other = logits(&mut original);
        assert_close(name, &logits(&mut copy), &expected, 1e-4);
        // And the original did not hear of the copy.
        let mut fresh = model.context(&params(KvType::F32, 16)).unwrap();
        fresh.set_tokens(&prompt()[50..]).unwrap();
        assert_close(name, &other, &logits(&mut fresh), 1e-4);
    }
}

fn saved(context: &Context) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = context.save(&mut bytes).unwrap();
    assert_eq!((written, context.saved_bytes()), (bytes.len() as u64, bytes.len() as u64));
    bytes
}

#[test]
fn a_saved_context_goes_on_where_it_was() {
    for (name, kind) in BACKENDS {
        let model = micro(kind);
        // The oracle is slow, and only has to show that it has the operations.
        let (types, lengths) =
            if kind == BackendKind::Cpu { (&TYPES[..], &[0, 5, 90, 100][..]) } else { (&TYPES[1..2], &[90][..]) };
        for &kv in types {
            let expected = logits(&mut filled(&model, &params(kv, 16), 100));
            for &encoded in lengths {
                let bytes = saved(&filled(&model, &params(kv, 16), encoded));
                // Into contexts of other sizes, one of which was used before.
                for (size, chunk) in [(0, 0), (116, 3), (300, 40)] {
                    let mut context = model.context(&ContextParams { size, chunk, kv: Some(kv) }).unwrap();
                    context.set_tokens(&prompt()[30..]).unwrap();
                    logits(&mut context);
                    context.load(&bytes).unwrap();
                    assert_eq!((context.tokens(), context.encoded()), (&prompt()[..], encoded));
                    let label = format!("{name} {} {encoded} encoded, size {size}", kv.name());
                    assert_close(&label, &logits(&mut context), &expected, 1e-4);
                    // Cut back: by what the ring holds, or to an encoding from the start.
                    for len in [97, 40] {
                        context.truncate(len);
                        let mut fresh = model.context(&params(kv, 0)).unwrap();
                        fresh.set_tokens(&prompt()[..len]).unwrap();
                        assert_close(&label, &logits(&mut context), &logits(&mut fresh), 1e-4);
                    }
                }
            }
        }
    }
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("dgemma-keeping-{}-{name}", std::process::id()))
}

#[test]
fn files_are_whole_or_not_there() {
    let model = micro(BackendKind::Cpu);
    let context = filled(&model, &params(KvType::F16, 0), 100);
    let path = temporary("file");
    assert_eq!(context.save_file(&path).unwrap(), context.saved_bytes());
    assert_eq!(std::fs::read(&path).unwrap(), saved(&context));
    let mut other = model.context(&params(KvType::F16, 0)).unwrap();
    other.load_file(&path).unwrap();
    assert_eq!(other.tokens(), context.tokens());
    std::fs::write(&path, b"something else").unwrap();
    let text = other.load_file(&path).unwrap_err().to_string();
    assert!(text.contains(&path.display().to_string()) && text.ends_with("is not a saved context"), "{text}");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(other.load_file(&path), Err(Error::Io { .. })));
    let nowhere = temporary("no-such-directory").join("file");
    let text = context.save_file(&nowhere).unwrap_err().to_string();
    assert!(text.contains(&nowhere.display().to_string()), "{text}");
}

/// Damaged, cut off, of another model, type or size: refused with the reason, and the context is as it was.
#[test]
fn a_wrong_save_changes_nothing() {
    let model = micro(BackendKind::Cpu);
    let bytes = saved(&filled(&model, &params(KvType::F32, 0), 100));
    let mut context = filled(&model, &params(KvType::F32, 0), 70);
    let mut refuse = |bytes: &[u8], reason: &str| {
        let text = context.load(bytes).unwrap_err().to_string();
        assert!(text.starts_with("argument `bytes`: ") && text.contains(reason), "{text}, expected {reason}");
        assert_eq!((context.tokens(), context.encoded()), (&prompt()[..], 70));
    };
    refuse(&[], "is not a saved context");
    refuse(b"GGUF everything else", "is not a saved context");
    for at in (12..bytes.len()).step_by(97) {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        refuse(&bad, "wrong checksum");
        refuse(&bytes[..at], if at < 12 { "shorter" } else { "wrong checksum" });
    }
    let mut newer = bytes.clone();
    newer[8] = 2;
    refuse(&newer, "is a saved context of version 2, expected 1");
    refuse(&saved(&filled(&model, &params(KvType::F16, 0), 100)), "has f16 keys and values, but the context has f32");
    let other = load(&golden("peer").join("micro-Q8_0.gguf"), BackendKind::Cpu);
    refuse(&saved(&filled(&other, &params(KvType::F32, 0), 100)), "was saved with another model");
    let mut small = model.context(&ContextParams { size: 99, ..Default::default() }).unwrap();
    assert!(matches!(small.load(&bytes), Err(Error::ContextFull { needed: 100, capacity: 99 })));
    let expected = logits(&mut filled(&model, &params(KvType::F32, 0), 100));
    assert_close("afterwards", &logits(&mut context), &expected, 1e-4);
}

/// The fingerprint tells weights apart, not containers.
#[test]
fn fingerprints_tell_models_apart() {
    let file = |name: &str| load(&golden("peer").join(name), BackendKind::Cpu).fingerprint();
    let all: Vec<u64> = ["micro-f32.gguf", "micro-bf16.gguf", "micro-Q8_0.gguf", "micro-Q4_0.gguf"].map(file).into();
    let distinct: std::collections::BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!(distinct.len(), 4);
    assert_eq!(all[0], micro(BackendKind::Reference).fingerprint());
}

/// The built-in model's answers, with keys and values in fewer bits: the same.
#[test]
fn narrow_keys_and_values_give_the_same_answers() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tiny");
    let model = load(&root.join("dgemma-tiny.gguf"), BackendKind::Cpu);
    let text = std::fs::read_to_string(root.join("heldout.jsonl")).unwrap();
    let prompts = text.lines().step_by(5).map(|line| {
        let q: serde_json::Value = serde_json::from_str(line).unwrap();
        model.encode_chat(&serde_json::json!([{"role": "user", "content": q["prompt"]}]), None).unwrap()
    });
    let prompts: Vec<Vec<u32>> = prompts.collect();
    let answers = TYPES.map(|kv| {
        let mut context = model.context(&params(kv, 0)).unwrap();
        let mut answer = |prompt: &Vec<u32>| {
            context.set_tokens(prompt).unwrap();
            context.generate(&GenerateParams::new(&model), |_| ControlFlow::Continue(())).unwrap().tokens
        };
        prompts.iter().map(&mut answer).collect::<Vec<_>>()
    });
    for (kv, narrow) in TYPES.iter().zip(&answers).skip(1) {
        let same = narrow.iter().zip(&answers[0]).filter(|(a, b)| a == b).count();
        eprintln!("{}: {same} of {} answers are those of f32", kv.name(), prompts.len());
        assert!(same + 2 >= prompts.len(), "{}: {same} of {} answers", kv.name(), prompts.len());
    }
}

/// Sixteen threads over one model, each with contexts of its own, get what each would get alone.
#[test]
fn sixteen_threads_share_a_model() {
    let model = micro(BackendKind::Cpu);
    let text = |i: u64| {
        let mut context = model.context(&params(TYPES[i as usize % 3], 7 + i as usize)).unwrap();
        context.set_tokens(&prompt()[..20 + i as usize * 5]).unwrap();
        let mut params = GenerateParams { max_tokens: 32, ignore_eog: true, ..GenerateParams::new(&model) };
        (params.sampler.seed, params.sampler.steps) = (i, 8);
        context.generate(&params, |_| ControlFlow::Continue(())).unwrap().tokens
    };
    let alone: Vec<Vec<u32>> = (0..16).map(text).collect();
    assert_ne!(alone[0], alone[1]);
    let together: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let text = &text;
        let threads: Vec<_> = (0..16).map(|i| scope.spawn(move || text(i))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
}

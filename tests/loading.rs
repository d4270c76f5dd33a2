//! The ways of loading a file: mapped, read, locked; and its sizes.

mod common;
use common::*;
use dgemma::engine::{GenerateParams, Model, ModelParams};
use dgemma::gguf::Gguf;
use std::ops::ControlFlow;
use std::path::PathBuf;

fn micro() -> PathBuf {
    golden("peer").join("micro-f32.gguf")
}

fn text(model: &Model) -> Vec<u32> {
    let mut context = context(model, 0);
    context.set_tokens(&raw_ids(&golden("peer").join("micro-p20.i32"))).unwrap();
    context.generate(&GenerateParams::new(model), |_| ControlFlow::Continue(())).unwrap().tokens
}

#[test]
fn a_file_that_was_read_may_be_changed_afterwards() {
    let copy = std::env::temp_dir().join(format!("dgemma-read-{}.gguf", std::process::id()));
    std::fs::copy(micro(), &copy).unwrap();
    let model = Model::load(&copy, &ModelParams { read: true, threads: 2, ..Default::default() }).unwrap();
    std::fs::write(&copy, b"gone").unwrap();
    std::fs::remove_file(&copy).unwrap();
    let mapped = Model::load(&micro(), &ModelParams::default()).unwrap();
    assert_eq!(text(&model), text(&mapped));
    assert_eq!(model.sizes(), mapped.sizes());
}

/// Cut files are named instead of read, and read again when they are whole; replaced ones stay what they were.
#[cfg(unix)]
#[test]
fn a_mapped_file_may_be_replaced_and_a_cut_is_noticed() {
    let copy = std::env::temp_dir().join(format!("dgemma-cut-{}.gguf", std::process::id()));
    std::fs::copy(micro(), &copy).unwrap();
    let model = Model::load(&copy, &ModelParams { threads: 2, ..Default::default() }).unwrap();
    let (before, whole) = (text(&model), std::fs::read(&copy).unwrap());
    let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
    let mut context = context(&model, 0);
    context.set_tokens(&[2, 3, 4]).unwrap();
    file.set_len(5000).unwrap();
    let cut = format!("{}: was cut from {} to 5000 bytes while it was mapped", copy.display(), whole.len());
    let prefill = context.prefill(|_, _| ControlFlow::Continue(()));
    assert_eq!(prefill.unwrap_err().to_string(), cut);
    assert_eq!(context.score(&[5], &[(0, 6)]).unwrap_err().to_string(), cut);
    std::os::unix::fs::FileExt::write_all_at(&file, &whole, 0).unwrap();
    assert_eq!(text(&model), before);

    std::fs::remove_file(&copy).unwrap();
    std::fs::write(&copy, b"another file of this name").unwrap();
    assert_eq!(text(&model), before);
    std::fs::remove_file(&copy).unwrap();
}

/// What a cut takes away reads as zeros, what it leaves as it was, and both files on the list are told apart.
#[cfg(target_os = "linux")]
#[test]
fn guarded_bytes_that_are_cut_away_are_zeros_and_noted() {
    let [copy, other] = ["guarded", "whole"].map(|name| {
        let copy = std::env::temp_dir().join(format!("dgemma-{name}-{}.gguf", std::process::id()));
        std::fs::copy(micro(), &copy).unwrap();
        copy
    });
    let (guarded, whole) = (Gguf::open_guarded(&copy).unwrap(), Gguf::open_guarded(&other).unwrap());
    let largest = guarded.tensors().iter().max_by_key(|info| info.bytes).unwrap();
    let tensor = guarded.tensor(&largest.name).unwrap();
    let cut_at = (largest.start + largest.bytes / 2) & !4095;
    assert!(tensor.data.iter().any(|&b| b != 0) && largest.start < cut_at);
    let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
    file.set_len(cut_at as u64).unwrap();
    guarded.check_reads().unwrap();
    let (left, gone) = tensor.data.split_at(cut_at - largest.start);
    assert!(gone.iter().all(|&b| b == 0));
    assert_eq!(left, &whole.tensor(&largest.name).unwrap().data[..left.len()]);
    // Also when the file is whole again: the zeros stay.
    std::fs::copy(micro(), &copy).unwrap();
    for check in [guarded.check_reads(), guarded.check_mapping()] {
        let text = check.unwrap_err().to_string();
        assert!(text.starts_with(&format!("{}: was cut from ", copy.display())), "{text}");
    }
    whole.check_mapping().unwrap();
    // A place on the list that is used again knows nothing of its past.
    drop((tensor, guarded));
    let again = Gguf::open_guarded(&copy).unwrap();
    again.check_reads().unwrap();
    std::fs::remove_file(&copy).unwrap();
    std::fs::remove_file(&other).unwrap();
}

/// Another thread cuts the file at whatever moment of a generation: an error that names the file, from this call and the next.
#[cfg(target_os = "linux")]
#[test]
fn a_cut_in_the_middle_of_a_pass_is_an_error() {
    let copy = std::env::temp_dir().join(format!("dgemma-midpass-{}.gguf", std::process::id()));
    let (rounds, mut in_a_pass) = (40, 0);
    for round in 0..rounds {
        std::fs::copy(micro(), &copy).unwrap();
        let model = Model::load(&copy, &ModelParams { threads: 2, ..Default::default() }).unwrap();
        let mut context = context(&model, 0);
        let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
        let cutter = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_micros(50 * round));
            file.set_len(5000).unwrap();
        });
        let mut endless = || loop {
            context.truncate(0);
            context.append(&[2, 3, 4]).unwrap();
            if let Err(e) = context.generate(&GenerateParams::new(&model), |_| ControlFlow::Continue(())) {
                break e.to_string();
            }
        };
        let text = endless();
        assert!(text.starts_with(&format!("{}: was cut from ", copy.display())), "{text}");
        in_a_pass += usize::from(text.contains("while it was read"));
        assert!(endless().contains("was cut from "));
        cutter.join().unwrap();
    }
    println!("{in_a_pass} of {rounds} cuts fell into a pass");
    std::fs::remove_file(&copy).unwrap();
}

/// Locked kilobytes of this process, by the kernel's word.
#[cfg(target_os = "linux")]
fn locked_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmLck:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Locking works or says why not: what a machine allows differs.
#[cfg(target_os = "linux")]
#[test]
fn locked_is_locked_or_refused_with_a_reason() {
    for read in [false, true] {
        match Model::load(&micro(), &ModelParams { lock: true, read, ..Default::default() }) {
            Ok(model) => {
                let kb = model.sizes().file_bytes / 1024;
                assert!(locked_kb() >= kb, "{} kB locked, expected {kb}", locked_kb());
                drop(model);
                assert!(locked_kb() < kb, "{} kB still locked", locked_kb());
            }
            Err(e) => {
                let text = e.to_string();
                assert!(text.contains("cannot lock") && text.contains("ulimit -l"), "{text}");
                eprintln!("not allowed here: {text}");
            }
        }
    }
}

#[test]
fn sizes_are_those_of_the_file() {
    let model = Model::load(&micro(), &ModelParams::default()).unwrap();
    let sizes = model.sizes();
    assert_eq!(sizes.file_bytes, std::fs::metadata(micro()).unwrap().len());
    assert_eq!((sizes.tensors, sizes.parts), (model.file().tensors().len(), 1));
    // F32 throughout: four bytes each.
    assert_eq!(sizes.tensor_bytes, sizes.parameters * 4);
    assert!(sizes.tensor_bytes < sizes.file_bytes && sizes.tensor_bytes * 10 > sizes.file_bytes * 8);
}

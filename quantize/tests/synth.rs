//! Models made up by `dgemma-quantize synth`: they load, their numbers stay finite, all experts get work, and the file depends
//! on what it should depend on only.

use dgemma::backend::cpu::Cpu;
use dgemma::backend::recording::Recording;
use dgemma::backend::{HeadParams, HeadStats, KvType};
use dgemma::cpu_level::CpuLevel;
use dgemma::engine::{ContextParams, Model, ModelParams};
use dgemma::gguf::writer::Header;
use dgemma::model::{Runner, Session, SessionSizes, Weights};
use dgemma_quantize::convert::Options;
use dgemma_quantize::{shapes, synth};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A file of this test alone, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("synth-{name}.gguf")))
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn synth(out: &Scratch, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    command.arg("synth").arg(&out.0).args(["--shape", "tiny"]).args(options).output().unwrap()
}

#[track_caller]
fn made(name: &str, options: &[&str]) -> Scratch {
    let file = Scratch::new(name);
    let output = synth(&file, options);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty() && output.stdout.is_empty());
    file
}

#[test]
fn the_file_depends_on_the_seed_and_not_on_the_threads() {
    let one = made("one", &["--type", "Q8_0", "--seed", "5", "--threads", "1"]).bytes();
    let two = made("two", &["--type", "Q8_0", "--seed", "5", "--threads", "2"]).bytes();
    let other = made("other", &["--type", "Q8_0", "--seed", "6", "--threads", "2"]).bytes();
    assert!(one == two, "threads change the file");
    let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!(same * 10 < one.len(), "{same} of {} bytes are the same with another seed", one.len());
}

/// Every format of 32-element blocks and more, in the sizes that the plan promises.
#[test]
fn the_data_section_has_the_planned_size() {
    for mix in ["F32", "BF16", "Q8_0", "Q4_K_M", "NVFP4", "IQ4_XS", "Q2_K"] {
        let file = made(mix, &["--type", mix]);
        let options = Options::of_type(mix).unwrap();
        let prepared = synth::prepare(&shapes::named("tiny").unwrap(), 0, &options).unwrap();
        let plans: Vec<_> = prepared.steps.iter().map(|step| step.plan.clone()).collect();
        let header = Header::new(&file.0, &prepared.keys, &plans).unwrap();
        let data: usize = header.sizes.iter().map(|bytes| bytes.next_multiple_of(header.alignment)).sum();
        let bytes = file.bytes();
        assert_eq!(bytes.len() as u64, header.file_bytes);
        assert_eq!(bytes.len() - header.bytes.len(), data);
        assert!(bytes.starts_with(&header.bytes));
    }
}

#[test]
fn no_weight_stands_out() {
    let file = made("weights", &["--type", "Q8_0"]);
    let gguf = dgemma::gguf::Gguf::open(&file.0).unwrap();
    for info in gguf.tensors().iter().filter(|t| t.shape.len() > 1) {
        let tensor = gguf.require(&info.name).unwrap();
        let mut values = vec![0.0; info.shape.iter().product()];
        (tensor.format.decode)(&tensor.data, &mut values);
        let mean = |f: fn(f64) -> f64| values.iter().map(|&x| f(x.into())).sum::<f64>() / values.len() as f64;
        let expected = if info.name == "token_embd.weight" { 2.0 } else { 1.0 } / (info.shape[0] as f64).sqrt();
        let (centre, deviation) = (mean(|x| x), mean(|x| x * x).sqrt());
        // The smallest matrix has 4096 elements; their deviation is known to about one percent.
        assert!((deviation / expected - 1.0).abs() < 0.06, "{}: {deviation}, expected {expected}", info.name);
        assert!(centre.abs() < 0.1 * expected, "{}: mean {centre}", info.name);
    }
}

#[test]
fn text_survives_the_vocabulary() {
    let file = made("vocabulary", &["--type", "Q8_0"]);
    let model = Model::load(&file.0, &ModelParams::default()).unwrap();
    let tokenizer = model.tokenizer();
    for text in ["hello world", "two  spaces\n\nand\ttabs", "\u{65e5}\u{672c} \u{1f600} na\u{ef}ve", ""] {
        let ids = tokenizer.encode(text, false, false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    }
    let ids = tokenizer.encode("banana banana", false, false).unwrap();
    assert!(ids.len() < "banana banana".len(), "no merge was applied: {ids:?}");
}

/// A prompt and canvases of random tokens: logits neither explode nor vanish nor sit at the soft cap, and the model does not
/// just repeat its canvas.
#[test]
fn logits_are_sane() {
    let file = made("logits", &["--type", "Q8_0"]);
    let model = Model::load(&file.0, &ModelParams::default()).unwrap();
    let (vocab, canvas) = (model.config().vocab, model.config().canvas);
    let mut context = model.context(&ContextParams { size: 512, chunk: 64, ..Default::default() }).unwrap();
    let random =
        |n: usize, key| (0..n as u64).map(move |i| dgemma_quantize::random::below(key, i, vocab as u64) as u32);
    context.append(&random(100, 1).collect::<Vec<_>>()).unwrap();
    let ids: Vec<u32> = random(canvas, 2).collect();
    let first = context.canvas_logits(&ids, None).unwrap();
    let second = context.canvas_logits(&ids, Some(&first)).unwrap();
    for logits in [first, second] {
        assert!(logits.iter().all(|x| x.is_finite()));
        let deviation = (logits.iter().map(|x| f64::from(x * x)).sum::<f64>() / logits.len() as f64).sqrt();
        assert!((1.0..4.0).contains(&deviation), "{deviation}");
        assert!(logits.iter().all(|x| x.abs() < 25.0), "close to the soft cap");
        let copied = logits.chunks(vocab).zip(&ids).filter(|(row, id)| {
            row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).is_some_and(|(at, _)| at == **id as usize)
        });
        assert!(copied.count() * 4 < canvas, "the model repeats its canvas");
    }
}

/// With 16 experts, 4 per row and 64 rows, an even share is 16 rows for each.
#[test]
fn all_experts_get_work() {
    let file = made("experts", &["--type", "Q8_0"]);
    let model = Model::load(&file.0, &ModelParams::default()).unwrap();
    let backend = Arc::new(Recording::new(Cpu::new(2, CpuLevel::best()).unwrap()));
    let weights = Arc::new(Weights::load(&*backend, model.file(), |_| true).unwrap());
    let mut session =
        Session::new(backend.clone(), weights, SessionSizes { context: 256, chunk: 64, kv: KvType::F32 }).unwrap();
    let (config, never) = (model.config(), AtomicBool::new(false));
    let head = HeadParams {
        temperature: 0.8,
        bias: &[],
        softcap: config.softcap,
        uniforms: &vec![0.5; config.canvas],
        likely: &[],
        soft_scale: (config.hidden as f32).sqrt(),
        cancel: &never,
    };
    let canvas: Vec<u32> =
        (0..config.canvas as u64).map(|i| dgemma_quantize::random::below(3, i, config.vocab as u64) as u32).collect();
    session.denoise(&[], &canvas, 0, false, &head, &mut HeadStats::default()).unwrap();
    let (even, mut layers) = (config.canvas * config.top_k / config.experts, 0);
    for (name, sums) in backend.sums().iter().filter(|(name, _)| name.contains("ffn_down_exps")) {
        assert_eq!(sums.counts.iter().sum::<u64>() as usize, config.canvas * config.top_k, "{name}");
        assert!(sums.counts.iter().all(|&n| n > 0 && n as usize <= 3 * even), "{name}: {:?}", sums.counts);
        layers += 1;
    }
    assert_eq!(layers, config.layers.len());
}

#[test]
fn mistakes_leave_nothing_behind() {
    let cases: [(&[&str], &str); 3] = [
        (&["--shape", "7b"], "error: argument `shape`: \"7b\" is unknown, expected one of 26b, 26b-layers=N, tiny\n"),
        (&["--type", "Q9"], "error: argument `type`: no mix is called Q9"),
        (&["--tensor-type", "nothing=Q8_0"], "error: "),
    ];
    for (options, message) in cases {
        let file = Scratch::new("mistake");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
        command.arg("synth").arg(&file.0);
        if !options.contains(&"--shape") {
            command.args(["--shape", "tiny"]);
        }
        let output = command.args(options).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(message) && said.lines().count() == 1, "{said}");
        assert_eq!(output.status.code(), Some(1));
        assert!(!file.0.exists());
    }
}

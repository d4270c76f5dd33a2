//! What the golden tests share: paths, readers of recorded numbers, and comparisons that say where they failed.
#![allow(dead_code)] // each test file uses its part

pub mod operations;

use dgemma::engine::{BackendKind, Context, ContextParams, KvType, Model, ModelParams};
use dgemma::sampler::{RecordedNoise, StepNoise};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// `tests/golden/<name>`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Both backends with their names.
pub const BACKENDS: [(&str, BackendKind); 2] = [("reference", BackendKind::Reference), ("cpu", BackendKind::Cpu)];

pub fn load(path: &Path, backend: BackendKind) -> Model {
    Model::load(path, &ModelParams { backend, threads: 2, exact: true, ..Default::default() }).unwrap()
}

/// With exact keys and values: recorded numbers are those of f32.
pub fn context(model: &Model, chunk: usize) -> Context {
    model.context(&ContextParams { chunk, kv: Some(KvType::F32), ..Default::default() }).unwrap()
}

/// Little-endian 32-bit numbers of a raw file.
pub fn raw(path: &Path) -> Vec<[u8; 4]> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes.as_chunks::<4>().0.to_vec()
}

pub fn raw_f32(path: &Path) -> Vec<f32> {
    raw(path).into_iter().map(f32::from_le_bytes).collect()
}

pub fn raw_ids(path: &Path) -> Vec<u32> {
    raw(path).into_iter().map(u32::from_le_bytes).collect()
}

/// A safetensors file of f32 and int32 tensors, in memory.
pub struct Tensors(HashMap<String, Vec<[u8; 4]>>);

impl Tensors {
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        Tensors(file.iter().map(|(name, t)| (name.to_owned(), t.data().as_chunks::<4>().0.to_vec())).collect())
    }

    fn words(&self, name: &str) -> &[[u8; 4]] {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.words(name).iter().map(|&b| f32::from_le_bytes(b)).collect()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.words(name).iter().map(|&b| u32::from_le_bytes(b)).collect()
    }
}

/// The noise that the reference's trace used.
pub fn recorded(trace: &Tensors) -> RecordedNoise {
    let mut noise = RecordedNoise::default();
    for block in (0..).take_while(|b| trace.has(&format!("canvas.{b}"))) {
        noise.canvases.insert(block, trace.ids(&format!("canvas.{block}")));
        for step in 0..trace.ids(&format!("used.{block}"))[0] {
            let key = format!("{block}.{step}");
            let one =
                StepNoise { draws: trace.f32(&format!("u.{key}")), renoise: trace.ids(&format!("renoise.{key}")) };
            noise.steps.insert((block, step), one);
        }
    }
    noise
}

/// Asserts |got - want| <= bound everywhere; on failure says where it is worst.
pub fn assert_close(what: &str, got: &[f32], want: &[f32], bound: f32) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let diff = |i: usize| {
        let d = (got[i] - want[i]).abs();
        if d.is_nan() { f32::INFINITY } else { d }
    };
    let Some(worst) = (0..got.len()).max_by(|&a, &b| diff(a).total_cmp(&diff(b))) else { return };
    eprintln!("{what}: worst difference {:.2e} (bound {bound:.0e})", diff(worst));
    assert!(
        diff(worst) <= bound,
        "{what}: at {worst} of {}: {}, expected {} within {bound}",
        got.len(),
        got[worst],
        want[worst]
    );
}

/// The largest entry of each row of `width`.
pub fn argmax_rows(x: &[f32], width: usize) -> Vec<usize> {
    x.chunks_exact(width).map(|row| (0..width).fold(0, |best, i| if row[i] > row[best] { i } else { best })).collect()
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

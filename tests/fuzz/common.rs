//! What the targets share: a meter of memory, inputs of several pieces, and the smallest model there is.
#![allow(dead_code)] // each target uses its part

use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::gguf::{Gguf, Strings};
use dgemma::quant;
use dgemma_quantize::config::Config;
use dgemma_quantize::tokenizer::Tokenizer;
use dgemma_quantize::vocabulary::Kind;
use dgemma_quantize::{metadata, names, names::Origin};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes in use, and what [`bounded`] allows at the moment.
static USED: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The system's allocator, which refuses what exceeds the limit. Code that asks for more than it should ends the process,
/// as it would on a machine that has no more.
struct Meter;

#[global_allocator]
static METER: Meter = Meter;

fn take(bytes: usize) -> bool {
    let used = USED.fetch_add(bytes, Relaxed).saturating_add(bytes);
    if used <= LIMIT.load(Relaxed) {
        return true;
    }
    USED.fetch_sub(bytes, Relaxed);
    eprintln!("{bytes} bytes more would make {used}, over the limit of this input");
    false
}

// SAFETY: hands everything to the system's allocator, or answers NULL, which is allowed.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if take(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if take(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let more = size.saturating_sub(layout.size());
        if !take(more) {
            return std::ptr::null_mut();
        }
        USED.fetch_sub(layout.size() - (size - more), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `what`, which may have no more than `most` bytes at any time beside those that are in use already.
pub fn bounded<T>(most: usize, what: impl FnOnce() -> T) -> T {
    LIMIT.store(USED.load(Relaxed) + most, Relaxed);
    let result = what();
    LIMIT.store(usize::MAX, Relaxed);
    result
}

/// What reading `bytes` bytes may take: a few megabytes, and the size of a file many times over for tables made from it.
pub fn allowed(bytes: usize) -> usize {
    (16 << 20) + 300 * bytes
}

/// An error is one line that begins with one of `starts`: the name of a file, or of what is wrong.
#[track_caller]
pub fn assert_tells(error: &dgemma::Error, starts: &[&str]) {
    let text = error.to_string();
    assert!(starts.iter().any(|start| text.starts_with(start)), "names nothing: {text}");
    assert!(!text.contains('\n'), "several lines: {text}");
    assert!(!matches!(error, dgemma::Error::Internal(_)), "{text}");
}

/// The pieces of an input: 0xFF, which no UTF-8 contains, stands between them. Missing ones are empty.
pub fn pieces<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut all = data.splitn(N, |&byte| byte == 0xff);
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// The way back.
pub fn joined(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.join(&0xff)
}

/// A folder for this process's files, in memory where there is such a place: what is converted is synced to its disk.
pub fn folder(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let folder = parent.join(format!("dgemma-fuzz-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The name of files in memory.
pub const FILE: &str = "input.gguf";

/// A file in memory.
pub fn open(bytes: &[u8]) -> dgemma::Result<Gguf> {
    Gguf::from_bytes(Path::new(FILE), bytes.to_vec())
}

/// Two layers, one of each kind; eight tokens.
pub fn config() -> Config {
    Config {
        hidden: 8,
        ffn: 8,
        expert_ffn: 4,
        experts: 4,
        experts_used: 2,
        heads: 2,
        sliding: vec![true, false],
        kv_heads: vec![2, 1],
        head_dim: 4,
        head_dim_full: 4,
        window: 4,
        context: 64,
        vocab: 8,
        canvas: 4,
        eps: 1e-6,
        softcap: Some(30.0),
        rope_base: 1e4,
        rope_base_full: 1e6,
        rotated_pairs_full: 1,
    }
}

/// Its vocabulary.
pub fn vocabulary() -> Tokenizer {
    let tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "\u{2581}", "a", "b", "ab"];
    let kind = |id| if id < 4 { Kind::Control } else { Kind::Normal };
    Tokenizer {
        tokens: tokens.map(str::to_owned).to_vec(),
        kinds: (0..tokens.len()).map(kind).collect(),
        merges: Strings::from_iter(["a b"]),
        special_ids: [("padding", 0), ("eos", 1), ("bos", 2), ("unknown", 3)]
            .map(|(n, id)| (n.to_owned(), id))
            .to_vec(),
        chat_template: Some("{{ bos_token }}{% for m in messages %}{{ m.content | trim }}{% endfor %}".to_owned()),
    }
}

/// Small numbers without a pattern that matters.
pub fn number(n: usize) -> f32 {
    ((n as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5
}

/// A model file of that shape, all F32.
pub fn model() -> Vec<u8> {
    let (config, format) = (config(), quant::by_name("F32").unwrap());
    let tensors: Vec<(Plan, Vec<u8>)> = names::expected(&config)
        .into_iter()
        .map(|tensor| {
            let count: usize = tensor.shape.iter().product();
            let values = match tensor.origin {
                Origin::Generated(values) => values,
                Origin::Checkpoint(_) => (0..count).map(number).collect(),
            };
            let shape = tensor.shape.into_iter().rev().collect();
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            (Plan { name: tensor.name, shape, format }, bytes)
        })
        .collect();
    let plans: Vec<Plan> = tensors.iter().map(|(plan, _)| plan.clone()).collect();
    let keys = metadata::keys(None, "small", &config, &vocabulary(), &plans, 0).unwrap();
    to_bytes(&keys, &tensors).unwrap()
}

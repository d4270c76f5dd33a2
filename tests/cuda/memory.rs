//! Host memory of a loaded model.

use super::device::available_unchecked;
use dgemma::engine::{BackendKind, Model, ModelParams};
use dgemma_quantize::convert::Options;
use dgemma_quantize::{shapes, synth};
use std::path::Path;

/// Bytes of the file's mappings that are in memory.
fn resident(path: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines();
    let mut bytes = 0;
    while let Some(line) = lines.next() {
        if line.ends_with(path.to_str().unwrap()) {
            let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            bytes += 1024 * rss.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
        }
    }
    bytes
}

/// The file's pages leave with the upload, wherever the weights go. A model on the processor keeps what it reads.
#[test]
fn uploaded_weights_do_not_stay_in_memory() {
    if !available_unchecked("uploaded_weights_do_not_stay_in_memory") {
        return;
    }
    let path = std::env::temp_dir().join(format!("dgemma-uploaded-{}.gguf", std::process::id()));
    synth::run(&path, &shapes::named("tiny").unwrap(), 1, &Options::of_type("F32").unwrap()).unwrap();
    for (n_gpu_layers, n_cpu_experts) in [(None, 0), (Some(2), 0), (None, 3)] {
        let backend = BackendKind::Cuda;
        let params = ModelParams { backend, threads: 2, n_gpu_layers, n_cpu_experts, ..Default::default() };
        let model = Model::load(&path, &params).unwrap();
        let (file, left) = (model.file().file_bytes() as usize, resident(&path));
        println!("{n_gpu_layers:?}, {n_cpu_experts}: {left} of {file} bytes are in memory");
        assert!(left * 16 < file, "{left} of {file} bytes are in memory");
        // All of it can be read again.
        model.fingerprint();
        model
            .file()
            .tensors()
            .iter()
            .for_each(|info| assert!(!model.file().require(&info.name).unwrap().data.is_empty()));
    }
    std::fs::remove_file(&path).unwrap();
}

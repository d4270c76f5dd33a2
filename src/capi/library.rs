//! What this library is: versions, how it was built, what it can run on.

use super::buffer::output;
use super::guard::guard;
use super::params::{DGEMMA_BACKEND_CPU, DGEMMA_BACKEND_CUDA};
use super::sized::{Growable, report};
use super::status::dgemma_status;
use crate::cpu_level::CpuLevel;
use crate::error::Error;
use std::ffi::c_char;
use std::sync::OnceLock;

/// Of this header: raised by each release that adds to it. A program may run with every library of the same soname whose
/// dgemma_abi_version() is at least this.
pub const DGEMMA_ABI_VERSION: u32 = 3;

/// The library's version, e.g. "0.1.0". Static; do not free it. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The DGEMMA_ABI_VERSION of the library that runs. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_abi_version() -> u32 {
    DGEMMA_ABI_VERSION
}

/// How the library was built and what it found here: one line of `key=value` pairs separated by spaces, e.g.
/// "version=0.1.0 abi=3 target=x86_64-linux backends=cpu,reference,cuda cpu=avx512 kernels=embedded".
/// Keys may be added. "kernels" (of the CUDA backend) is "embedded", or "sources" in a library that compiles them at run time.
///
/// Lifetime: static; do not free it. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_build_info() -> *const c_char {
    static INFO: OnceLock<String> = OnceLock::new();
    let info = INFO.get_or_init(|| {
        let (version, debug) = (env!("CARGO_PKG_VERSION"), if cfg!(debug_assertions) { " debug=1" } else { "" });
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        let cpu = CpuLevel::best().name();
        let (cuda, kernels) = cuda();
        format!(
            "version={version} abi={DGEMMA_ABI_VERSION} target={arch}-{os} backends=cpu,reference{cuda} \
             cpu={cpu}{kernels}{debug}\0"
        )
    });
    info.as_ptr().cast()
}

/// What the line above says of the CUDA backend.
#[cfg(feature = "cuda")]
fn cuda() -> (&'static str, &'static str) {
    (",cuda", if crate::backend::cuda::embedded() { " kernels=embedded" } else { " kernels=sources" })
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> (&'static str, &'static str) {
    ("", "")
}

/// Something that can run a model. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dgemma_device_info {
    /// sizeof(dgemma_device_info) in the calling program.
    pub struct_size: usize,
    /// The DGEMMA_BACKEND_* that runs on it.
    pub backend: u32,
    /// Processor cores that the process may use, or a GPU's multiprocessors; 0 where that says nothing.
    pub cores: u32,
    /// Memory in bytes; 0: unknown.
    pub memory_bytes: u64,
    /// Of which free when asked, of a GPU all of it; 0: unknown.
    pub free_bytes: u64,
    /// Its name, UTF-8 with a NUL behind it, cut if it is longer.
    pub name: [c_char; 128],
}

// SAFETY: repr(C), integers only, the size first.
unsafe impl Growable for dgemma_device_info {
    const LEAST: usize = 160;
}

/// How many devices dgemma_device_describe() knows: the processor, then the GPUs that DGEMMA_BACKEND_CUDA can use, looked for
/// at the first call. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_device_count() -> usize {
    1 + gpus().len()
}

/// The GPUs, looked for once.
fn gpus() -> &'static [dgemma_device_info] {
    static GPUS: OnceLock<Vec<dgemma_device_info>> = OnceLock::new();
    GPUS.get_or_init(find_gpus)
}

#[cfg(feature = "cuda")]
fn find_gpus() -> Vec<dgemma_device_info> {
    // The driver's bindings panic where a driver lacks a call; such a one is none to us.
    let found = std::panic::catch_unwind(crate::backend::cuda::devices).unwrap_or_default();
    let info = |gpu: &crate::backend::cuda::DeviceInfo| dgemma_device_info {
        struct_size: size_of::<dgemma_device_info>(),
        backend: DGEMMA_BACKEND_CUDA,
        cores: gpu.processors as u32,
        memory_bytes: gpu.memory as u64,
        free_bytes: gpu.free as u64,
        name: text(&gpu.name),
    };
    found.iter().map(info).collect()
}

#[cfg(not(feature = "cuda"))]
fn find_gpus() -> Vec<dgemma_device_info> {
    Vec::new()
}

/// Describes device `index`, from 0.
///
/// `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, a wrong struct_size, or an index
/// that is not below dgemma_device_count(). Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_device_describe(index: usize, out: *mut dgemma_device_info) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        if index >= dgemma_device_count() {
            let what = format!("is {index}, expected less than {}", dgemma_device_count());
            return Err(Error::argument("index", what));
        }
        // SAFETY: the caller's promise.
        unsafe { report(out, &index.checked_sub(1).map_or_else(processor, |gpu| gpus()[gpu])) }
    })
}

fn processor() -> dgemma_device_info {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let bytes = |key| {
        let value = field(&memory, key)?;
        Some(value.split(' ').next()?.parse::<u64>().ok()? * 1024)
    };
    dgemma_device_info {
        struct_size: size_of::<dgemma_device_info>(),
        backend: DGEMMA_BACKEND_CPU,
        cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        memory_bytes: bytes("MemTotal").unwrap_or(0),
        free_bytes: bytes("MemAvailable").unwrap_or(0),
        name: text(field(&cpu, "model name").as_deref().unwrap_or(std::env::consts::ARCH)),
    }
}

/// A text as it lies in a device's description: cut if need be, with a zero behind it.
fn text(from: &str) -> [c_char; 128] {
    let mut to = [0 as c_char; 128];
    let end = from.floor_char_boundary(to.len() - 1);
    for (to, from) in to.iter_mut().zip(&from.as_bytes()[..end]) {
        *to = *from as c_char;
    }
    to
}

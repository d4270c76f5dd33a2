//! What this library is: versions, how it was built, what it can run on.

use super::buffer::output;
use super::guard::guard;
use super::params::DGEMMA_BACKEND_CPU;
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
/// "version=0.1.0 abi=3 target=x86_64-linux backends=cpu,reference cpu=avx512". Keys may be added.
///
/// Lifetime: static; do not free it. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_build_info() -> *const c_char {
    static INFO: OnceLock<String> = OnceLock::new();
    let info = INFO.get_or_init(|| {
        let (version, debug) = (env!("CARGO_PKG_VERSION"), if cfg!(debug_assertions) { " debug=1" } else { "" });
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        let cpu = CpuLevel::best().name();
        format!(
            "version={version} abi={DGEMMA_ABI_VERSION} target={arch}-{os} backends=cpu,reference cpu={cpu}{debug}\0"
        )
    });
    info.as_ptr().cast()
}

/// Something that can run a model. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dgemma_device_info {
    /// sizeof(dgemma_device_info) in the calling program.
    pub struct_size: usize,
    /// The DGEMMA_BACKEND_* that runs on it.
    pub backend: u32,
    /// Processor cores that the process may use; 0 where that says nothing.
    pub cores: u32,
    /// Memory in bytes; 0: unknown.
    pub memory_bytes: u64,
    /// Of which free when asked; 0: unknown.
    pub free_bytes: u64,
    /// Its name, UTF-8 with a NUL behind it, cut if it is longer.
    pub name: [c_char; 128],
}

// SAFETY: repr(C), integers only, the size first.
unsafe impl Growable for dgemma_device_info {
    const LEAST: usize = 160;
}

/// How many devices dgemma_device_describe() knows. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_device_count() -> usize {
    1
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
        unsafe { report(out, &processor()) }
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
    let mut name = [0 as c_char; 128];
    let text = field(&cpu, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let end = text.floor_char_boundary(name.len() - 1);
    for (to, from) in name.iter_mut().zip(&text.as_bytes()[..end]) {
        *to = *from as c_char;
    }
    dgemma_device_info {
        struct_size: size_of::<dgemma_device_info>(),
        backend: DGEMMA_BACKEND_CPU,
        cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        memory_bytes: bytes("MemTotal").unwrap_or(0),
        free_bytes: bytes("MemAvailable").unwrap_or(0),
        name,
    }
}

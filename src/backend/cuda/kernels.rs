//! Compiled kernels: those that the build embedded, or sources compiled at run time through NVRTC and kept on disk.
//! Modules are loaded when the first of their kernels is asked for.

use super::driver::{Device, Function, Module};
use super::graph;
use super::units::{self, OPTIONS, Unit};
use crate::error::{Error, Result};
use cudarc::nvrtc::sys as nvrtc;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, CString, c_int};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

mod embedded {
    /// The driver reads images in place, as words.
    #[repr(align(64))]
    pub struct Aligned<T: ?Sized>(pub T);

    include!(concat!(env!("OUT_DIR"), "/cuda_kernels.rs"));
}

/// Whether the build embedded compiled kernels.
pub fn embedded() -> bool {
    !embedded::FATBINS.is_empty()
}

/// The kernels of one device.
pub struct Kernels {
    device: Arc<Device>,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<Unit, Module>,
    functions: HashMap<(Unit, &'static str), Function>,
}

impl Kernels {
    /// None loaded yet.
    pub fn new(device: Arc<Device>) -> Self {
        Kernels { device, loaded: Mutex::default() }
    }

    /// Kernel `entry` of `unit`; with a format, its name ends in that.
    pub fn get(&self, unit: Unit, entry: &'static str) -> Result<Function> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&function) = loaded.functions.get(&(unit, entry)) {
            return Ok(function);
        }
        graph::refuse_to_record()?;
        let loaded = &mut *loaded;
        let module = match loaded.modules.entry(unit) {
            Entry::Occupied(module) => module.into_mut(),
            Entry::Vacant(place) => place.insert(self.device.load(&image(&self.device, unit)?)?),
        };
        let name = unit.format.map_or_else(|| entry.to_owned(), |format| format!("{entry}_{format}"));
        let name = CString::new(name).map_err(|_| Error::Internal("a kernel's name holds a zero".into()))?;
        let function = module.function(&name)?;
        loaded.functions.insert((unit, entry), function);
        Ok(function)
    }
}

/// A unit's code.
fn image(device: &Device, unit: Unit) -> Result<std::borrow::Cow<'static, [u8]>> {
    let name = unit.name();
    if let Some((_, fatbin)) = embedded::FATBINS.iter().find(|(of, _)| *of == name) {
        return Ok(fatbin.0.into());
    }
    compiled_here(device, unit)
}

/// A unit's code for this device, by NVRTC or from the cache.
fn compiled_here(device: &Device, unit: Unit) -> Result<std::borrow::Cow<'static, [u8]>> {
    // SAFETY: looks for a library, and calls nothing in it.
    if !unsafe { nvrtc::is_culib_present() } {
        let what = "this build has no compiled kernels, and libnvrtc.so is not there to make them; \
                    build with `cargo xtask cuda`, or install CUDA 13's NVRTC";
        return Err(Error::Device { call: "nvrtcCreateProgram", what: what.into() });
    }
    let (major, minor) = device.info.capability;
    let options = options(unit, major, minor);
    let source = source(unit)?;
    let kept = cache(&source, &options);
    if let Some(image) = kept.as_ref().and_then(|file| std::fs::read(file).ok()).filter(|image| !image.is_empty()) {
        return Ok(image.into());
    }
    let image = compile(&source, &options)?;
    if let Some(file) = kept {
        keep(&file, &image);
    }
    Ok(image.into())
}

fn options(unit: Unit, major: c_int, minor: c_int) -> Vec<String> {
    let mut options = vec![format!("--gpu-architecture=sm_{major}{minor}")];
    options.extend(OPTIONS.map(str::to_owned));
    options.extend(unit.format.map(|format| format!("-DFORMAT={format}")));
    options
}

/// The file of a unit with all that it includes, once each: one text, since NVRTC has no folders.
pub fn source(unit: Unit) -> Result<String> {
    let file = |name: &str| embedded::SOURCES.iter().find(|(of, _)| *of == name).map(|(_, text)| *text);
    units::joined(unit, &file).map_err(Error::Internal)
}

/// Where an image of this source is kept: `$XDG_CACHE_HOME/dgemma`, or `~/.cache/dgemma`.
fn cache(source: &str, options: &[String]) -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there; it writes two integers.
    unsafe { nvrtc::nvrtcVersion(&mut major, &mut minor) };
    let mut hash = DefaultHasher::new();
    (source, options, major, minor).hash(&mut hash);
    Some(folder.join("dgemma").join(format!("{:016x}.cubin", hash.finish())))
}

/// Writes beside the place and renames, so that another process never reads half a file. A cache that cannot be written is
/// no failure.
fn keep(file: &std::path::Path, image: &[u8]) {
    let beside = file.with_extension(format!("{}", std::process::id()));
    let written = file.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
        && std::fs::write(&beside, image).is_ok();
    if written && std::fs::rename(&beside, file).is_err() {
        let _ = std::fs::remove_file(&beside);
    }
}

/// A program under way; destroyed when it goes.
struct Program(nvrtc::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by nvrtcCreateProgram, and not destroyed before.
        unsafe { nvrtc::nvrtcDestroyProgram(&mut self.0) };
    }
}

fn check(call: &'static str, code: nvrtc::nvrtcResult, log: impl FnOnce() -> String) -> Result<()> {
    if code == nvrtc::nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    // SAFETY: a static, terminated text.
    let name = unsafe { CStr::from_ptr(nvrtc::nvrtcGetErrorString(code)) }.to_string_lossy().into_owned();
    Err(Error::Device { call, what: format!("{name} {}", log()).trim().to_owned() })
}

/// Compiles to a cubin.
fn compile(source: &str, options: &[String]) -> Result<Vec<u8>> {
    let text = |s: &str| CString::new(s).map_err(|_| Error::Internal("a kernel's source holds a zero".into()));
    let source = text(source)?;
    let options = options.iter().map(|o| text(o)).collect::<Result<Vec<_>>>()?;
    let options: Vec<_> = options.iter().map(|o| o.as_ptr()).collect();
    let mut program = null_mut();
    // SAFETY: all pointers are to live, terminated texts, or null where the manual allows it; sizes are those that the
    // library answers before it writes.
    unsafe {
        let made = nvrtc::nvrtcCreateProgram(&mut program, source.as_ptr(), null(), 0, null(), null());
        check("nvrtcCreateProgram", made, String::new)?;
        let program = Program(program);
        let compiled = nvrtc::nvrtcCompileProgram(program.0, options.len() as c_int, options.as_ptr());
        check("nvrtcCompileProgram", compiled, || log(&program))?;
        let mut bytes = 0;
        check("nvrtcGetCUBINSize", nvrtc::nvrtcGetCUBINSize(program.0, &mut bytes), String::new)?;
        let mut image = vec![0; bytes];
        check("nvrtcGetCUBIN", nvrtc::nvrtcGetCUBIN(program.0, image.as_mut_ptr().cast()), String::new)?;
        Ok(image)
    }
}

/// The first line of what the compiler said.
fn log(program: &Program) -> String {
    let mut bytes = 0;
    // SAFETY: as in `compile`.
    unsafe { nvrtc::nvrtcGetProgramLogSize(program.0, &mut bytes) };
    let mut log = vec![0u8; bytes + 1];
    // SAFETY: as many bytes as the library said, and a zero behind them.
    unsafe { nvrtc::nvrtcGetProgramLog(program.0, log.as_mut_ptr().cast()) };
    let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
    log.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::units::units;
    use super::*;

    /// What NVRTC gets is one text without includes, with every kernel's file in it once.
    #[test]
    fn sources_are_joined_without_includes() {
        for unit in units() {
            let text = source(unit).unwrap();
            assert!(!text.contains("#include "), "{}", unit.name());
            assert_eq!(text.matches("DEVICE int lane()").count(), 1, "{}", unit.name());
            assert!(text.contains("KERNEL("), "{}", unit.name());
            if let Some(format) = unit.format {
                assert_eq!(text.matches(&format!("struct {format} ")).count(), 1, "{}", unit.name());
            }
        }
    }

    /// The bytes of the image that this thread gave the stand-in driver last, and their hash; `None` on a real driver.
    fn seen_by_the_standin() -> Option<(usize, u64)> {
        // SAFETY: a terminated name; the library is loaded already.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        // SAFETY: looks for a symbol.
        let found = unsafe { libc::dlsym(library, c"standin_image".as_ptr()) };
        if library.is_null() || found.is_null() {
            return None;
        }
        // SAFETY: the signature in tests/cuda/standin/driver.cpp.
        let seen: unsafe extern "C" fn(*mut u64) -> usize = unsafe { std::mem::transmute(found) };
        let mut hash = 0;
        // SAFETY: it writes one number.
        let bytes = unsafe { seen(&mut hash) };
        Some((bytes, hash))
    }

    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    }

    /// Every embedded image is taken by the driver, whole; and every source by the run-time compiler, where there is one.
    #[test]
    fn images_reach_the_driver_whole() {
        if super::super::devices().is_empty() {
            assert!(std::env::var_os("DGEMMA_REQUIRE_CUDA").is_none_or(|v| v != "1"), "a CUDA device is required");
            eprintln!("skipped: images_reach_the_driver_whole: no CUDA device");
            return;
        }
        let device = Device::open(0).unwrap();
        // SAFETY: looks for a library, and calls nothing in it.
        let nvrtc = unsafe { nvrtc::is_culib_present() };
        assert!(embedded() || nvrtc, "neither embedded kernels nor NVRTC: nothing to load");
        let load = |unit: Unit, image: &[u8]| {
            device.load(image).unwrap_or_else(|e| panic!("{}: {e}", unit.name()));
            if let Some(seen) = seen_by_the_standin() {
                assert_eq!(seen, (image.len(), fnv(image)), "{}", unit.name());
            }
        };
        for unit in units() {
            if embedded() {
                let image = image(&device, unit).unwrap();
                assert_eq!(image.as_ptr() as usize % 64, 0, "{}: the driver reads words", unit.name());
                load(unit, &image);
            }
            if nvrtc {
                load(unit, &compiled_here(&device, unit).unwrap());
            }
        }
        println!("{} units: embedded {}, by NVRTC {nvrtc}", units().count(), embedded());
    }
}

//! The model object: loading, sizes, metadata.

use super::buffer::{give_text, output, required, utf8};
use super::context::{DGEMMA_KV_DEFAULT, kv_type};
use super::guard::{Caller, guard, guard_with};
use super::params::{DGEMMA_BACKEND_CPU, DGEMMA_BACKEND_CUDA, DGEMMA_BACKEND_REFERENCE};
use super::sized::{self, Growable};
use super::status::dgemma_status;
use crate::cpu_level::{Avx2, Avx512, Avx512Vnni, CpuLevel};
use crate::engine::{BackendKind, ContextParams, Model, ModelParams};
use crate::error::{Error, Result};
use crate::gguf::Value;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

/// A loaded model. Immutable: any number of threads may use it at once.
pub struct dgemma_model(pub(super) Model);

/// Hears how far loading is: `fraction` is 0 to 1. Returns 0 to continue; anything else gives up, and the load answers
/// DGEMMA_STATUS_CANCELLED.
pub type dgemma_progress_callback = Option<unsafe extern "C" fn(fraction: f32, user_data: *mut c_void) -> c_int>;

/// dgemma_model_params.memory: read the file instead of mapping it. Loading takes longer and the memory is not shared with
/// other processes; in exchange the file may be changed or removed afterwards. What was read stays in host memory, also with
/// DGEMMA_BACKEND_CUDA, for which the memory of a mapped file goes back to the system as its weights are uploaded (on Linux).
pub const DGEMMA_MEMORY_READ: u64 = 1;
/// dgemma_model_params.memory: keep the file's bytes in memory, never pushed out by the system. Needs the right to lock that
/// much (`ulimit -l`); else loading answers DGEMMA_STATUS_IO.
pub const DGEMMA_MEMORY_LOCK: u64 = 2;

/// dgemma_model_params.cpu_level: the best instruction set of the processor.
pub const DGEMMA_CPU_BEST: u32 = 0;
/// dgemma_model_params.cpu_level: what every processor of the target has.
pub const DGEMMA_CPU_SCALAR: u32 = 1;
/// dgemma_model_params.cpu_level: AVX2 and FMA.
pub const DGEMMA_CPU_AVX2: u32 = 2;
/// dgemma_model_params.cpu_level: AVX-512 F, BW, DQ and VL.
pub const DGEMMA_CPU_AVX512: u32 = 3;
/// dgemma_model_params.cpu_level: the same with VNNI.
pub const DGEMMA_CPU_AVX512_VNNI: u32 = 4;

/// dgemma_model_params.n_gpu_layers: none.
pub const DGEMMA_GPU_LAYERS_NONE: u32 = 0xFFFF_FFFF;

/// How to load a model. Fill it with dgemma_model_params_init(), then change fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_model_params {
    /// Size of this struct as the program knows it, in bytes; set by dgemma_model_params_init().
    pub struct_size: usize,
    /// DGEMMA_BACKEND_CPU (0), DGEMMA_BACKEND_REFERENCE or DGEMMA_BACKEND_CUDA.
    pub backend: u32,
    /// Threads of the model's own pool, 0 to 1024; 0: one per available core. Not what the text depends on.
    pub threads: u32,
    /// DGEMMA_MEMORY_* values added up, or 0.
    pub memory: u64,
    /// Hears how far loading is, on the calling thread, or NULL.
    pub on_progress: dgemma_progress_callback,
    /// Handed to on_progress as it is.
    pub user_data: *mut c_void,
    /// Also receives the text of a failure (cut if need be, always with a NUL), or NULL. For bindings whose calls change
    /// threads: see "Errors" above.
    pub error_text: *mut c_char,
    /// Bytes that error_text has room for.
    pub error_text_cap: usize,
    /// 1: DGEMMA_BACKEND_CPU computes all products in f32, DGEMMA_BACKEND_CUDA as accurately. 0: those with quantized weights
    /// round their other operand to 8 bits, which is several times faster and moves logits a little (DGEMMA_BACKEND_CUDA on
    /// GPUs of data centers, compute capability 8.0, 9.0, 10.0 and 10.3: both to bf16, but for experts); those with weights of
    /// 16-bit floats round both to bf16, with DGEMMA_BACKEND_CPU only where the processor has AVX-512 BF16. The text of a seed
    /// differs between the two.
    pub exact: u32,
    /// DGEMMA_CPU_* that DGEMMA_BACKEND_CPU uses; DGEMMA_CPU_BEST (0) but for comparisons.
    pub cpu_level: u32,
    /// Which GPU DGEMMA_BACKEND_CUDA uses, from 0: dgemma_device_describe(1 + device).
    pub device: u32,
    /// Positions of the context that DGEMMA_BACKEND_CUDA must leave room for; 0: 8192, or the model's limit if that is less.
    /// Where weights and such a context do not fit the GPU together, loading answers DGEMMA_STATUS_OUT_OF_MEMORY, with a text
    /// that says what would fit. Other contexts can be made later, as long as there is memory. Other backends do not look at
    /// it.
    pub planned_context_size: usize,
    /// How many layers DGEMMA_BACKEND_CUDA keeps on the GPU, the last ones; 0, or more than there are: all;
    /// DGEMMA_GPU_LAYERS_NONE: none. The matrices of the others stay in page-locked host memory and are copied over, layer by
    /// layer, ahead of their use, in every pass: texts are the same, and a step takes as long as the link to the GPU needs for
    /// those bytes. Embedding, head and self-conditioning are always on the GPU. Other backends refuse anything but 0.
    pub n_gpu_layers: u32,
    /// How many layers, the first ones, have their experts (nine tenths of a layer) in host memory, in the same way; 0: none.
    /// Of layers that are not on the GPU anyway nothing changes. Other backends refuse anything but 0.
    pub n_cpu_experts: u32,
    /// DGEMMA_KV_* of the context that planned_context_size speaks of.
    pub planned_kv_type: u32,
}

// SAFETY: repr(C), integers and pointers only, the size first.
unsafe impl Growable for dgemma_model_params {
    const LEAST: usize = 16;
}

const DEFAULTS: dgemma_model_params = dgemma_model_params {
    struct_size: size_of::<dgemma_model_params>(),
    backend: DGEMMA_BACKEND_CPU,
    threads: 0,
    memory: 0,
    on_progress: None,
    user_data: null_mut(),
    error_text: null_mut(),
    error_text_cap: 0,
    exact: 0,
    cpu_level: DGEMMA_CPU_BEST,
    device: 0,
    planned_context_size: 0,
    n_gpu_layers: 0,
    n_cpu_experts: 0,
    planned_kv_type: DGEMMA_KV_DEFAULT,
};

/// Fills `params` with the defaults.
///
/// `params`: where to write; not NULL. `struct_size`: sizeof(*params) in the calling program.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT for NULL, and for a size smaller than that of the library's first release.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_params_init(
    params: *mut dgemma_model_params,
    struct_size: usize,
) -> dgemma_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { sized::init(params, struct_size, &DEFAULTS) })
}

fn checked(p: &dgemma_model_params) -> Result<ModelParams> {
    let backend = match p.backend {
        DGEMMA_BACKEND_CPU => BackendKind::Cpu,
        DGEMMA_BACKEND_REFERENCE => BackendKind::Reference,
        DGEMMA_BACKEND_CUDA => BackendKind::Cuda,
        other => return Err(Error::argument("backend", format!("is {other}, expected a DGEMMA_BACKEND_* value"))),
    };
    if p.threads > 1024 {
        return Err(Error::argument("threads", format!("is {}, expected 0 to 1024", p.threads)));
    }
    if p.memory & !(DGEMMA_MEMORY_READ | DGEMMA_MEMORY_LOCK) != 0 {
        return Err(Error::argument("memory", format!("is {:#x}, expected DGEMMA_MEMORY_* values", p.memory)));
    }
    if p.exact > 1 {
        return Err(Error::argument("exact", format!("is {}, expected 0 or 1", p.exact)));
    }
    Ok(ModelParams {
        backend,
        device: p.device as usize,
        threads: p.threads as usize,
        cpu_level: cpu_level(p.cpu_level)?,
        exact: p.exact == 1,
        read: p.memory & DGEMMA_MEMORY_READ != 0,
        lock: p.memory & DGEMMA_MEMORY_LOCK != 0,
        n_gpu_layers: match p.n_gpu_layers {
            0 => None,
            DGEMMA_GPU_LAYERS_NONE => Some(0),
            n => Some(n as usize),
        },
        n_cpu_experts: p.n_cpu_experts as usize,
        plan_for: ContextParams {
            size: p.planned_context_size,
            kv: kv_type(p.planned_kv_type, "planned_kv_type")?,
            ..Default::default()
        },
    })
}

fn cpu_level(level: u32) -> Result<Option<CpuLevel>> {
    let (name, found) = match level {
        DGEMMA_CPU_BEST => return Ok(None),
        DGEMMA_CPU_SCALAR => ("scalar", Some(CpuLevel::Scalar)),
        DGEMMA_CPU_AVX2 => ("AVX2", Avx2::detect().map(CpuLevel::Avx2)),
        DGEMMA_CPU_AVX512 => ("AVX-512", Avx512::detect().map(CpuLevel::Avx512)),
        DGEMMA_CPU_AVX512_VNNI => ("AVX-512 VNNI", Avx512Vnni::detect().map(CpuLevel::Avx512Vnni)),
        other => return Err(Error::argument("cpu_level", format!("is {other}, expected a DGEMMA_CPU_* value"))),
    };
    match found {
        None => Err(Error::argument("cpu_level", format!("is {name}, which this processor or system does not have"))),
        found => Ok(found),
    }
}

/// Loads a GGUF file: maps it, checks it, binds its weights.
///
/// A mapped file must stay as it is while the model or anything made from it lives. Removing it, or replacing it by a new
/// file of the same name (as `mv` and package managers do), is fine: the old one stays mapped. Overwriting it in place
/// changes the weights. Cutting it ends in DGEMMA_STATUS_BAD_FILE from prefill, generation, step and scoring until it is
/// restored; if it was cut in the middle of a load or a pass, or its disk failed, the call answers the same, and so does
/// every later one with this model. Where a file may be overwritten or cut, ask for DGEMMA_MEMORY_READ: then nothing that
/// happens to it matters any more.
///
/// On Linux the first load of a mapped file installs a handler of SIGBUS for this, which passes on every signal that is not
/// about a model's file; a program that sets a handler of its own later should do the same, or such a cut ends it.
/// Loads with DGEMMA_MEMORY_READ install nothing.
///
/// `path`: UTF-8, the file or the first part of a split set; not NULL. `params`: from dgemma_model_params_init(), or NULL
/// for the defaults. `out`: receives the model, to be freed with dgemma_model_free(); not NULL, untouched on failure.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _IO (missing, unreadable, not lockable), _BAD_FILE (damaged or another architecture),
/// _TOKENIZER (unusable vocabulary), _OUT_OF_MEMORY, _DEVICE or _CANCELLED (by on_progress). Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_load(
    path: *const c_char,
    params: *const dgemma_model_params,
    out: *mut *mut dgemma_model,
) -> dgemma_status {
    let mut caller = Caller::default();
    guard_with(&mut caller, |caller| {
        // SAFETY: the caller's promise.
        let p = unsafe { sized::read(params, &DEFAULTS)? };
        *caller = Caller { error_text: p.error_text, cap: p.error_text_cap };
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let path = unsafe { utf8(path, "path")? };
        let hear = |fraction| match p.on_progress {
            // SAFETY: the function is the caller's.
            Some(callback) => unsafe { callback(fraction, p.user_data) == 0 },
            None => true,
        };
        let model = Box::new(dgemma_model(Model::load_with_progress(path.as_ref(), &checked(&p)?, hear)?));
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(Box::into_raw(model)) };
        Ok(())
    })
}

/// Frees a model; NULL is fine. Contexts, blocks and detokenizers made from it stay usable: they hold what they need, and
/// memory goes back when the last of them is freed. Calls that were given this very pointer must have returned.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_free(model: *mut dgemma_model) {
    guard(|| {
        if !model.is_null() {
            // SAFETY: made by Box::into_raw in dgemma_model_load, and not freed yet by the caller's promise.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

/// The engine's model behind a pointer.
///
/// # Safety
/// `model` is NULL or live as long as the caller uses the result.
pub(super) unsafe fn model_of<'a>(model: *const dgemma_model) -> Result<&'a Model> {
    // SAFETY: the caller's promise.
    Ok(unsafe { &required(model, "model")?.0 })
}

/// The sizes of a model. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dgemma_model_info {
    /// sizeof(dgemma_model_info) in the calling program.
    pub struct_size: usize,
    /// Tokens in the vocabulary: ids are below it.
    pub vocab_size: u32,
    /// Positions of a canvas.
    pub canvas_length: u32,
    /// Most positions of a context: what the model was trained for.
    pub context_length: u32,
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Experts of each layer.
    pub experts: u32,
    /// Experts chosen for each token.
    pub experts_used: u32,
    /// DGEMMA_BACKEND_* that it was loaded for.
    pub backend: u32,
    /// Weights in all.
    pub parameters: u64,
    /// Bytes of the file, or of all files of a split set.
    pub file_bytes: u64,
    /// Bytes of the tensors in them.
    pub tensor_bytes: u64,
    /// Files: 1, or the parts of a split set.
    pub files: u32,
    /// Tensors in them.
    pub tensors: u32,
}

// SAFETY: repr(C), integers only, the size first.
unsafe impl Growable for dgemma_model_info {
    const LEAST: usize = 72;
}

/// Reports the sizes of a model.
///
/// `model`: not NULL. `out`: not NULL, struct_size set. Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_describe(
    model: *const dgemma_model,
    out: *mut dgemma_model_info,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let model = unsafe { model_of(model)? };
        let (config, sizes) = (model.config(), model.sizes());
        let info = dgemma_model_info {
            struct_size: size_of::<dgemma_model_info>(),
            vocab_size: config.vocab as u32,
            canvas_length: config.canvas as u32,
            context_length: config.context_length as u32,
            layers: config.layers.len() as u32,
            hidden_size: config.hidden as u32,
            experts: config.experts as u32,
            experts_used: config.top_k as u32,
            backend: match model.backend() {
                BackendKind::Cpu => DGEMMA_BACKEND_CPU,
                BackendKind::Reference => DGEMMA_BACKEND_REFERENCE,
                BackendKind::Cuda => DGEMMA_BACKEND_CUDA,
            },
            parameters: sizes.parameters,
            file_bytes: sizes.file_bytes,
            tensor_bytes: sizes.tensor_bytes,
            files: sizes.parts as u32,
            tensors: sizes.tensors as u32,
        };
        // SAFETY: the caller's promise.
        unsafe { sized::report(out, &info) }
    })
}

/// A number that says which model it is: a hash of architecture keys, tensor table and a sample of every tensor. The same
/// for a file and its split form; another one after requantizing. Saved contexts carry it.
///
/// `model`: not NULL. `out`: receives the number; not NULL. The first call on a model reads a page or two of each tensor.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_fingerprint(model: *const dgemma_model, out: *mut u64) -> dgemma_status {
    guard(|| {
        output(out, "out")?;
        // SAFETY: the caller's promise.
        let fingerprint = unsafe { model_of(model)? }.fingerprint();
        // SAFETY: not NULL, and writable by the caller's promise.
        unsafe { out.write(fingerprint) };
        Ok(())
    })
}

/// How many keys the file's metadata has; 0 for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_metadata_count(model: *const dgemma_model) -> usize {
    // SAFETY: the caller's promise.
    unsafe { model_of(model) }.map_or(0, |model| model.metadata().entries().len())
}

/// Key number `index` of the file's metadata, in file order, e.g. "general.architecture".
///
/// `model`: not NULL. `index`: below dgemma_model_metadata_count(). `buffer`, `cap`, `len`: see "Buffers" above.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT or _BUFFER_TOO_SMALL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_metadata_key(
    model: *const dgemma_model,
    index: usize,
    buffer: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let entries = unsafe { model_of(model)? }.metadata().entries();
        let (key, _) = entries
            .get(index)
            .ok_or_else(|| Error::argument("index", format!("is {index}, but there are {} keys", entries.len())))?;
        // SAFETY: the caller's promise.
        unsafe { give_text(key, buffer, cap, len) }
    })
}

/// The value of a key of the file's metadata: a string as it is, anything else as JSON.
///
/// `model`: not NULL. `key`: UTF-8, not NULL. `buffer`, `cap`, `len`: see "Buffers" above.
///
/// Answers DGEMMA_STATUS_INVALID_ARGUMENT, _NOT_FOUND (no such key) or _BUFFER_TOO_SMALL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemma_model_metadata_value(
    model: *const dgemma_model,
    key: *const c_char,
    buffer: *mut c_char,
    cap: usize,
    len: *mut usize,
) -> dgemma_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (model, key) = unsafe { (model_of(model)?, utf8(key, "key")?) };
        let value = model.metadata().get(key).ok_or_else(|| Error::NotFound(format!("key `{key}`")))?;
        let shown = match value {
            Value::String(s) => s.clone(),
            other => json(other).to_string(),
        };
        // SAFETY: the caller's promise.
        unsafe { give_text(&shown, buffer, cap, len) }
    })
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(b) => (*b).into(),
        Value::String(s) => s.as_str().into(),
        Value::Array(array) => (0..array.len()).filter_map(|i| array.get(i)).map(|v| json(&v)).collect(),
        Value::F32(x) => f64::from(*x).into(),
        Value::F64(x) => (*x).into(),
        Value::U64(n) => (*n).into(),
        // Every other integer type fits.
        other => other.as_integer().and_then(|n| i64::try_from(n).ok()).into(),
    }
}

//! The NVIDIA driver, found at run time: a device with its stream, memory, copies and launches. Each failure names the
//! call. Nothing here knows of kernels or models.
//!
//! The library is asked for before any call, since the bindings panic without it.

use super::graph;
use crate::error::{Error, Result};
use cudarc::driver::sys;
use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The oldest driver interface that runs our kernels: 13.0, drivers from 580 on.
const OLDEST_DRIVER: c_int = 13_000;
/// The oldest compute capability: signed-byte tensor-core tiles and asynchronous copies begin with 8.0.
const OLDEST_DEVICE: (c_int, c_int) = (8, 0);

/// Turns what a driver call answered into a result that names it.
macro_rules! driver {
    ($call:ident ( $($arg:expr),* $(,)? )) => {
        // SAFETY: the library is there (`present`), and the arguments are what the manual asks for: each caller in this file
        // hands over live pointers of the right types, and sizes within the allocations behind them.
        check(stringify!($call), unsafe { sys::$call($($arg),*) })
    };
}

pub(super) use driver;

pub(super) fn check(call: &'static str, code: sys::CUresult) -> Result<()> {
    if code == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut name = null();
    // SAFETY: the library is there; it writes the address of a static text, or leaves null.
    unsafe { sys::cuGetErrorName(code, &mut name) };
    let what = if name.is_null() {
        format!("error {}", code as u32)
    } else {
        // SAFETY: a static, terminated text.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    };
    Err(Error::Device { call, what })
}

fn out_of_memory(error: &Error) -> bool {
    matches!(error, Error::Device { what, .. } if what == "CUDA_ERROR_OUT_OF_MEMORY")
}

/// Whether there is a driver on this machine.
fn present() -> bool {
    // SAFETY: looks for a library, and calls nothing in it.
    unsafe { sys::is_culib_present() }
}

/// What a machine says about one of its devices.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Its name.
    pub name: String,
    /// Bytes of memory.
    pub memory: usize,
    /// Of which free.
    pub free: usize,
    /// Compute capability, e.g. (9, 0).
    pub capability: (c_int, c_int),
    /// Multiprocessors.
    pub processors: usize,
    /// Most bytes of shared memory that a block can have.
    pub shared: usize,
}

/// How many devices the driver has; an error that says what is missing if none can be used.
pub fn devices() -> Result<usize> {
    if !present() {
        let what = "no NVIDIA driver on this machine (libcuda.so.1 not found)".into();
        return Err(Error::Device { call: "cuInit", what });
    }
    driver!(cuInit(0))?;
    let mut version = 0;
    driver!(cuDriverGetVersion(&mut version))?;
    if version < OLDEST_DRIVER {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        let what =
            format!("the driver offers CUDA {major}.{minor}, expected 13.0 or newer: install driver 580 or newer");
        return Err(Error::Device { call: "cuDriverGetVersion", what });
    }
    let mut count = 0;
    driver!(cuDeviceGetCount(&mut count))?;
    Ok(count as usize)
}

/// One device: its context and one stream, on which everything happens in order.
pub struct Device {
    id: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    /// How often work space has moved.
    growths: AtomicU64,
    /// What it is.
    pub info: DeviceInfo,
}

// SAFETY: the driver's handles may be used from any thread; every call first makes the context current on its thread.
unsafe impl Send for Device {}
// SAFETY: as above; the driver locks where it has to.
unsafe impl Sync for Device {}

impl Device {
    /// Device number `index`, from 0.
    pub fn open(index: usize) -> Result<Arc<Device>> {
        let count = devices()?;
        if index >= count {
            return Err(Error::argument("device", format!("is {index}, but there are {count} CUDA devices")));
        }
        let mut id = 0;
        driver!(cuDeviceGet(&mut id, index as c_int))?;
        let mut info = describe(id)?;
        if info.capability < OLDEST_DEVICE {
            let what = format!(
                "{} has compute capability {}.{}, expected 8.0 or newer",
                info.name, info.capability.0, info.capability.1
            );
            return Err(Error::Device { call: "cuDeviceGetAttribute", what });
        }
        let mut context = null_mut();
        driver!(cuDevicePrimaryCtxRetain(&mut context, id))?;
        let mut device = Device { id, context, stream: null_mut(), growths: AtomicU64::new(0), info: info.clone() }; // from here on, drop releases it
        device.bind()?;
        // 1: work on this stream does not wait for work on the default one.
        driver!(cuStreamCreate(&mut device.stream, 1))?;
        (info.free, _) = device.memory()?;
        device.info = info;
        Ok(Arc::new(device))
    }

    /// Makes the device this thread's.
    pub fn bind(&self) -> Result<()> {
        driver!(cuCtxSetCurrent(self.context))
    }

    /// Where this thread's work goes.
    pub fn stream(&self) -> sys::CUstream {
        graph::recording().unwrap_or(self.stream)
    }

    /// Notes that work space has moved: records of its old place are void.
    pub fn note_growth(&self) {
        self.growths.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was noted.
    pub fn growths(&self) -> u64 {
        self.growths.load(Ordering::Relaxed)
    }

    /// Bytes of memory, (free, all).
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        driver!(cuMemGetInfo_v2(&mut free, &mut total))?;
        Ok((free, total))
    }

    /// Waits until everything asked for is done.
    pub fn synchronize(&self) -> Result<()> {
        graph::refuse_to_record()?;
        self.bind()?;
        driver!(cuStreamSynchronize(self.stream))
    }

    /// Lets what is asked for from now on wait until `event` has come, without making the caller wait.
    pub fn wait_for(&self, event: &Event) -> Result<()> {
        self.bind()?;
        driver!(cuStreamWaitEvent(self.stream, event.handle, 0))
    }

    /// Loads a cubin, a fatbin or a terminated PTX text.
    pub fn load(self: &Arc<Self>, image: &[u8]) -> Result<Module> {
        graph::refuse_to_record()?;
        self.bind()?;
        let mut handle = null_mut();
        driver!(cuModuleLoadData(&mut handle, image.as_ptr().cast()))?;
        Ok(Module { device: self.clone(), handle })
    }

    /// Starts a kernel. `shared`: bytes of dynamic shared memory.
    ///
    /// # Safety
    /// `arguments` are pointers to values of the kernel's parameter types, and the device addresses among them are good for
    /// what the kernel does with these sizes, until it has run.
    pub unsafe fn launch(&self, function: Function, grid: Grid, arguments: &mut [*mut c_void]) -> Result<()> {
        self.bind()?;
        let Grid { blocks: [x, y, z], threads, shared } = grid;
        driver!(cuLaunchKernel(
            function.0,
            x,
            y,
            z,
            threads,
            1,
            1,
            shared,
            self.stream(),
            arguments.as_mut_ptr(),
            null_mut()
        ))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Nobody is left to hear of failures.
        let _ = self.bind();
        if !self.stream.is_null() {
            let _ = driver!(cuStreamDestroy_v2(self.stream));
        }
        let _ = driver!(cuDevicePrimaryCtxRelease_v2(self.id));
    }
}

/// What device number `index` is. Its memory counts as free as a whole: asking for more would make a context on it.
pub fn describe_device(index: usize) -> Result<DeviceInfo> {
    let mut id = 0;
    driver!(cuDeviceGet(&mut id, index as c_int))?;
    describe(id)
}

fn describe(id: sys::CUdevice) -> Result<DeviceInfo> {
    use sys::CUdevice_attribute_enum::*;
    let attribute = |which| {
        let mut value = 0;
        driver!(cuDeviceGetAttribute(&mut value, which, id)).map(|()| value)
    };
    let mut name = [0u8; 128];
    driver!(cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as c_int - 1, id))?;
    let mut memory = 0;
    driver!(cuDeviceTotalMem_v2(&mut memory, id))?;
    Ok(DeviceInfo {
        name: CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned(),
        memory,
        free: memory,
        capability: (
            attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        processors: attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
        shared: attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
    })
}

/// The shape of a launch; see `grid.rs` for how kernels choose theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x, y, z.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
}

/// Copies that run beside a device's kernels, in an order of their own.
pub struct CopyStream {
    device: Arc<Device>,
    handle: sys::CUstream,
}

// SAFETY: as for `Device`.
unsafe impl Send for CopyStream {}

impl CopyStream {
    /// Empty.
    pub fn new(device: &Arc<Device>) -> Result<CopyStream> {
        device.bind()?;
        let mut handle = null_mut();
        driver!(cuStreamCreate(&mut handle, 1))?; // 1: as for the device's own
        Ok(CopyStream { device: device.clone(), handle })
    }

    /// Lets later copies wait until `event` has come.
    pub fn wait_for(&self, event: &Event) -> Result<()> {
        self.device.bind()?;
        driver!(cuStreamWaitEvent(self.handle, event.handle, 0))
    }

    /// Copies the first `bytes` of a page-locked buffer to the start of `to`. Both are in use until an event marked after this
    /// has come.
    pub fn copy(&self, from: &Pinned, bytes: usize, to: &mut Memory) -> Result<()> {
        assert!(bytes <= from.bytes && bytes <= to.bytes, "copy of {bytes} bytes into {}", to.bytes);
        self.device.bind()?;
        driver!(cuMemcpyHtoDAsync_v2(to.address, from.at.cast(), bytes, self.handle))
    }

    /// Marks the end of the copies asked for so far.
    pub fn mark(&self, event: &Event) -> Result<()> {
        self.device.bind()?;
        driver!(cuEventRecord(event.handle, self.handle))
    }
}

impl Drop for CopyStream {
    fn drop(&mut self) {
        // The buffers of copies under way may be freed next. Nobody is left to hear of failures.
        let _ = self.device.bind();
        let _ = driver!(cuStreamSynchronize(self.handle));
        let _ = driver!(cuStreamDestroy_v2(self.handle));
    }
}

/// Loaded code.
pub struct Module {
    device: Arc<Device>,
    handle: sys::CUmodule,
}

// SAFETY: as for `Device`.
unsafe impl Send for Module {}
// SAFETY: as for `Device`.
unsafe impl Sync for Module {}

/// A kernel; lives as long as its module.
#[derive(Clone, Copy)]
pub struct Function(sys::CUfunction);

// SAFETY: as for `Device`.
unsafe impl Send for Function {}
// SAFETY: as for `Device`.
unsafe impl Sync for Function {}

impl Module {
    /// The kernel called `name`, allowed to use as much shared memory as the device has for a block.
    pub fn function(&self, name: &CStr) -> Result<Function> {
        use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MOST_SHARED;
        self.device.bind()?;
        let mut handle = null_mut();
        driver!(cuModuleGetFunction(&mut handle, self.handle, name.as_ptr()))?;
        driver!(cuFuncSetAttribute(handle, MOST_SHARED, self.device.info.shared as c_int))?;
        Ok(Function(handle))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = self.device.bind();
        let _ = driver!(cuModuleUnload(self.handle));
    }
}

/// Memory of a device.
pub struct Memory {
    device: Arc<Device>,
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl Memory {
    /// `bytes` with undefined contents; `what` names them where there is not enough memory.
    pub fn new(device: &Arc<Device>, bytes: usize, what: &'static str) -> Result<Memory> {
        graph::refuse_to_record()?;
        device.bind()?;
        let mut address = 0;
        match driver!(cuMemAlloc_v2(&mut address, bytes.max(1))) {
            Ok(()) => Ok(Memory { device: device.clone(), address, bytes }),
            Err(e) if out_of_memory(&e) => Err(Error::OutOfMemory { bytes, what }),
            Err(e) => Err(e),
        }
    }

    /// Zeros.
    pub fn zeroed(device: &Arc<Device>, bytes: usize, what: &'static str) -> Result<Memory> {
        let memory = Memory::new(device, bytes, what)?;
        driver!(cuMemsetD8Async(memory.address, 0, bytes, device.stream()))?;
        Ok(memory)
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address of byte `at`, for a kernel.
    pub fn address(&self, at: usize) -> u64 {
        assert!(at <= self.bytes, "{at} is beyond {} bytes of device memory", self.bytes);
        self.address + at as u64
    }

    /// Copies `from` to byte `at` and on. The stream need not have come here when this returns, but `from` is free again.
    pub fn write<T: Plain>(&mut self, from: &[T], at: usize) -> Result<()> {
        let bytes = size_of_val(from);
        assert!(at + bytes <= self.bytes, "write of {bytes} bytes at {at} into {}", self.bytes);
        graph::refuse_to_record()?; // `from` would be gone
        self.device.bind()?;
        // Pageable memory is copied to a buffer of the driver's before the call returns.
        driver!(cuMemcpyHtoDAsync_v2(self.address + at as u64, from.as_ptr().cast(), bytes, self.device.stream()))
    }

    /// Copies the first `bytes` of a page-locked buffer to byte `at` and on. The buffer is in use until an event recorded
    /// after this has come.
    pub fn write_pinned(&mut self, from: &mut Pinned, bytes: usize, at: usize) -> Result<()> {
        assert!(bytes <= from.bytes && at + bytes <= self.bytes, "write of {bytes} bytes at {at} into {}", self.bytes);
        self.device.bind()?;
        driver!(cuMemcpyHtoDAsync_v2(self.address + at as u64, from.at.cast(), bytes, self.device.stream()))
    }

    /// Copies `bytes` bytes of `from`, from byte `start` on, to byte `at` and on.
    pub fn copy(&mut self, from: &Memory, start: usize, bytes: usize, at: usize) -> Result<()> {
        assert!(
            start + bytes <= from.bytes && at + bytes <= self.bytes,
            "copy of {bytes} bytes at {at} into {}",
            self.bytes
        );
        self.device.bind()?;
        let (to, from) = (self.address + at as u64, from.address + start as u64);
        driver!(cuMemcpyDtoDAsync_v2(to, from, bytes, self.device.stream()))
    }

    /// Copies the first `bytes` of a page-locked buffer to byte `at` and on, when the stream comes here: the buffer must
    /// stay and keep its contents until then.
    pub fn take(&self, from: &Pinned, bytes: usize, at: usize) -> Result<()> {
        assert!(bytes <= from.bytes && at + bytes <= self.bytes, "write of {bytes} bytes at {at} into {}", self.bytes);
        self.device.bind()?;
        driver!(cuMemcpyHtoDAsync_v2(self.address + at as u64, from.at.cast(), bytes, self.device.stream()))
    }

    /// Copies `bytes` bytes, from byte `at` on, to byte `to_at` and on of a page-locked buffer, which must stay until the
    /// stream has come here.
    pub fn give(&self, at: usize, bytes: usize, to: &Pinned, to_at: usize) -> Result<()> {
        assert!(
            at + bytes <= self.bytes && to_at + bytes <= to.bytes,
            "read of {bytes} bytes at {at} from {}",
            self.bytes
        );
        self.device.bind()?;
        // SAFETY: within the buffer, as was just seen.
        let to = unsafe { to.at.add(to_at) };
        driver!(cuMemcpyDtoHAsync_v2(to.cast(), self.address + at as u64, bytes, self.device.stream()))
    }

    /// Copies byte `at` and on to `to`, after everything on the stream.
    pub fn read<T: Plain>(&self, at: usize, to: &mut [T]) -> Result<()> {
        let bytes = size_of_val(to);
        assert!(at + bytes <= self.bytes, "read of {bytes} bytes at {at} from {}", self.bytes);
        graph::refuse_to_record()?;
        self.device.bind()?;
        driver!(cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), self.address + at as u64, bytes, self.device.stream()))?;
        self.device.synchronize()
    }

    /// Copies `rows` rows of `width` numbers, `pitch` numbers apart, to `to`, where they lie `to_pitch` apart.
    pub fn read_rows(&self, width: usize, pitch: usize, rows: usize, to: &mut [f32], to_pitch: usize) -> Result<()> {
        use sys::CUmemorytype_enum::{CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST};
        if rows == 0 {
            return Ok(());
        }
        assert!(((rows - 1) * pitch + width) * 4 <= self.bytes && (rows - 1) * to_pitch + width <= to.len());
        graph::refuse_to_record()?;
        self.device.bind()?;
        // SAFETY: integers and pointers, for which zero is a value.
        let mut copy: sys::CUDA_MEMCPY2D = unsafe { MaybeUninit::zeroed().assume_init() };
        (copy.srcMemoryType, copy.srcDevice, copy.srcPitch) = (CU_MEMORYTYPE_DEVICE, self.address, pitch * 4);
        (copy.dstMemoryType, copy.dstHost, copy.dstPitch) = (CU_MEMORYTYPE_HOST, to.as_mut_ptr().cast(), to_pitch * 4);
        (copy.WidthInBytes, copy.Height) = (width * 4, rows);
        driver!(cuMemcpy2DAsync_v2(&copy, self.device.stream()))?;
        self.device.synchronize()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Waits for the device, so that no kernel is still using it.
        let _ = self.device.synchronize();
        let _ = driver!(cuMemFree_v2(self.address));
    }
}

/// Numbers that may be copied as bytes.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u32 {}
impl Plain for f32 {}

/// Page-locked host memory, from which copies run at the link's speed.
pub struct Pinned {
    device: Arc<Device>,
    at: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Pinned {
    /// `bytes` of it.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Pinned> {
        device.bind()?;
        let mut at = null_mut();
        match driver!(cuMemHostAlloc(&mut at, bytes.max(1), 0)) {
            Err(e) if out_of_memory(&e) => {
                return Err(Error::OutOfMemory { bytes, what: "weights in page-locked host memory" });
            }
            done => done?,
        }
        // SAFETY: `bytes` bytes were allocated just now.
        unsafe { at.cast::<u8>().write_bytes(0, bytes) };
        Ok(Pinned { device: device.clone(), at: at.cast(), bytes })
    }

    /// How many bytes.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// The bytes. A copy that still reads them must have ended.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated and initialised in `new`, owned by self.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.bytes) }
    }

    /// The same as words of the device's byte order, which is the host's.
    pub fn words(&mut self) -> &mut [u32] {
        // SAFETY: as above; page-locked memory begins a page.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.bytes / size_of::<u32>()) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.device.synchronize();
        let _ = driver!(cuMemFreeHost(self.at.cast()));
    }
}

/// A mark on the stream.
pub struct Event {
    device: Arc<Device>,
    handle: sys::CUevent,
}

// SAFETY: as for `Device`.
unsafe impl Send for Event {}

impl Event {
    /// Not recorded yet: waiting for it is no wait.
    pub fn new(device: &Arc<Device>) -> Result<Event> {
        Event::with(device, 2) // 2: without a clock
    }

    /// The same with the device's clock, for [`Event::seconds_since`].
    pub fn timed(device: &Arc<Device>) -> Result<Event> {
        Event::with(device, 0)
    }

    fn with(device: &Arc<Device>, flags: u32) -> Result<Event> {
        device.bind()?;
        let mut handle = null_mut();
        driver!(cuEventCreate(&mut handle, flags))?;
        Ok(Event { device: device.clone(), handle })
    }

    /// Marks the end of everything asked for so far.
    pub fn record(&self) -> Result<()> {
        self.device.bind()?;
        driver!(cuEventRecord(self.handle, self.device.stream()))
    }

    /// Waits for the mark.
    pub fn wait(&self) -> Result<()> {
        self.device.bind()?;
        driver!(cuEventSynchronize(self.handle))
    }

    /// Waits for the mark; what the device's clock went on since `earlier` came. Resolves half a microsecond.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64> {
        self.wait()?;
        let mut milliseconds = 0.0f32;
        driver!(cuEventElapsedTime_v2(&mut milliseconds, earlier.handle, self.handle))?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.device.bind();
        let _ = driver!(cuEventDestroy_v2(self.handle));
    }
}

//! Finding a device, or skipping loudly; random inputs; the comparison with the reference.

use dgemma::backend::Backend;
use dgemma::backend::cuda::{self, Cuda};
use dgemma::gguf::{Bytes, Tensor};
use dgemma::quant::Format;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether `test` can run. If not, says so and counts it; a failure where CUDA is required.
pub fn available(test: &str) -> bool {
    if !cuda::devices().is_empty() {
        return true;
    }
    skip(test, "no CUDA device");
    assert!(std::env::var_os("DGEMMA_REQUIRE_CUDA").is_none_or(|v| v != "1"), "{test}: a CUDA device is required");
    false
}

/// [`available`], and not under a checker, which would take minutes: the plain run has `test`.
pub fn available_unchecked(test: &str) -> bool {
    if !available(test) {
        return false;
    }
    if checked() {
        skip(test, "left to the run without a checker");
    }
    !checked()
}

/// Counts a test that does not run, and says why.
pub fn skip(test: &str, why: &str) {
    let n = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Past the harness's capture: a skip is to be seen in a passing run.
    use std::io::Write;
    let line = format!("skipped {n}: {test}: {why}\n"); // in one piece, beside other tests' lines
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Under the checkers, kernels run 5 to 100 times slower: the largest shapes are left to the plain run.
pub fn checked() -> bool {
    std::env::var_os("DGEMMA_STANDIN_CHECKED").is_some()
}

/// The first device, with exact products or with the fast ones.
pub fn open(exact: bool) -> Cuda {
    Cuda::new(0, 2).unwrap().exact(exact)
}

/// Gives the stand-in driver's device `bytes` of shared memory per block, for this thread; 0: as before. False on a real one.
pub fn set_shared(bytes: usize) -> bool {
    // SAFETY: a terminated name; the library is loaded already.
    let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
    // SAFETY: looks for a symbol.
    let symbol = unsafe { libc::dlsym(library, c"standin_shared".as_ptr()) };
    if library.is_null() || symbol.is_null() {
        return false;
    }
    // SAFETY: the signature in standin/driver.cpp.
    let set: unsafe extern "C" fn(usize) = unsafe { std::mem::transmute(symbol) };
    // SAFETY: as above.
    unsafe { set(bytes) };
    true
}

/// Repeatable numbers in -1..1.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    /// A random tensor.
    pub fn tensor(&mut self, format: &'static Format, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let mut data = vec![0u8; n / format.block * format.block_bytes];
        (format.encode)(&self.vec(n), None, &mut data);
        let len = data.len();
        Tensor { name: "test".into(), shape: shape.to_vec(), format, data: Bytes::new(Arc::new(data), 0, len) }
    }
}

/// A buffer holding `values`.
pub fn upload<B: Backend>(b: &B, values: &[f32]) -> B::Buffer {
    let mut buffer = b.buffer(values.len(), "test").unwrap();
    b.write(values, &mut buffer, 0).unwrap();
    buffer
}

pub fn download<B: Backend>(b: &B, buffer: &B::Buffer, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    b.read(buffer, 0, &mut out).unwrap();
    out
}

/// Runs the body on the reference, then on the device, and compares what it returns.
#[macro_export]
macro_rules! compare {
    ($what:expr, $bound:expr, $cuda:expr, |$b:ident| $body:expr) => {{
        let want: Vec<f32> = {
            let $b = &dgemma::backend::reference::Reference;
            $body
        };
        let got: Vec<f32> = {
            let $b = $cuda;
            $body
        };
        $crate::common::assert_close(&$what, &got, &want, $bound);
    }};
}

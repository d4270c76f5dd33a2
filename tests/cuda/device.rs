//! Finding a device, or skipping loudly; the comparison with the reference.

pub use super::common::operations::*;
use dgemma::backend::cuda::{self, Cuda};
use std::ffi::CStr;
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

/// How products with quantized weights round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Exact,
    Int8,
    Bf16,
}

impl Way {
    /// The first device, with such products whatever it is best at.
    pub fn open(self) -> Cuda {
        open(self == Way::Exact).bf16(self == Way::Bf16)
    }
}

/// Gives the stand-in driver's device `bytes` of shared memory per block, for this thread; 0: as before. False on a real one.
pub fn set_shared(bytes: usize) -> bool {
    set(c"standin_shared", bytes)
}

/// The same with ten times its compute capability.
pub fn set_capability(ten_times: usize) -> bool {
    set(c"standin_capability", ten_times)
}

fn set(what: &CStr, value: usize) -> bool {
    // SAFETY: a terminated name; the library is loaded already.
    let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
    // SAFETY: looks for a symbol.
    let symbol = unsafe { libc::dlsym(library, what.as_ptr()) };
    if library.is_null() || symbol.is_null() {
        return false;
    }
    // SAFETY: takes an int or a size (standin/driver.cpp), of which the low half is in the same register.
    let set: unsafe extern "C" fn(usize) = unsafe { std::mem::transmute(symbol) };
    // SAFETY: as above.
    unsafe { set(value) };
    true
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

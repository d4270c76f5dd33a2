//! The stand-in driver's own calls; see `standin/driver.cpp`.

use super::device::{available, skip};
use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// The stand-in driver's own calls; `None` on a real driver.
pub struct Standin(*mut c_void);

impl Standin {
    pub fn open(test: &str) -> Option<Standin> {
        if !available(test) {
            return None;
        }
        // SAFETY: a terminated name; the library is loaded already.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        // SAFETY: looks for a symbol.
        let standin = !library.is_null() && !unsafe { libc::dlsym(library, c"standin_fail".as_ptr()) }.is_null();
        if !standin {
            skip(test, "this driver does not fail on demand");
        }
        standin.then_some(Standin(library))
    }

    fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: looks for a symbol of a library that stays loaded.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!found.is_null(), "{name:?}");
        found
    }

    /// The `n`-th call of `call` on this thread answers `code`; with `for_good`, every later call as well.
    pub fn fail(&self, call: &str, n: c_int, code: c_int, for_good: bool) {
        // SAFETY: the signature in standin/driver.cpp.
        let f: unsafe extern "C" fn(*const c_char, c_int, c_int, c_int) =
            unsafe { std::mem::transmute(self.symbol(c"standin_fail")) };
        let call = CString::new(call).unwrap();
        // SAFETY: a terminated text.
        unsafe { f(call.as_ptr(), n, code, for_good.into()) };
    }

    pub fn set(&self, what: &CStr, value: c_int) {
        // SAFETY: takes an int (or a size, of which the low half is given in the same register, the rest being zero).
        let f: unsafe extern "C" fn(usize) = unsafe { std::mem::transmute(self.symbol(what)) };
        // SAFETY: as above.
        unsafe { f(value as isize as usize) };
    }
}

impl Standin {
    /// What one of its counters says.
    pub fn count(&self, what: &CStr) -> usize {
        // SAFETY: the signature in standin/driver.cpp.
        let f: unsafe extern "C" fn() -> usize = unsafe { std::mem::transmute(self.symbol(what)) };
        // SAFETY: takes nothing.
        unsafe { f() }
    }

    /// Gives this thread's streams clocks of their own: nanoseconds of a kernel, of a start, of a wait; zeros: the host's.
    pub fn clock(&self, kernel: usize, start: usize, wait: usize) {
        // SAFETY: the signature in standin/driver.cpp.
        let f: unsafe extern "C" fn(usize, usize, usize) =
            unsafe { std::mem::transmute(self.symbol(c"standin_clock")) };
        // SAFETY: takes numbers.
        unsafe { f(kernel, start, wait) };
    }

    /// How often this thread made a driver call.
    pub fn calls(&self, call: &str) -> usize {
        // SAFETY: the signature in standin/driver.cpp.
        let f: unsafe extern "C" fn(*const c_char) -> usize =
            unsafe { std::mem::transmute(self.symbol(c"standin_calls")) };
        let call = CString::new(call).unwrap();
        // SAFETY: a terminated text.
        unsafe { f(call.as_ptr()) }
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.fail("", 0, 0, false);
        self.clock(0, 0, 0);
        self.set(c"standin_capability", 0);
        self.set(c"standin_driver", 0);
        self.set(c"standin_devices", 1);
        self.set(c"standin_memory", 0);
    }
}

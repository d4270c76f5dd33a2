//! Surviving a file that is cut while a pass reads it. The system answers a read behind the end of a mapped file with SIGBUS,
//! which ends the process. [`Guarded`] puts such ranges on a list; a signal handler, installed once and never removed, lays
//! zeros over the part of a listed range that cannot be read and notes it, so that the pass goes on with wrong numbers and
//! its caller throws them away ([`Guarded::is_damaged`] after the pass). A signal about any other address goes to whoever
//! handled SIGBUS before, or ends the process as it would have without us.
//!
//! The handler runs on the thread that read, in the middle of anything: it takes no lock, allocates nothing and calls
//! nothing but `mmap` and `sigaction`, which are plain system calls. List entries are therefore never freed, only used again.

#[cfg(all(target_os = "linux", not(miri)))]
mod handler {
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

    /// A place on the list.
    pub struct Range {
        taken: AtomicBool,
        start: AtomicUsize,
        /// 0 while nothing is guarded here.
        end: AtomicUsize,
        damaged: AtomicBool,
        next: AtomicPtr<Range>,
    }

    static FIRST: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());

    /// Who handled SIGBUS before; `None` if the system does not say.
    static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

    static INSTALLED: OnceLock<bool> = OnceLock::new();

    /// Bytes of a page.
    static PAGE: AtomicUsize = AtomicUsize::new(4096);

    fn list() -> impl Iterator<Item = &'static Range> {
        let mut at = FIRST.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: entries are leaked boxes: null or valid for ever.
            let range = unsafe { at.as_ref() }?;
            at = range.next.load(Ordering::Relaxed);
            Some(range)
        })
    }

    /// Lists `bytes`, a mapping from its first byte to its last. `None` if the handler cannot be installed.
    pub fn add(bytes: &[u8]) -> Option<&'static Range> {
        install()?;
        let free = list().find(|r| r.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        let range = free.unwrap_or_else(append);
        range.damaged.store(false, Ordering::Relaxed);
        range.start.store(bytes.as_ptr().addr(), Ordering::Release);
        range.end.store(bytes.as_ptr().addr() + bytes.len(), Ordering::Release);
        Some(range)
    }

    fn append() -> &'static Range {
        let mut next = FIRST.load(Ordering::Acquire);
        let range = Box::leak(Box::new(Range {
            taken: AtomicBool::new(true),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            damaged: AtomicBool::new(false),
            next: AtomicPtr::new(next),
        }));
        while let Err(now) = FIRST.compare_exchange(next, range, Ordering::AcqRel, Ordering::Acquire) {
            next = now;
            range.next.store(next, Ordering::Relaxed);
        }
        range
    }

    impl Range {
        pub fn is_damaged(&self) -> bool {
            self.damaged.load(Ordering::Acquire)
        }

        /// Off the list, before the mapping goes.
        pub fn remove(&self) {
            self.end.store(0, Ordering::Release);
            self.taken.store(false, Ordering::Release);
        }

        /// Lays zeros over everything from `address`'s page to the end, if `address` lies inside.
        fn repair(&self, address: usize) -> bool {
            let (start, end) = (self.start.load(Ordering::Acquire), self.end.load(Ordering::Acquire));
            if !(start..end).contains(&address) {
                return false;
            }
            let page = address & !(PAGE.load(Ordering::Relaxed) - 1);
            // Before the zeros, so that no other thread reads them and still finds its pass in order.
            self.damaged.store(true, Ordering::Release);
            let (access, kind) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
            // SAFETY: replaces pages of a read-only mapping that its owner keeps until the range is off the list; nobody
            // relies on what they hold, since `damaged` says that it is gone.
            let laid = unsafe { libc::mmap(page as *mut libc::c_void, end - page, access, kind, -1, 0) };
            laid != libc::MAP_FAILED
        }
    }

    fn install() -> Option<()> {
        let before = BEFORE.get_or_init(|| {
            let mut before = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: asks only; zeroed is a valid value of the type.
            let before = unsafe {
                if libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) != 0 {
                    return None;
                }
                before.assume_init()
            };
            Some(before)
        });
        // Once `BEFORE` is there, because the handler may run at once.
        let installed = before.is_some() && *INSTALLED.get_or_init(set);
        installed.then_some(())
    }

    fn set() -> bool {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
        // SAFETY: a complete sigaction; on its own stack where the thread has one, as runtimes like Go's demand.
        unsafe {
            if let Ok(page @ 1..) = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)) {
                PAGE.store(page, Ordering::Relaxed);
            }
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) == 0
        }
    }

    extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel gives a valid `info`; errno is the thread's own.
        unsafe {
            let errno = libc::__errno_location();
            let kept = *errno;
            // A positive code: from a memory access, not from kill().
            let ours = (*info).si_code > 0 && list().any(|range| range.repair((*info).si_addr().addr()));
            *errno = kept;
            if !ours {
                pass_on(signal, info, context);
            }
        }
    }

    /// # Safety
    /// What the kernel gave to the handler.
    unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let before = BEFORE.get().copied().flatten();
        // SAFETY: `sa_sigaction` holds a handler of the kind that the flags say, or one of two constants.
        unsafe {
            match before {
                Some(b) if b.sa_sigaction != libc::SIG_DFL && b.sa_sigaction != libc::SIG_IGN => {
                    if b.sa_flags & libc::SA_SIGINFO != 0 {
                        type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                        std::mem::transmute::<libc::sighandler_t, Full>(b.sa_sigaction)(signal, info, context);
                    } else {
                        type Plain = extern "C" fn(libc::c_int);
                        std::mem::transmute::<libc::sighandler_t, Plain>(b.sa_sigaction)(signal);
                    }
                }
                // Nobody: the read is repeated on return and ends the process, as it would have.
                _ => {
                    libc::signal(libc::SIGBUS, libc::SIG_DFL);
                    if (*info).si_code <= 0 {
                        libc::raise(libc::SIGBUS);
                    }
                }
            }
        }
    }
}

use super::Owner;

/// A mapped file whose bytes may go away: reading them gives zeros then.
pub struct Guarded {
    #[cfg(all(target_os = "linux", not(miri)))]
    range: Option<&'static handler::Range>,
    #[allow(dead_code)]
    mapping: Owner,
}

impl Guarded {
    /// Guards a mapping until this is dropped. Elsewhere than on Linux, and where the system takes no handler, it guards nothing.
    pub fn new(mapping: &Owner) -> Guarded {
        Guarded {
            #[cfg(all(target_os = "linux", not(miri)))]
            range: handler::add((**mapping).as_ref()),
            mapping: mapping.clone(),
        }
    }

    /// Whether a read found no byte. Stays so, even if the file is made whole again.
    pub fn is_damaged(&self) -> bool {
        #[cfg(all(target_os = "linux", not(miri)))]
        return self.range.is_some_and(handler::Range::is_damaged);
        #[cfg(not(all(target_os = "linux", not(miri))))]
        false
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(range) = self.range {
            range.remove();
        }
    }
}

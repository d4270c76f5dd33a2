//! Ctrl-C stops an answer, not the program; a closed pipe ends the program without a word.

use dgemma::engine::CancelToken;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stops the answer under way.
static TOKEN: OnceLock<CancelToken> = OnceLock::new();
/// Whether there is one.
static ANSWERING: AtomicBool = AtomicBool::new(false);
/// Whether the last Ctrl-C came while there was none.
static PRESSED_IDLE: AtomicBool = AtomicBool::new(false);

/// Whatever reads our output may stop reading: `dgemma ... | head -1`.
pub fn die_quietly_of_closed_pipes() {
    #[cfg(unix)]
    // SAFETY: no other thread runs yet, and the default action is what every C program starts with.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// From now on Ctrl-C presses `token`. Pressed between answers, it says how to leave; pressed twice there, it leaves.
pub fn cancel_on_interrupt(token: CancelToken) {
    if TOKEN.set(token).is_ok() {
        #[cfg(unix)]
        // SAFETY: the handler does only what a handler may: atomic loads and stores, write and _exit.
        unsafe {
            let handler: extern "C" fn(libc::c_int) = on_interrupt;
            libc::signal(libc::SIGINT, handler as *const () as libc::sighandler_t);
        }
    }
}

/// Marks an answer as under way while it lives.
pub struct Answering;

impl Answering {
    /// An answer begins. A press that nothing used up is forgotten.
    pub fn begin() -> Answering {
        if let Some(token) = TOKEN.get() {
            token.clear();
        }
        PRESSED_IDLE.store(false, Ordering::Relaxed);
        ANSWERING.store(true, Ordering::Relaxed);
        Answering
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        ANSWERING.store(false, Ordering::Relaxed);
    }
}

#[cfg(unix)]
extern "C" fn on_interrupt(_: libc::c_int) {
    if ANSWERING.load(Ordering::Relaxed) {
        if let Some(token) = TOKEN.get() {
            token.cancel();
        }
        return;
    }
    let hint = b"\n(Ctrl-D or /exit leaves)\n";
    // SAFETY: `hint` is as long as said; both calls are allowed in a signal handler.
    unsafe {
        if PRESSED_IDLE.swap(true, Ordering::Relaxed) {
            libc::_exit(130);
        }
        libc::write(libc::STDERR_FILENO, hint.as_ptr().cast(), hint.len());
    }
}

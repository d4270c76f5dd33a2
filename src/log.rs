//! Messages that are not errors: "an alias was used", "a default stands in for a missing key". The host owns the sink;
//! without one, messages are dropped, because a library that prints takes a decision that is not its own.

use std::sync::{Arc, RwLock};

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// The result may not be what the caller wants.
    Warn = 1,
    /// Worth knowing once.
    Info = 2,
}

/// Receives messages, possibly from several threads at once.
pub type Sink = Arc<dyn Fn(Level, &str) + Send + Sync>;

static SINK: RwLock<Option<Sink>> = RwLock::new(None);

/// Installs `sink` for the whole process, or none. Messages under way may still reach the previous one.
pub fn set_sink(sink: Option<Sink>) {
    *SINK.write().unwrap_or_else(|e| e.into_inner()) = sink;
}

/// Sends one message. The text is only built when somebody listens.
pub fn emit(level: Level, text: impl FnOnce() -> String) {
    // The sink is cloned out, so that it may itself call `set_sink`.
    let sink = SINK.read().unwrap_or_else(|e| e.into_inner()).clone();
    if let Some(sink) = sink {
        sink(level, &text());
    }
}

/// [`emit`] at [`Level::Warn`].
pub fn warn(text: impl FnOnce() -> String) {
    emit(Level::Warn, text);
}

/// [`emit`] at [`Level::Info`].
pub fn info(text: impl FnOnce() -> String) {
    emit(Level::Info, text);
}

//! Status codes, and how errors map to them.

use crate::engine::StopReason;
use crate::error::Error;
use std::ffi::c_char;

/// What a call answers. Every value but DGEMMA_STATUS_OK leaves a text for dgemma_last_error().
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dgemma_status {
    /// Done; outputs are written.
    Ok = 0,
    /// A pointer is NULL, a number is out of its range, a text is not UTF-8. Correct the call.
    InvalidArgument = 1,
    /// The system refused a file: missing, not readable. Check path and rights.
    Io = 2,
    /// The file is no GGUF file of this architecture, or is damaged. Get or convert it again.
    BadFile = 3,
    /// The file's vocabulary cannot be used, or cannot encode the text.
    Tokenizer = 4,
    /// The model's chat template is broken or refuses the messages. DGEMMA_PROMPT_RAW does without it.
    Template = 5,
    /// Prompt and canvas do not fit into the context. Ask for a larger context_size, or shorten the prompt.
    ContextFull = 6,
    /// A buffer could not be allocated, or a GPU has too little memory, and the text says what would fit; nothing was kept.
    OutOfMemory = 7,
    /// Given up on request.
    Cancelled = 8,
    /// The library failed; the text says where. The objects of the call answer so from now on and should be freed;
    /// others are not concerned.
    Internal = 9,
    /// What was asked for is not there: a key, a token. Not always a mistake.
    NotFound = 10,
    /// The buffer cannot take the result. Its length is reported: call again with room for it.
    BufferTooSmall = 11,
    /// Another call is using the object: on another thread, or further up this one, whose callback you are in. Wait for it.
    Busy = 12,
    /// The GPU or its driver failed, or there is none that can be used; the text names the driver's call. After a failure
    /// during a generation, free the objects of the call.
    Device = 13,
}

impl From<&Error> for dgemma_status {
    fn from(error: &Error) -> Self {
        match error {
            Error::Io { .. } => Self::Io,
            Error::File { .. } | Error::Key { .. } | Error::Tensor { .. } => Self::BadFile,
            Error::Argument { .. } => Self::InvalidArgument,
            Error::Tokenizer(_) => Self::Tokenizer,
            Error::Template(_) => Self::Template,
            Error::ContextFull { .. } => Self::ContextFull,
            Error::OutOfMemory { .. } | Error::TooLittleMemory(_) => Self::OutOfMemory,
            Error::Cancelled => Self::Cancelled,
            Error::NotFound(_) => Self::NotFound,
            Error::BufferTooSmall { .. } => Self::BufferTooSmall,
            Error::Busy(_) => Self::Busy,
            Error::Device { .. } => Self::Device,
            Error::Internal(_) => Self::Internal,
        }
    }
}

/// Why a generation ended.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dgemma_stop_reason {
    /// The model ended its text.
    EndOfGeneration = 0,
    /// max_tokens tokens are there.
    MaxTokens = 1,
    /// No further canvas fits into the context.
    ContextFull = 2,
    /// A callback or a dgemma_canceller asked to stop; complete canvases were delivered. So it is for a callback that stops on
    /// the last canvas, whatever else would have ended the text there.
    Cancelled = 3,
}

impl From<StopReason> for dgemma_stop_reason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::EndOfGeneration => Self::EndOfGeneration,
            StopReason::MaxTokens => Self::MaxTokens,
            StopReason::ContextFull => Self::ContextFull,
            StopReason::Cancelled => Self::Cancelled,
        }
    }
}

/// The name of a status in words, e.g. "context full", for logs; of an unknown number "unknown status".
///
/// Lifetime: static; do not free it. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn dgemma_status_text(status: i32) -> *const c_char {
    let text = match status {
        0 => c"ok",
        1 => c"invalid argument",
        2 => c"input/output error",
        3 => c"bad file",
        4 => c"tokenizer error",
        5 => c"chat template error",
        6 => c"context full",
        7 => c"out of memory",
        8 => c"cancelled",
        9 => c"internal error",
        10 => c"not found",
        11 => c"buffer too small",
        12 => c"busy",
        13 => c"device error",
        _ => c"unknown status",
    };
    text.as_ptr()
}

//! The C API: the only `extern "C"` of the library. `include/dgemma.h` is generated from this module, so the comments on
//! its items are the manual that C readers get.
//!
//! Rules, kept by every function: a status comes back and outputs are written only on success; NULL is answered, not
//! followed; a panic becomes a status (`guard.rs`); error text waits per thread (`last_error.rs`); structs that may grow
//! travel by pointer with their size (`params.rs`).

#![allow(non_camel_case_types)] // C names, as they appear in the header
#![allow(clippy::missing_safety_doc)] // the comments are the C manual: they say what each pointer must be

mod generate;
mod guard;
mod last_error;
mod model;
mod params;
mod status;

pub use generate::{dgemma_generate, dgemma_generation};
pub use last_error::dgemma_last_error;
pub use model::{dgemma_model, dgemma_model_free, dgemma_model_load, dgemma_version};
pub use params::{
    DGEMMA_BACKEND_CPU, DGEMMA_BACKEND_REFERENCE, DGEMMA_PROMPT_CHAT, DGEMMA_PROMPT_RAW, dgemma_generate_params,
    dgemma_generate_params_init, dgemma_model_params, dgemma_model_params_init, dgemma_step, dgemma_step_callback,
    dgemma_text_callback,
};
pub use status::{dgemma_status, dgemma_stop_reason};

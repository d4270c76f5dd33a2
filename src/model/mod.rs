//! The model: its shape ([`config`]), its weights, and the one forward pass (`forward.rs`), generic over the backend.

pub mod config;
mod forward;
mod kv_bytes;
mod kv_cache;
mod phases;
mod runner;
mod state;
mod tensors;
pub mod weights;

pub use config::{Config, LayerShape};
pub use kv_bytes::KvBytes;
pub use phases::{Phase, Phases, Spent, process_cpu_time};
pub use runner::{KvRows, Runner, Session, SessionSizes};
pub use tensors::{Matrix, matrices, vector_numbers};
pub use weights::Weights;

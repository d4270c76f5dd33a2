//! The model: its shape ([`config`]), its weights, and the one forward pass (`forward.rs`), generic over the backend.

pub mod config;
mod forward;
mod kv_bytes;
mod kv_cache;
mod runner;
mod state;
mod tensors;
pub mod weights;

pub use config::{Config, LayerShape};
pub use kv_bytes::KvBytes;
pub use runner::{KvRows, Runner, Session, SessionSizes};
pub use state::Phases;
pub use weights::Weights;

//! The CUDA backend, kernel by kernel against `backend/reference`, then whole models, those of which a part stays on the host, then
//! failures of the driver.
//!
//! These tests run on a GPU, or on the stand-in driver of `standin/` (`cargo xtask cuda-host` builds it and runs them there, in
//! three builds: plain, under the address and undefined-behaviour checkers, and under the race checker, which was seen to
//! report a barrier taken out of `attention.cu`).
//! Where there is neither, each prints that it was skipped; with `DGEMMA_REQUIRE_CUDA=1` a skip is a failure.

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod device;
mod driver_errors;
mod formats;
mod fused;
mod gaps;
mod graphs;
mod memory;
mod models;
mod offload;
mod operations;
mod pack;
mod packing;
mod sampler;
mod skips;
mod standin;

//! Every activation of a pass, allocated once for the longest pass: T rows (a prefill chunk and the canvas behind it).

use super::config::Config;
use super::phases::Stopwatch;
use crate::backend::Backend;
use crate::error::Result;

pub struct State<B: Backend> {
    pub x: B::Buffer,         // [T, H] the residual stream
    pub normed: B::Buffer,    // [T, H] input of a sub-layer
    pub branch: B::Buffer,    // [T, H] output of a sub-layer
    pub dense: B::Buffer,     // [T, H] output of the dense branch
    pub q: B::Buffer,         // [T, Q * D]
    pub k: B::Buffer,         // [T, K * D]
    pub v: B::Buffer,         // [T, K * D]
    pub attended: B::Buffer,  // [T, Q * D]
    pub gate: B::Buffer,      // [T, F]
    pub up: B::Buffer,        // [T, F]
    pub router: B::Buffer,    // [T, E]
    pub routes: B::Routes,    // [T, top_k]
    pub soft: B::Buffer,      // [C, H] soft embedding of the last step, for self-conditioning
    pub next_soft: B::Buffer, // [C, H] the one being made: a step that is given up leaves `soft` as it was
    pub likely: Vec<u32>,     // [C] most probable tokens of the step that made `soft`; empty before
    pub watch: Stopwatch,     // where the time went
    pub rows: usize,          // T
    pub bytes: usize,         // of all of them
}

/// Bytes of all buffers but the routes.
pub fn buffer_bytes(c: &Config, rows: usize) -> usize {
    let widths = 4 * c.hidden + 2 * c.max_query_width() + 2 * c.max_kv_width() + 2 * c.ffn + c.experts;
    size_of::<f32>() * (rows * widths + 2 * c.canvas * c.hidden)
}

impl<B: Backend> State<B> {
    pub fn new(backend: &B, c: &Config, rows: usize) -> Result<Self> {
        let buffer = |width: usize| backend.buffer(rows * width, "activations");
        // Inputs and the two activations of every chosen expert, as the fast backends lay them out.
        let expert_widths = c.top_k * (c.hidden + 2 * c.expert_ffn);
        Ok(State {
            x: buffer(c.hidden)?,
            normed: buffer(c.hidden)?,
            branch: buffer(c.hidden)?,
            dense: buffer(c.hidden)?,
            q: buffer(c.max_query_width())?,
            k: buffer(c.max_kv_width())?,
            v: buffer(c.max_kv_width())?,
            attended: buffer(c.max_query_width())?,
            gate: buffer(c.ffn)?,
            up: buffer(c.ffn)?,
            router: buffer(c.experts)?,
            routes: backend.routes(rows, c.top_k, c.expert_ffn, c.hidden)?,
            soft: backend.buffer(c.canvas * c.hidden, "soft embeddings")?,
            next_soft: backend.buffer(c.canvas * c.hidden, "soft embeddings")?,
            likely: Vec::new(),
            watch: Stopwatch::new(),
            rows,
            bytes: buffer_bytes(c, rows) + size_of::<f32>() * rows * expert_widths,
        })
    }
}

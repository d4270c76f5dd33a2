//! Launchers of `head_statistics.cu`, `head_draw.cu` and `soft_embedding.cu`: the walk over the vocabulary.
//!
//! ```text
//! for each chunk of 8192 tokens:
//!     logits of the chunk                                     matmul.cu
//!     statistics; the chunk becomes exp(l - max)              head_statistics.cu
//!     soft embedding += chunk * embedding                     soft_embedding.cu, runs of 64 tokens that matter
//! finish, scale the soft embedding, draw                      head_draw.cu computes one run of logits again
//! ```
//!
//! Memory at the real size (256 rows, 262,144 tokens): the chunk 8.4 MB, run sums 4.2 MB.

use super::driver::{Grid, Memory};
use super::grid::{self, Operand};
use super::layout::TILE_ROWS;
use super::product::{self, Product};
use super::scratch::Scratch;
use super::{Buffer, Cuda, Weight, arguments, rows as elementwise};
use crate::backend::{HeadParams, HeadStats, HeadWeights};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Tokens of a chunk: a multiple of a run.
const CHUNK: usize = 8192;
/// Tokens of a run (`RUN` of cuda/head.cuh).
const RUN: usize = 64;
/// Bytes of `HeadRow` of cuda/head.cuh.
const ROW_BYTES: usize = 32;
/// Threads of `head_statistics`.
const THREADS: usize = 256;

/// One walk: sizes and the addresses of what it keeps.
struct Walk {
    rows: usize,
    vocab: usize,
    width: usize,
    runs: usize,
    chunks: usize,
    logits: u64,
    state: u64,
    run_sums: u64,
    maxima: u64,
}

/// Bytes of work space for a walk over `rows` rows, with what a host that samples gives and takes.
pub fn work_bytes(rows: usize, vocab: usize) -> usize {
    let of_row = 4 * vocab.min(CHUNK) + ROW_BYTES + 4 * vocab.div_ceil(RUN) + 4 * vocab.div_ceil(CHUNK);
    // Uniforms and a temperature, the four lists that come back, a bias.
    rows * (of_row + 4 + 4 * 4) + 4 + 4 * vocab
}

/// What becomes of logits before their statistics, and whose numbers draw. Addresses, so that a recorded step finds other
/// numbers there at each replay.
#[derive(Clone, Copy)]
pub struct Tempering {
    /// 0: no soft cap.
    pub cap: f32,
    /// Of a bias per token, or 0.
    pub bias: u64,
    /// Of the temperature; 0: 1.
    pub temperature: u64,
}

/// Where the head's results go: addresses of a number per row each.
#[derive(Clone, Copy)]
pub struct Found {
    pub sampled: u64,
    pub argmax: u64,
    pub entropy: u64,
    pub log_prob: u64,
}

impl Walk {
    fn new(cuda: &Cuda, scratch: &mut Scratch, rows: usize, vocab: usize) -> Result<Walk> {
        let (width, runs, chunks) = (vocab.min(CHUNK), vocab.div_ceil(RUN), vocab.div_ceil(CHUNK));
        let walk = Walk {
            rows,
            vocab,
            width,
            runs,
            chunks,
            logits: scratch.logits.of(&cuda.device, rows * width * 4)?.address(0),
            state: scratch.rows.of(&cuda.device, rows * ROW_BYTES)?.address(0),
            run_sums: scratch.run_sums.of(&cuda.device, rows * runs * 4)?.address(0),
            maxima: scratch.maxima.of(&cuda.device, rows * chunks * 4)?.address(0),
        };
        let n = grid::int(rows, "rows")?;
        // SAFETY: (state, rows), a HeadRow per row.
        unsafe { cuda.launch("head_statistics", None, "head_start", walk.per(rows)?, arguments![walk.state, n])? };
        Ok(walk)
    }

    fn per(&self, n: usize) -> Result<Grid> {
        grid::per_element("head", n, 128)
    }

    /// The chunks, as (first token, tokens).
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let vocab = self.vocab;
        (0..vocab).step_by(CHUNK).map(move |first| (first, CHUNK.min(vocab - first)))
    }

    /// Logits of a chunk; x: address of operand records.
    fn logits(&self, cuda: &Cuda, table: &Weight, x: u64, first: usize, n: usize) -> Result<()> {
        let (first_tile, at) = (first / TILE_ROWS, table.address()?);
        let out = self.logits;
        Product { weight: table, at, first_tile, n, x, rows: self.rows, out, out_width: self.width }.launch(cuda)
    }

    fn statistics(&self, cuda: &Cuda, first: usize, n: usize, how: &Tempering) -> Result<()> {
        let shared = (2 * THREADS / 32 + 2 * n.div_ceil(RUN)) * 4;
        let grid = grid::per_row("head_statistics", self.rows, THREADS as u32, shared)?;
        let (width, token, n) = (self.width as i32, grid::int(first, "token")?, n as i32);
        let (runs, chunks, chunk) = (self.runs as i32, self.chunks as i32, (first / CHUNK) as i32);
        // SAFETY: (logits, width, first, n, cap, bias, temperature, state, run_sums, runs, maxima, chunks, chunk), in the
        // sizes that `new` allocated.
        unsafe {
            cuda.launch(
                "head_statistics",
                None,
                "head_statistics",
                grid,
                arguments![
                    self.logits,
                    width,
                    token,
                    n,
                    how.cap,
                    how.bias,
                    how.temperature,
                    self.state,
                    self.run_sums,
                    runs,
                    self.maxima,
                    chunks,
                    chunk
                ],
            )
        }
    }

    /// soft `[rows, hidden]` takes the chunk's part.
    fn accumulate(&self, cuda: &Cuda, embedding: &Weight, first: usize, n: usize, soft: u64) -> Result<()> {
        let exact = embedding.operand == Operand::Exact;
        let (entry, parts) = if exact { ("soft_embedding_exact", 3) } else { ("soft_embedding_bf16", 1) };
        let blocks = (embedding.cols.div_ceil(64), self.rows.div_ceil(64));
        let grid = grid::plane("soft_embedding", blocks.0, blocks.1, 128, 2 * parts * 64 * 72 * 2)?;
        let (k_tiles, hidden) = (grid::int(embedding.k_tiles(), "tiles")?, grid::int(embedding.cols, "columns")?);
        let (token, n) = (grid::int(first, "token")?, n as i32);
        let (width, runs, rows) = (self.width as i32, self.runs as i32, self.rows as i32);
        // SAFETY: (embedding, k_tiles, hidden, e, width, first, n, state, run_sums, runs, rows, soft), as above.
        unsafe {
            cuda.launch(
                "soft_embedding",
                Some(embedding.layout.name),
                entry,
                grid,
                arguments![
                    embedding.address()?,
                    k_tiles,
                    hidden,
                    self.logits,
                    width,
                    token,
                    n,
                    self.state,
                    self.run_sums,
                    runs,
                    rows,
                    soft
                ],
            )
        }
    }

    /// soft *= scale / sum.
    fn scale(&self, cuda: &Cuda, scale: f32, hidden: usize, soft: u64) -> Result<()> {
        let grid = grid::plane("head_scale", hidden.div_ceil(256), self.rows, 256, 0)?;
        let hidden = grid::int(hidden, "columns")?;
        // SAFETY: (state, scale, hidden, soft), as above.
        unsafe { cuda.launch("head_statistics", None, "head_scale", grid, arguments![self.state, scale, hidden, soft]) }
    }
}

fn check(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
}

pub fn logits(
    cuda: &Cuda,
    table: &Weight,
    x: &Buffer,
    rows: usize,
    softcap: Option<f32>,
    out: &mut [f32],
) -> Result<()> {
    let mut scratch = cuda.scratch();
    let x = product::quantize(cuda, &mut scratch.operand, table.operand, &x.0, rows, table.cols, table.k_tiles())?;
    let walk = Walk::new(cuda, &mut scratch, rows, table.rows)?;
    for (first, n) in walk.chunks() {
        walk.logits(cuda, table, x, first, n)?;
        let memory = scratch.logits.of(&cuda.device, rows * walk.width * 4)?;
        if let Some(cap) = softcap {
            elementwise::softcap(cuda, memory, cap, rows * walk.width)?;
        }
        memory.read_rows(n, walk.width, rows, &mut out[first..], table.rows)?;
    }
    Ok(())
}

/// The whole walk, with everything that it reads and leaves on the device.
pub fn walk(
    cuda: &Cuda,
    weights: HeadWeights<Weight>,
    x: &Buffer,
    (rows, how, soft_scale): (usize, Tempering, f32),
    uniforms: u64,
    soft: &Buffer,
    found: Found,
) -> Result<()> {
    let HeadWeights { table, embedding } = weights;
    let mut scratch = cuda.scratch();
    let x = product::quantize(cuda, &mut scratch.operand, table.operand, &x.0, rows, table.cols, table.k_tiles())?;
    let walk = Walk::new(cuda, &mut scratch, rows, table.rows)?;
    let soft = soft.0.address(0);
    for (first, n) in walk.chunks() {
        walk.logits(cuda, table, x, first, n)?;
        walk.statistics(cuda, first, n, &how)?;
        walk.accumulate(cuda, embedding, first, n, soft)?;
    }
    walk.scale(cuda, soft_scale, embedding.cols, soft)?;
    draw(cuda, &walk, table, x, uniforms, &how, found.sampled)?;
    finish(cuda, &walk, found)
}

/// The walk for a host that samples: its numbers are uploaded, the results are read back.
pub fn head(
    cuda: &Cuda,
    weights: HeadWeights<Weight>,
    x: &Buffer,
    rows: usize,
    params: &HeadParams,
    soft: &Buffer,
    stats: &mut HeadStats,
) -> Result<()> {
    check(params.cancel)?;
    let (mut given, mut found) = (params.uniforms[..rows].to_vec(), vec![0u32; 4 * rows]);
    given.push(params.temperature);
    let mut numbers = Memory::new(&cuda.device, given.len() * 4, "work space")?;
    numbers.write(&given, 0)?;
    let dense = bias(cuda, params.bias, weights.table.rows)?;
    let bias = dense.as_ref().map_or(0, |memory| memory.address(0));
    let how = Tempering { cap: params.softcap.unwrap_or(0.0), bias, temperature: numbers.address(rows * 4) };
    let results = Memory::new(&cuda.device, found.len() * 4, "work space")?;
    let list = |i: usize| results.address(i * rows * 4);
    let places = Found { sampled: list(0), argmax: list(1), entropy: list(2), log_prob: list(3) };
    walk(cuda, weights, x, (rows, how, params.soft_scale), numbers.address(0), soft, places)?;
    results.read(0, &mut found)?;
    let floats = |i: usize| found[i * rows..(i + 1) * rows].iter().map(|&w| f32::from_bits(w)).collect();
    *stats = HeadStats {
        sampled: found[..rows].to_vec(),
        argmax: found[rows..2 * rows].to_vec(),
        entropy: floats(2),
        log_prob: floats(3),
        ..Default::default()
    };
    Ok(())
}

/// A dense bias of all tokens, or none.
pub fn bias(cuda: &Cuda, given: &[(u32, f32)], vocab: usize) -> Result<Option<Memory>> {
    if given.is_empty() {
        return Ok(None);
    }
    let mut dense = vec![0.0f32; vocab];
    given.iter().for_each(|&(token, bias)| dense[token as usize] = bias);
    let mut memory = Memory::new(&cuda.device, vocab * 4, "logit biases")?;
    memory.write(&dense, 0)?;
    Ok(Some(memory))
}

fn draw(cuda: &Cuda, w: &Walk, table: &Weight, x: u64, uniforms: u64, how: &Tempering, sampled: u64) -> Result<()> {
    let entry = match table.operand {
        Operand::Int8 => "head_draw_int8",
        Operand::Bf16 => "head_draw_bf16",
        Operand::Exact => "head_draw_exact",
    };
    let grid = grid::per_row("head_draw", w.rows, 128, RUN * 4 + 16)?;
    let (vocab, k, k_tiles) =
        (grid::int(w.vocab, "tokens")?, grid::int(table.cols, "columns")?, grid::int(table.k_tiles(), "tiles")?);
    let (runs, chunks, chunk) = (w.runs as i32, w.chunks as i32, CHUNK as i32);
    // SAFETY: (table, vocab, k, k_tiles, x, uniforms, cap, bias, temperature, state, run_sums, runs, maxima, chunks,
    // chunk_tokens, sampled), with a number per row in the last.
    unsafe {
        cuda.launch(
            "head_draw",
            Some(table.layout.name),
            entry,
            grid,
            arguments![
                table.address()?,
                vocab,
                k,
                k_tiles,
                x,
                uniforms,
                how.cap,
                how.bias,
                how.temperature,
                w.state,
                w.run_sums,
                runs,
                w.maxima,
                chunks,
                chunk,
                sampled
            ],
        )
    }
}

fn finish(cuda: &Cuda, w: &Walk, found: Found) -> Result<()> {
    let (rows, Found { argmax, entropy, log_prob, .. }) = (w.rows as i32, found);
    // SAFETY: (state, rows, argmax, entropy, log_prob), with a number per row in each.
    unsafe {
        cuda.launch(
            "head_statistics",
            None,
            "head_finish",
            w.per(w.rows)?,
            arguments![w.state, rows, argmax, entropy, log_prob],
        )
    }
}

pub fn log_probs(
    cuda: &Cuda,
    table: &Weight,
    x: &Buffer,
    rows: usize,
    softcap: Option<f32>,
    (wanted, cancel): (&[(usize, u32)], &AtomicBool),
    out: &mut [f32],
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut scratch = cuda.scratch();
    let x = product::quantize(cuda, &mut scratch.operand, table.operand, &x.0, rows, table.cols, table.k_tiles())?;
    let walk = Walk::new(cuda, &mut scratch, rows, table.rows)?;
    let pairs: Vec<u32> = wanted.iter().flat_map(|&(row, token)| [row as u32, token]).collect();
    let given = scratch.given.of(&cuda.device, pairs.len() * 4)?;
    given.write(&pairs, 0)?;
    let given = given.address(0);
    let found = scratch.found.of(&cuda.device, wanted.len() * 4)?;
    let how = Tempering { cap: softcap.unwrap_or(0.0), bias: 0, temperature: 0 };
    let (count, width, list) = (grid::int(wanted.len(), "tokens")?, walk.width as i32, found.address(0));
    for (first, n) in walk.chunks() {
        check(cancel)?;
        walk.logits(cuda, table, x, first, n)?;
        let (token, tokens) = (grid::int(first, "token")?, n as i32);
        // SAFETY: (logits, width, first, n, cap, wanted, count, out), with a number per pair in the last.
        unsafe {
            cuda.launch(
                "head_statistics",
                None,
                "head_pick",
                walk.per(wanted.len())?,
                arguments![walk.logits, width, token, tokens, how.cap, given, count, list],
            )?;
        }
        walk.statistics(cuda, first, n, &how)?;
    }
    // SAFETY: (wanted, count, state, out), as above.
    unsafe {
        cuda.launch(
            "head_statistics",
            None,
            "head_log_probs",
            walk.per(wanted.len())?,
            arguments![given, count, walk.state, list],
        )?;
    }
    found.read(0, &mut out[..wanted.len()])
}

pub fn soft_embedding(
    cuda: &Cuda,
    embedding: &Weight,
    logits: &[f32],
    rows: usize,
    scale: f32,
    out: &Buffer,
) -> Result<()> {
    let mut scratch = cuda.scratch();
    let vocab = embedding.rows;
    let walk = Walk::new(cuda, &mut scratch, rows, vocab)?;
    let how = Tempering { cap: 0.0, bias: 0, temperature: 0 };
    let soft = out.0.address(0);
    let mut part = vec![0.0f32; rows * walk.width];
    for (first, n) in walk.chunks() {
        for (to, from) in part.chunks_exact_mut(walk.width).zip(logits.chunks_exact(vocab)) {
            to[..n].copy_from_slice(&from[first..first + n]);
        }
        scratch.logits.of(&cuda.device, rows * walk.width * 4)?.write(&part, 0)?;
        walk.statistics(cuda, first, n, &how)?;
        walk.accumulate(cuda, embedding, first, n, soft)?;
    }
    walk.scale(cuda, scale, embedding.cols, soft)
}

//! The soft embedding: `soft[row] = scale * sum over tokens of p[row, token] * embedding[token]`, over the tokens that
//! matter, made segment by segment while the head's sweep goes over the vocabulary.
//!
//! ```text
//! run of tokens   their embeddings unpacked, right after the logits have read them
//! row             which tokens matter; sums so far follow the row's maximum
//! segment         rows with many such tokens: one product [rows, tokens] x [tokens, hidden], in BF16 where there is that
//!                 other rows: each embedding decoded once for all rows that need it, and added
//! end             divided by the sum of exponentials
//! ```
//!
//! Of each row, tokens are left out that together have at most the probability [`DROPPED`]: every run of 64 may drop its
//! share of that, half of it as a whole run, half as single tokens. What a probability is, is not known before the end of
//! the sweep, but a lower bound of the sum of exponentials is: the sum so far, or the exponential of a token that was likely
//! in the step before. So cost falls as distributions become sharp.
//!
//! Error beside the dropped tokens: with BF16 products, exponentials and embeddings are rounded once each (2^-8 at most).

use super::bf16;
use super::gemm::{Rows, gemm};
use super::math;
use super::parallel::{Shared, parallel, rows_mut};
use super::sweep::{Part, RUN, Row, SEGMENT, STRIDE, Sweep, Visitor};
use crate::backend::host_weight::{HostWeight, zeroed};
use crate::cpu_level::{Avx512Bf16, CpuLevel};
use crate::error::Result;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The probability of the tokens left out of a row, at most, in a backend that is not exact.
pub const DROPPED: f64 = 1e-6;

/// Tokens of a segment from which a row takes part in the dense product: a token on its own costs as much as some sixteen
/// there.
const DENSE: usize = SEGMENT / 16;

/// Columns of a strip of the unpacked segment, which one task multiplies.
const STRIP: usize = 64;

/// What a row wants of a segment.
enum Choice {
    All,
    These(Vec<u32>),
}

/// Scratch memory for segments.
pub struct Memory {
    /// Embeddings, `[strips, tokens, STRIP]` in f32 or `[strips, tokens / 2, STRIP]` pairs in BF16.
    matrix: Vec<f32>,
    /// `[rows, SEGMENT]`: exponentials in BF16.
    rounded: Vec<u16>,
    choices: Vec<Choice>,
}

impl Memory {
    /// For rows of `hidden` elements.
    pub fn new(level: CpuLevel, rows: usize, hidden: usize, dropped: f64) -> Result<Memory> {
        let words = SEGMENT * hidden.next_multiple_of(STRIP);
        let (words, rounded) = match products(level, dropped) {
            Some(_) => (words / 2, rows * SEGMENT),
            None => (words, 0),
        };
        Ok(Memory {
            matrix: zeroed(words, "embeddings of a segment")?,
            rounded: vec![0; rounded],
            choices: (0..rows).map(|_| Choice::These(Vec::new())).collect(),
        })
    }
}

/// How products are made: in BF16, or in f32.
fn products(level: CpuLevel, dropped: f64) -> Option<Avx512Bf16> {
    level.bf16().filter(|_| dropped > 0.0)
}

/// A soft embedding being made.
pub struct Soft<'a> {
    level: CpuLevel,
    bf16: Option<Avx512Bf16>,
    embedding: &'a HostWeight,
    dropped: f64,
    /// `[rows, hidden]`, relative to the rows' maxima.
    out: &'a mut [f32],
    sums: Shared<f32>,
    matrix: Shared<f32>,
    rounded: Shared<u16>,
    choices: Shared<Choice>,
    rows: usize,
    /// Whether runs are unpacked as they come: the segment before needed it.
    ahead: bool,
    terms: u64,
    /// Time on the clock, and the sum over threads of what is done beside other work.
    time: Duration,
    beside: AtomicU64,
}

impl<'a> Soft<'a> {
    /// out `[rows, hidden]`. `dropped`: what may be left out, and zero for exact products.
    pub fn new(
        level: CpuLevel,
        embedding: &'a HostWeight,
        dropped: f64,
        memory: &'a mut Memory,
        out: &'a mut [f32],
    ) -> Self {
        out.fill(0.0);
        Soft {
            level,
            bf16: products(level, dropped),
            embedding,
            dropped,
            sums: Shared::new(out),
            out,
            matrix: Shared::new(&mut memory.matrix),
            rounded: Shared::new(&mut memory.rounded),
            rows: memory.choices.len(),
            choices: Shared::new(&mut memory.choices),
            ahead: false,
            terms: 0,
            time: Duration::ZERO,
            beside: AtomicU64::new(0),
        }
    }

    /// Probabilities instead of exponentials, times `scale`. How long all of it took, and (row, token) pairs that it took.
    pub fn finish(mut self, rows: &[Row], scale: f32) -> (Duration, u64) {
        let clock = Instant::now();
        rows_mut(self.out, self.embedding.cols, 1, |i, out| {
            math::scale(self.level, out, (f64::from(scale) / rows[i].sum) as f32);
        });
        self.time += clock.elapsed();
        let beside = Duration::from_nanos(self.beside.into_inner()) / rayon::current_num_threads() as u32;
        (self.time + beside, self.terms)
    }

    /// # Safety
    /// Nobody writes this row meanwhile; no two live borrows of it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn row_of(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        // SAFETY: inside `[rows, hidden]`; the caller's promise.
        unsafe {
            std::slice::from_raw_parts_mut(self.sums.at(row * self.embedding.cols + columns.start), columns.len())
        }
    }

    /// Unpacks the embeddings of tokens `range`, which begin at an even place of their segment of `all` tokens.
    fn unpack(&self, range: Range<usize>, all: usize) {
        let (hidden, at) = (self.embedding.cols, range.start % SEGMENT);
        let decode = |i: usize, to: &mut [f32]| self.embedding.decode(range.start + i, 0, to);
        if self.bf16.is_some() {
            // SAFETY: pairs of these tokens belong to this task alone, in memory of a segment.
            unsafe {
                let out = self.matrix.at(0).cast::<u32>();
                bf16::pack_part(self.level, (range.len(), hidden), decode, (at / 2, all.div_ceil(2)), out);
            }
            return;
        }
        let mut row = vec![0.0; hidden];
        for i in 0..range.len() {
            decode(i, &mut row);
            for (strip, row) in row.chunks(STRIP).enumerate() {
                // SAFETY: as above.
                let to = unsafe { self.matrix.at((strip * all + at + i) * STRIP) };
                // SAFETY: as above.
                unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to, row.len()) };
            }
        }
    }

    /// Which tokens of a segment matter.
    fn choose(&self, part: &Part) -> Choice {
        if self.dropped == 0.0 {
            return Choice::All;
        }
        let share = self.dropped / 2.0 * part.row.bound() * RUN as f64 / self.embedding.rows as f64;
        let least = (share / RUN as f64) as f32;
        let matters = |sum: f32| f64::from(sum) > share;
        let all = || part.exponentials.chunks(RUN).zip(part.run_sums);
        let runs = || (part.first..).step_by(RUN).zip(all()).filter(|(_, (_, sum))| matters(**sum));
        if runs().map(|(_, (run, _))| math::count_above(self.level, run, least)).sum::<usize>() > DENSE {
            return Choice::All;
        }
        let mut tokens = Vec::new();
        for (first, (run, _)) in runs() {
            tokens.extend((first..).zip(run).filter(|(_, e)| **e > least).map(|(token, _)| token as u32));
        }
        Choice::These(tokens)
    }

    /// The dense product for these rows.
    fn product(&self, rows: &[usize], range: &Range<usize>, exponentials: &[f32]) {
        let (hidden, n) = (self.embedding.cols, range.len());
        parallel(hidden.div_ceil(STRIP), rows.len() * n * hidden, |strip| {
            let first = strip * STRIP;
            let columns = first..hidden.min(first + STRIP);
            // SAFETY: these columns of the sums belong to this task alone; the segment is unpacked, and rows that take all
            // tokens are rounded.
            unsafe {
                if let Some(token) = self.bf16 {
                    let pairs = n.div_ceil(2) * STRIP;
                    let packed = std::slice::from_raw_parts(self.matrix.at(strip * pairs).cast::<u32>(), pairs);
                    let x = |i: usize| {
                        let x = std::slice::from_raw_parts(self.rounded.at(rows[i] * SEGMENT), n);
                        (x, 1.0, self.sums.at(rows[i] * hidden + first))
                    };
                    bf16::accumulate(token, packed, (n, columns.len()), x, rows.len());
                } else {
                    let b = Rows { at: self.matrix.at(strip * n * STRIP).cast_const(), stride: STRIP };
                    for rows in rows.chunk_by(|a, b| a + 1 == *b) {
                        let a = Rows { at: exponentials[rows[0] * STRIDE..].as_ptr(), stride: STRIDE };
                        let c = Rows { at: self.sums.at(rows[0] * hidden + first), stride: hidden };
                        gemm(self.level, (rows.len(), columns.len(), n), a, b, c, true);
                    }
                }
            }
        });
    }

    /// Adds single tokens: (token, row, exponential), by token.
    fn add(&self, singles: &[(u32, u32, f32)]) {
        let (hidden, block) = (self.embedding.cols, self.embedding.block());
        let width = (hidden / rayon::current_num_threads()).next_multiple_of(block).min(hidden);
        parallel(hidden.div_ceil(width), 4 * singles.len() * hidden, |task| {
            let columns = task * width..hidden.min((task + 1) * width);
            let mut one = vec![0.0; columns.len()];
            for same in singles.chunk_by(|a, b| a.0 == b.0) {
                self.embedding.decode(same[0].0 as usize, columns.start, &mut one);
                for &(_, row, e) in same {
                    // SAFETY: these columns belong to this task alone.
                    math::add_scaled(self.level, &one, e, unsafe { self.row_of(row as usize, columns.clone()) });
                }
            }
        });
    }

    /// Counts time that a task spent since `clock`.
    fn spent(&self, clock: Instant) {
        self.beside.fetch_add(clock.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Visitor for Soft<'_> {
    fn run(&self, range: Range<usize>, _: Rows<*const f32>) {
        if self.ahead {
            let clock = Instant::now();
            let first = range.start / SEGMENT * SEGMENT;
            self.unpack(range, (self.embedding.rows - first).min(SEGMENT));
            self.spent(clock);
        }
    }

    fn row(&self, index: usize, part: &Part) {
        let (clock, exponentials) = (Instant::now(), part.exponentials);
        if part.factor != 1.0 {
            // SAFETY: this row belongs to this task alone.
            math::scale(self.level, unsafe { self.row_of(index, 0..self.embedding.cols) }, part.factor as f32);
        }
        let choice = self.choose(part);
        // SAFETY: as above.
        unsafe {
            if let (Some(_), Choice::All) = (self.bf16, &choice) {
                let to = std::slice::from_raw_parts_mut(self.rounded.at(index * SEGMENT), exponentials.len());
                bf16::round(self.level, exponentials, to);
            }
            *self.choices.at(index) = choice;
        }
        self.spent(clock);
    }

    fn segment(&mut self, range: Range<usize>, exponentials: &[f32]) {
        let clock = Instant::now();
        let (mut dense, mut singles) = (Vec::new(), Vec::new());
        for row in 0..self.rows {
            // SAFETY: no task is at work.
            match unsafe { &*self.choices.at(row) } {
                Choice::All => dense.push(row),
                Choice::These(tokens) => {
                    let e = |token: u32| exponentials[row * STRIDE + token as usize - range.start];
                    singles.extend(tokens.iter().map(|&token| (token, row as u32, e(token))));
                }
            }
        }
        if !dense.is_empty() {
            if !self.ahead {
                parallel(range.len().div_ceil(RUN), range.len() * self.embedding.cols, |i| {
                    let first = range.start + i * RUN;
                    self.unpack(first..range.end.min(first + RUN), range.len());
                });
            }
            self.product(&dense, &range, exponentials);
        }
        self.ahead = !dense.is_empty();
        singles.sort_unstable_by_key(|&(token, row, _)| (token, row));
        self.add(&singles);
        self.terms += (dense.len() * range.len() + singles.len()) as u64;
        self.time += clock.elapsed();
    }
}

/// `out = softmax(logits) * embedding * scale`, logits `[rows, vocab]` in host memory.
pub fn of_logits(
    level: CpuLevel,
    embedding: &HostWeight,
    logits: &[f32],
    rows: usize,
    scale: f32,
    dropped: f64,
    out: &mut [f32],
) -> Result<()> {
    let (vocab, hidden) = (embedding.rows, embedding.cols);
    let mut memory = Memory::new(level, rows, hidden, dropped)?;
    let mut soft = Soft::new(level, embedding, dropped, &mut memory, &mut out[..rows * hidden]);
    let mut sweep = Sweep::new(rows, vocab)?;
    let fill = |range: Range<usize>, to: Rows<*mut f32>| {
        for (row, logits) in logits.chunks_exact(vocab).enumerate().take(rows) {
            let from = &logits[range.clone()];
            // SAFETY: the sweep gives each run of tokens to one task.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.at.add(row * to.stride), from.len()) };
        }
    };
    sweep.run(level, 16, &AtomicBool::new(false), fill, &mut soft)?;
    soft.finish(&sweep.rows, scale);
    Ok(())
}

//! The weights' way through: every tensor is cut into pieces of whole rows, and each thread takes the next piece, reads,
//! encodes and writes it to its place. Nothing is handed from thread to thread, so reading, encoding and writing overlap
//! without queues, memory does not grow with the model, and the file does not depend on the number of threads.

use crate::plan::Step;
use dgemma::gguf::writer::{Plan, Writer};
use dgemma::quant::{self, Format};
use dgemma::{Error, Result};
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements of a piece, about: 2 MiB of BF16 are read at a time, enough for a disk to run at full speed.
const PIECE: usize = 1 << 20;

/// Elements decoded and encoded at a time, about: 64 KiB as F32, so that they stay in a core's caches.
const TILE: usize = 1 << 14;

/// Magnitudes from which a format's F16 scales can overflow. They are never larger than the values, but F16 ends at 65504.
const LARGE: f32 = 65504.0;

/// From this magnitude on a weight is never lost for want of a scale: NVFP4's begin at 6/1024, F16's far below.
const FAINT: f32 = 1.0 / 128.0;

/// Rows of one tensor.
#[derive(Clone, Copy)]
struct Piece {
    tensor: usize,
    row: usize,
    rows: usize,
}

/// Converts all tensors. `threads`: 0 means one per core. Of several errors, the first one in file order is reported.
/// Returns a line about each tensor with blocks that were not zero and have become so.
pub fn convert(steps: &[Step], writer: &Writer, threads: usize, progress: &ProgressBar) -> Result<Vec<String>> {
    let lost: Vec<AtomicUsize> = steps.iter().map(|_| AtomicUsize::new(0)).collect();
    each_piece(steps, threads, |worker, step, piece| {
        let bytes = worker.convert(step, piece)?;
        let start = piece.row * row_bytes(step)?;
        writer.write_at(piece.tensor, start, bytes)?;
        progress.inc(bytes.len() as u64);
        lost[piece.tensor].fetch_add(worker.lost, Ordering::Relaxed);
        Ok(())
    })?;
    let counts = steps.iter().zip(lost).map(|(step, lost)| (step, lost.into_inner()));
    Ok(counts.filter(|&(_, lost)| lost > 0).map(|(step, lost)| about_lost(step, lost)).collect())
}

fn about_lost(step: &Step, lost: usize) -> String {
    let Step { plan: Plan { name, format, .. }, .. } = step;
    let blocks = quant::scaled_together(format);
    let of = rows(step) * columns(step).div_ceil(blocks);
    format!(
        "tensor {name}: {lost} of {of} blocks of {blocks} weights became zero in {}, which cannot hold numbers that small; \
         --tensor-type {name}=BF16 keeps them, MXFP4 in 4 bits",
        format.name
    )
}

/// Reads everything again, input and output, and compares. Tensors that kept their format must have the same numbers;
/// floats may be off by their rounding; of a quantized block, the root of the mean square of the errors may be no larger
/// than [`quant::error_bound`] allows a single one (the largest magnitude, where an importance matrix made some columns
/// matter little).
pub fn verify(steps: &[Step], writer: &Writer, threads: usize, progress: &ProgressBar) -> Result<()> {
    each_piece(steps, threads, |worker, step, piece| {
        let row_bytes = row_bytes(step)?;
        let mut bytes = std::mem::take(&mut worker.bytes);
        bytes.resize(piece.rows * row_bytes, 0);
        writer.read_at(piece.tensor, piece.row * row_bytes, &mut bytes)?;
        worker.compare(step, piece, &bytes)?;
        progress.inc(bytes.len() as u64);
        worker.bytes = bytes;
        Ok(())
    })
}

fn each_piece(
    steps: &[Step],
    threads: usize,
    work: impl Fn(&mut Worker, &Step, Piece) -> Result<()> + Sync,
) -> Result<()> {
    let pieces: Vec<Piece> = steps.iter().enumerate().flat_map(|(tensor, step)| cut(tensor, step)).collect();
    let threads = if threads == 0 { cores() } else { threads };
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let run = |worker: &mut Worker| {
        // Pieces are taken in order: when one fails, all before it are done or under way, so the first failure is known.
        let n = next.fetch_add(1, Ordering::Relaxed);
        let Some(&piece) = pieces.get(n) else { return ControlFlow::Break(()) };
        if let Some(later) = pieces.get(n + threads) {
            steps[later.tensor].source.prefetch(later.row * columns(&steps[later.tensor]), PIECE);
        }
        let Err(error) = work(worker, &steps[piece.tensor], piece) else { return ControlFlow::Continue(()) };
        next.store(pieces.len(), Ordering::Relaxed);
        let mut failure = failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if failure.as_ref().is_none_or(|(first, _)| n < *first) {
            *failure = Some((n, error));
        }
        ControlFlow::Break(())
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut worker = Worker::default();
                while run(&mut worker).is_continue() {}
            });
        }
    });
    match failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn columns(step: &Step) -> usize {
    step.plan.shape[0]
}

fn rows(step: &Step) -> usize {
    step.plan.shape[1..].iter().product()
}

fn row_bytes(step: &Step) -> Result<usize> {
    let Step { plan, .. } = step;
    let bytes = plan.format.row_bytes(columns(step));
    bytes.ok_or_else(|| Error::Internal(format!("rows of {} do not fit {}", plan.name, plan.format.name)))
}

fn cut(tensor: usize, step: &Step) -> impl Iterator<Item = Piece> {
    let (rows, most) = (rows(step), (PIECE / columns(step)).max(1));
    (0..rows).step_by(most).map(move |row| Piece { tensor, row, rows: most.min(rows - row) })
}

/// What a thread keeps from piece to piece.
#[derive(Default)]
struct Worker {
    /// For the source.
    scratch: Vec<u8>,
    values: Vec<f32>,
    back: Vec<f32>,
    bytes: Vec<u8>,
    /// Blocks of the last piece that were not zero and have become so.
    lost: usize,
}

impl Worker {
    /// The bytes of a piece.
    fn convert(&mut self, step: &Step, piece: Piece) -> Result<&[u8]> {
        let Step { plan, source, .. } = step;
        let row_bytes = row_bytes(step)?;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(piece.rows * row_bytes, 0);
        self.lost = 0;
        for (row, count) in tiles(step, piece) {
            let out = &mut bytes[(row - piece.row) * row_bytes..][..count * row_bytes];
            self.values.resize(count * columns(step), 0.0);
            let stored = source.format() == Some(plan.format);
            if stored {
                source.read_stored(row * columns(step), out)?;
            }
            if stored || source.read_as(plan.format, row * columns(step), out, &mut self.scratch)? {
                (plan.format.decode)(out, &mut self.values);
                self.check_finite(step, row)?;
                if !stored && blocks(step, &self.values).any(is_zero) {
                    self.back.resize(self.values.len(), 0.0);
                    source.read(row * columns(step), &mut self.back, &mut self.scratch)?;
                    self.lost += count_lost(step, &self.back, &self.values);
                }
                continue;
            }
            source.read(row * columns(step), &mut self.values, &mut self.scratch)?;
            let largest = self.check_finite(step, row)?;
            encode(step, row, &self.values, out)?;
            if blocks(step, &self.values).any(is_faint) {
                self.back.resize(self.values.len(), 0.0);
                (plan.format.decode)(out, &mut self.back);
                self.lost += count_lost(step, &self.values, &self.back);
            }
            if largest > quant::cut_off(plan.format).unwrap_or(LARGE) {
                self.check_not_overflown(step, row, out)?;
            }
        }
        self.bytes = bytes;
        Ok(&self.bytes)
    }

    /// The largest magnitude of `values`, or an error if one is no number. `row` is where they start.
    fn check_finite(&self, step: &Step, row: usize) -> Result<f32> {
        // As integers, magnitudes have the order of the numbers, with infinities and NaNs at the end.
        let largest = self.values.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff));
        let largest = f32::from_bits(largest);
        if largest.is_finite() {
            return Ok(largest);
        }
        let at = self.values.iter().position(|x| !x.is_finite()).unwrap_or_default();
        Err(step.source.error_at(row * columns(step) + at, &format!("is {}", self.values[at])))
    }

    fn check_not_overflown(&mut self, step: &Step, row: usize, encoded: &[u8]) -> Result<()> {
        let Format { name, decode, .. } = step.plan.format;
        self.back.resize(self.values.len(), 0.0);
        decode(encoded, &mut self.back);
        let most = quant::cut_off(step.plan.format).unwrap_or(f32::INFINITY);
        let mut numbers = self.values.iter().zip(&self.back);
        let Some(at) = numbers.position(|(x, back)| !back.is_finite() || x.abs() > most) else { return Ok(()) };
        let what = format!("is {}, too large for {name}", self.values[at]);
        Err(step.source.error_at(row * columns(step) + at, &what))
    }

    fn compare(&mut self, step: &Step, piece: Piece, bytes: &[u8]) -> Result<()> {
        let Step { plan, source, .. } = step;
        let (row_bytes, block) = (row_bytes(step)?, plan.format.block);
        for (row, count) in tiles(step, piece) {
            let stored = &bytes[(row - piece.row) * row_bytes..][..count * row_bytes];
            self.values.resize(count * columns(step), 0.0);
            self.back.resize(count * columns(step), 0.0);
            source.read(row * columns(step), &mut self.values, &mut self.scratch)?;
            (plan.format.decode)(stored, &mut self.back);
            let mut blocks = self.values.chunks(block).zip(self.back.chunks(block));
            if let Some(n) = blocks.position(|(expected, found)| is_wrong(step, expected, found)) {
                let first = row * columns(step) + n * block;
                let (found, expected) = (self.back[n * block], self.values[n * block]);
                let what = format!("reads back as {found}, expected {expected}: its block is too far off for");
                return Err(source.error_at(first, &format!("{what} {}", plan.format.name)));
            }
        }
        Ok(())
    }
}

/// What lies under one scale, of whole rows.
fn blocks<'a>(step: &Step, values: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
    let block = quant::scaled_together(step.plan.format);
    values.chunks(columns(step)).flat_map(move |row| row.chunks(block))
}

/// Whether a block is not zero, but may become so.
fn is_faint(block: &[f32]) -> bool {
    // In most blocks the first numbers decide.
    block.iter().all(|x| x.abs() < FAINT) && !is_zero(block)
}

fn is_zero(block: &[f32]) -> bool {
    block.iter().all(|&x| x == 0.0)
}

/// The blocks that are zero in `decoded` and were not in `values`.
fn count_lost(step: &Step, values: &[f32], decoded: &[f32]) -> usize {
    let both = blocks(step, values).zip(blocks(step, decoded));
    both.filter(|(before, after)| !is_zero(before) && is_zero(after)).count()
}

/// Whether a decoded block is further from the original than its format excuses.
fn is_wrong(step: &Step, expected: &[f32], found: &[f32]) -> bool {
    let format = step.plan.format;
    if step.source.format() == Some(format) || format.block == 1 {
        let kept = step.source.format() == Some(format);
        let bound = |x: f32| if kept { 0.0 } else { quant::error_bound(format, expected, x) };
        return expected.iter().zip(found).any(|(&x, &y)| y.is_nan() || (x - y).abs() > bound(x));
    }
    let squares: f64 = expected.iter().zip(found).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    let bound =
        quant::error_bound(format, expected, largest).max(if step.importance.is_some() { largest } else { 0.0 });
    squares.is_nan() || (squares / expected.len() as f64).sqrt() > f64::from(bound)
}

/// The rows of a piece, some at a time: first row and number.
fn tiles(step: &Step, piece: Piece) -> impl Iterator<Item = (usize, usize)> + use<> {
    let most = (TILE / columns(step)).max(1);
    (0..piece.rows).step_by(most).map(move |at| (piece.row + at, most.min(piece.rows - at)))
}

/// Encodes whole rows from row `row` of a tensor on. With importance weights, row by row: the weights are those of the
/// columns, for a stack of matrices those of the row's matrix.
fn encode(step: &Step, row: usize, values: &[f32], out: &mut [u8]) -> Result<()> {
    let Step { plan, importance, .. } = step;
    let encode = plan.format.encode;
    let Some(importance) = importance else {
        encode(values, None, out);
        return Ok(());
    };
    let (columns, matrices) = (columns(step), importance.len() / columns(step));
    let rows_per_matrix = rows(step) / matrices.max(1);
    for (i, (x, bytes)) in values.chunks(columns).zip(out.chunks_mut(row_bytes(step)?)).enumerate() {
        let matrix = (row + i) / rows_per_matrix;
        encode(x, Some(&importance[matrix * columns..][..columns]), bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Generated;

    /// A wrong sign and a scale that is no number are found (in the first number or block); what the format rounds is not.
    #[test]
    fn verification_finds_damage() {
        let values: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7 + 0.5).sin()).collect();
        for name in ["F16", "Q8_0", "Q4_0", "IQ4_NL"] {
            let format = quant::by_name(name).unwrap();
            let plan = Plan { name: "t".to_owned(), shape: vec![64], format };
            let source = Box::new(Generated { name: "t".to_owned(), values: values.clone() });
            let step = Step { plan, wanted: format, source, importance: None };
            let mut bytes = vec![0; 64 / format.block * format.block_bytes];
            (format.encode)(&values, None, &mut bytes);
            let piece = Piece { tensor: 0, row: 0, rows: 1 };
            Worker::default().compare(&step, piece, &bytes).unwrap();
            for (at, mask) in [(1, 0x80), (1, 0x7c)] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                let error = Worker::default().compare(&step, piece, &damaged).unwrap_err().to_string();
                assert!(error.contains("reads back as"), "{name} {at}: {error}");
            }
        }
    }

    /// Of every format: what its scales cannot hold is counted, whatever else is in the row, and the bytes stay the encoder's.
    #[test]
    fn blocks_that_are_lost_are_counted() {
        let usual: Vec<f32> = (0..1024).map(|i| (i as f32 * 0.7 + 0.5).sin()).collect();
        let faint: Vec<f32> = usual.iter().enumerate().map(|(i, x)| if i < 512 { x * 1e-12 } else { *x }).collect();
        let zeros: Vec<f32> = usual.iter().enumerate().map(|(i, x)| if i < 512 { 0.0 } else { *x }).collect();
        for &format in quant::FORMATS {
            // IQ4_NL has a narrow scale, but no code for zero: its smallest numbers remain.
            let wide = ["F32", "BF16", "MXFP4", "IQ4_NL"].contains(&format.name);
            let lost = if wide { 0 } else { 512 / quant::scaled_together(format) };
            for (values, lost) in [(&usual, 0), (&faint, lost), (&zeros, 0)] {
                let plan = Plan { name: "t".to_owned(), shape: vec![1024], format };
                let source = Box::new(Generated { name: "t".to_owned(), values: values.clone() });
                let step = Step { plan, wanted: format, source, importance: None };
                let mut bytes = vec![0; 1024 / format.block * format.block_bytes];
                (format.encode)(values, None, &mut bytes);
                let mut worker = Worker::default();
                assert_eq!(
                    worker.convert(&step, Piece { tensor: 0, row: 0, rows: 1 }).unwrap(),
                    bytes,
                    "{}",
                    format.name
                );
                assert_eq!(worker.lost, lost, "{}", format.name);
            }
        }
    }
}

//! Rows of x in 8 bits, with what a format's brackets need of them.
//!
//! A row is a list of records, one per 32 columns, so that a kernel follows one address per row:
//!
//! ```text
//! 8 words      the integers, -127..=127, four to a word
//! 1 word       F32 dx, what to multiply them with: 1, 1.25, 1.5 or 1.75 times a power of two (`mod.rs`)
//! 1 or 2       per group of the weight, for codes with an offset: -offset * sum(q), where the dot product starts;
//!              for codes with minimums: the bits of the F32 dx * sum(q), what the minimum is multiplied with
//! ```

use super::super::parallel::{Shared, parallel};
use super::COLS;
use crate::cpu_level::{CpuLevel, leveled};
use crate::error::{Error, Result};
use crate::quant::Codes;

/// Words of a record before the corrections.
pub const FIXED: usize = COLS / 4 + 1;

/// What weights ask of the records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Elements under one scale of the weight: 16 or 32.
    pub group: usize,
    /// What is taken off the codes; none: the weight has minimums.
    pub offset: Option<u8>,
}

impl Kind {
    pub fn of(codes: &Codes) -> Kind {
        Kind { group: codes.group, offset: codes.offset }
    }

    /// Scales per 32 columns.
    pub fn groups(self) -> usize {
        COLS / self.group
    }

    /// Words per 32 columns.
    pub fn record(self) -> usize {
        FIXED + self.groups()
    }
}

/// `[rows, columns]` numbers, for products with weights of one kind.
pub struct Activations {
    words: Vec<i32>,
    /// Rows.
    pub rows: usize,
    /// Columns; a multiple of 32.
    pub columns: usize,
    /// What they were made for.
    pub kind: Kind,
}

/// Rows that one task rounds.
const TASK_ROWS: usize = 8;

impl Activations {
    /// Zeros.
    pub fn empty(kind: Kind, rows: usize, columns: usize) -> Result<Activations> {
        assert!(columns.is_multiple_of(COLS));
        let len = rows * columns / COLS * kind.record();
        let mut words = Vec::new();
        words
            .try_reserve_exact(len)
            .map_err(|_| Error::OutOfMemory { bytes: 4 * len, what: "activations in 8 bits" })?;
        words.resize(len, 0);
        Ok(Activations { words, rows, columns, kind })
    }

    /// Rounds `x` `[rows, columns]`.
    pub fn new(level: CpuLevel, kind: Kind, x: &[f32], rows: usize, columns: usize) -> Result<Activations> {
        assert!(x.len() >= rows * columns);
        let mut new = Self::empty(kind, rows, columns)?;
        let len = new.row_words();
        let shared = Shared::new(&mut new.words);
        parallel(rows.div_ceil(TASK_ROWS), rows * columns, |task| {
            for row in task * TASK_ROWS..rows.min((task + 1) * TASK_ROWS) {
                // SAFETY: this row belongs to this task alone.
                let records = unsafe { std::slice::from_raw_parts_mut(shared.at(row * len), len) };
                round(level, &x[row * columns..][..columns], kind, records);
            }
        });
        Ok(new)
    }

    /// Words of a row.
    pub fn row_words(&self) -> usize {
        self.columns / COLS * self.kind.record()
    }

    /// The records of the first row; [`Activations::row_words`] further, those of the next.
    pub fn first(&self) -> *const i32 {
        self.words.as_ptr()
    }

    /// The records of a row.
    pub fn row(&self, row: usize) -> &[i32] {
        &self.words[row * self.row_words()..][..self.row_words()]
    }

    /// Where tasks write records of their own: row r, columns from 32 b on, at word `r * row_words() + b * kind.record()`.
    pub fn shared(&mut self) -> Shared<i32> {
        Shared::new(&mut self.words)
    }
}

/// The records of `x`, of which there are `x.len() / 32`.
pub fn round(level: CpuLevel, x: &[f32], kind: Kind, records: &mut [i32]) {
    let offset = kind.offset.map(i32::from);
    match kind.groups() {
        1 => round_one(level, x, offset, records),
        _ => round_two(level, x, offset, records),
    }
}

leveled! {
    fn round_one(x: &[f32], offset: Option<i32>, records: &mut [i32]) {
        round_into::<1, { FIXED + 1 }>(x, offset, records);
    }
}

leveled! {
    fn round_two(x: &[f32], offset: Option<i32>, records: &mut [i32]) {
        round_into::<2, { FIXED + 2 }>(x, offset, records);
    }
}

/// 1.5 * 2^23: adding it rounds to the nearest integer, ties to even, whose low bits are then the number's. A conversion
/// would look for what does not fit into an integer, one element at a time.
const ROUND: f32 = 12_582_912.0;

/// The next larger number with two bits behind the point, for a normal number.
#[inline(always)]
fn round_up(x: f32) -> f32 {
    const LOW: u32 = (1 << (f32::MANTISSA_DIGITS - 3)) - 1;
    f32::from_bits((x.to_bits() + LOW) & !LOW)
}

#[inline(always)]
fn round_into<const GROUPS: usize, const WORDS: usize>(x: &[f32], offset: Option<i32>, records: &mut [i32]) {
    for (x, record) in x.as_chunks::<COLS>().0.iter().zip(records.as_chunks_mut::<WORDS>().0) {
        // As integers, magnitudes have the order of the numbers.
        let largest = f32::from_bits(x.iter().fold(0, |m, x| m.max(x.to_bits() & 0x7fff_ffff)));
        // Below that, the reciprocal is no number, and what there is vanishes beside everything else.
        let (scale, inverse) = if largest > 1e-35 {
            let s = round_up(largest / 127.0);
            (s, 1.0 / s)
        } else {
            (0.0, 0.0)
        };
        let mut bytes = [0u8; COLS];
        for j in 0..COLS {
            bytes[j] = (x[j] * inverse + ROUND).to_bits() as u8;
        }
        for (word, bytes) in record.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = i32::from_le_bytes(*bytes);
        }
        record[FIXED - 1] = scale.to_bits() as i32;
        for g in 0..GROUPS {
            let sum: i32 = bytes[g * (COLS / GROUPS)..][..COLS / GROUPS].iter().map(|&q| i32::from(q as i8)).sum();
            record[FIXED + g] = match offset {
                Some(offset) => -offset * sum,
                None => (scale * sum as f32).to_bits() as i32,
            };
        }
    }
}

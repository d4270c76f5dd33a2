//! FP8 weights, as llm-compressor and ModelOpt store them: `X.weight` holds E4M3 codes, `X.weight_scale` one scale for
//! all of them (`[]` or `[1]`) or one for each row (`[rows, 1]` or `[rows]`), in F32, F16 or BF16.
//!
//! value = E4M3 code x scale, rounded once to F32.

use crate::checkpoint::Stored;
use crate::e4m3;
use crate::source::Source;
use dgemma::{Error, Result};

/// A tensor of E4M3 codes with its scales.
pub struct Fp8 {
    codes: Stored,
    columns: usize,
    /// One, or one for each row.
    scales: Vec<f32>,
}

impl Fp8 {
    /// `codes` of shape `[rows, columns]`, scaled by `scale`.
    pub fn new(codes: Stored, scale: &Stored) -> Result<Fp8> {
        let [rows, columns] = codes.shape[..] else {
            return Err(codes.error(format!("is F8_E4M3 with shape {:?}, expected a matrix", codes.shape)));
        };
        let right = scale.is_scalar() || scale.shape == [rows, 1] || scale.shape == [rows];
        if !right {
            return Err(scale.error(format!("has shape {:?}, expected [1] or [{rows}, 1]", scale.shape)));
        }
        let scales = scale.numbers()?;
        Ok(Fp8 { codes, columns, scales })
    }
}

impl Source for Fp8 {
    fn error(&self, what: &str) -> Error {
        self.codes.error(what)
    }

    fn prefetch(&self, start: usize, count: usize) {
        self.codes.prefetch_bytes(start as u64, count as u64);
    }

    fn read(&self, start: usize, out: &mut [f32], scratch: &mut Vec<u8>) -> Result<()> {
        scratch.resize(out.len(), 0);
        self.codes.read_bytes(start as u64, scratch)?;
        let first = start / self.columns;
        let rows = out.chunks_exact_mut(self.columns).zip(scratch.chunks_exact(self.columns));
        for (n, (out, codes)) in rows.enumerate() {
            let scale = self.scales[if self.scales.len() == 1 { 0 } else { first + n }];
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = e4m3::VALUES[code as usize] * scale;
            }
        }
        Ok(())
    }
}

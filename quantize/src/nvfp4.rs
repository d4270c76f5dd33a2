//! NVFP4 weights: E2M1 codes, two to a byte, low nibble first, `[rows, columns / 2]`; a scale in E4M3 for every 16 of
//! them, `[rows, columns / 16]`; and one F32 number for the whole tensor.
//!
//! | | codes | scales | whole tensor | value |
//! |---|---|---|---|---|
//! | ModelOpt | `X.weight` | `X.weight_scale` | `X.weight_scale_2` | code x scale x number |
//! | llm-compressor | `X.weight_packed` | `X.weight_scale` | `X.weight_global_scale` | code x scale / number |
//!
//! Code x scale is exact in F32; the last operation rounds once.

use crate::checkpoint::Stored;
use crate::e4m3;
use crate::source::Source;
use dgemma::{Error, Result};
use safetensors::Dtype;

/// Codes that share a scale.
const GROUP: usize = 16;

/// What the codes mean; with the fourth bit set, the negative of it.
const E2M1: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The number for the whole tensor.
pub enum Global<'a> {
    /// To multiply with.
    Factor(&'a Stored),
    /// To divide by.
    Divisor(&'a Stored),
}

/// A tensor of E2M1 codes with its scales.
pub struct Nvfp4 {
    codes: Stored,
    scales: Stored,
    columns: usize,
    global: f32,
    divides: bool,
}

impl Nvfp4 {
    /// A matrix of shape `[rows, columns]`.
    pub fn new(codes: Stored, [rows, columns]: [usize; 2], scales: &Stored, global: Global) -> Result<Nvfp4> {
        if !columns.is_multiple_of(GROUP) {
            return Err(codes.error(format!("rows of {columns} elements are no whole number of groups of {GROUP}")));
        }
        codes.expect(Dtype::U8, &[rows, columns / 2])?;
        scales.expect(Dtype::F8_E4M3, &[rows, columns / GROUP])?;
        let (number, divides) = match global {
            Global::Factor(number) => (number, false),
            Global::Divisor(number) => (number, true),
        };
        if !number.is_scalar() {
            return Err(number.error(format!("has shape {:?}, expected [] or [1]", number.shape)));
        }
        let global = number.numbers()?[0];
        if global == 0.0 && divides {
            return Err(number.error("is 0, but the weights are to be divided by it"));
        }
        Ok(Nvfp4 { codes, scales: scales.clone(), columns, global, divides })
    }
}

impl Source for Nvfp4 {
    fn error(&self, what: &str) -> Error {
        self.codes.error(what)
    }

    fn prefetch(&self, start: usize, count: usize) {
        self.codes.prefetch_bytes((start / 2) as u64, (count / 2) as u64);
    }

    fn read(&self, start: usize, out: &mut [f32], scratch: &mut Vec<u8>) -> Result<()> {
        debug_assert!(start.is_multiple_of(self.columns) && out.len().is_multiple_of(self.columns));
        scratch.resize(out.len() / 2 + out.len() / GROUP, 0);
        let (codes, scales) = scratch.split_at_mut(out.len() / 2);
        self.codes.read_bytes((start / 2) as u64, codes)?;
        self.scales.read_bytes((start / GROUP) as u64, scales)?;
        let groups = out.as_chunks_mut::<GROUP>().0.iter_mut().zip(codes.as_chunks::<{ GROUP / 2 }>().0).zip(&*scales);
        for ((out, codes), &scale) in groups {
            let scale = e4m3::VALUES[scale as usize];
            for (pair, code) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
                *pair = [code & 15, code >> 4].map(|code| {
                    let value = E2M1[code as usize] * scale;
                    if self.divides { value / self.global } else { value * self.global }
                });
            }
        }
        Ok(())
    }
}

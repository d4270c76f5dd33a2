//! NVFP4 weights: E2M1 codes, two to a byte, low nibble first, `[rows, columns / 2]`; a scale in E4M3 for every 16 of
//! them, `[rows, columns / 16]`; and one F32 number for the whole tensor.
//!
//! | | codes | scales | whole tensor | value |
//! |---|---|---|---|---|
//! | ModelOpt | `X.weight` | `X.weight_scale` | `X.weight_scale_2` | code x scale x number |
//! | llm-compressor | `X.weight_packed` | `X.weight_scale` | `X.weight_global_scale` | code x scale / number |
//!
//! Code x scale is exact in F32; the last operation rounds once.
//!
//! NVFP4 in GGUF files has the same codes and scales of blocks, but no place for the number of the whole tensor (llama.cpp keeps it in
//! a tensor of its own, which this library has no use for), so that the scales have to take it over. Where their product is a
//! scale again, as for powers of two, codes stay what they are, and nothing is lost; elsewhere the best of the scales around
//! it is taken.

use crate::checkpoint::Stored;
use crate::e4m3;
use crate::source::Source;
use dgemma::quant::Format;
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

impl Nvfp4 {
    /// Codes and scales of whole rows.
    fn read_codes<'s>(&self, start: usize, count: usize, scratch: &'s mut Vec<u8>) -> Result<(&'s [u8], &'s [u8])> {
        debug_assert!(start.is_multiple_of(self.columns) && count.is_multiple_of(self.columns));
        scratch.resize(count / 2 + count / GROUP, 0);
        let (codes, scales) = scratch.split_at_mut(count / 2);
        self.codes.read_bytes((start / 2) as u64, codes)?;
        self.scales.read_bytes((start / GROUP) as u64, scales)?;
        Ok((codes, scales))
    }

    /// `x` with the number of the whole tensor.
    fn whole(&self, x: f32) -> f32 {
        if self.divides { x / self.global } else { x * self.global }
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
        let (codes, scales) = self.read_codes(start, out.len(), scratch)?;
        let groups = out.as_chunks_mut::<GROUP>().0.iter_mut().zip(codes.as_chunks::<{ GROUP / 2 }>().0).zip(scales);
        for ((out, codes), &scale) in groups {
            let scale = e4m3::VALUES[scale as usize];
            for (pair, code) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
                *pair = [code & 15, code >> 4].map(|code| self.whole(E2M1[code as usize] * scale));
            }
        }
        Ok(())
    }

    fn read_as(&self, target: &Format, start: usize, out: &mut [u8], scratch: &mut Vec<u8>) -> Result<bool> {
        if target.name != "NVFP4" {
            return Ok(false);
        }
        let (codes, scales) = self.read_codes(start, out.len() / BYTES * BLOCK, scratch)?;
        // What is too large or no number is found, and named, among the numbers.
        if scales.iter().any(|&scale| !(0.0..=LARGEST).contains(&self.whole(e4m3::VALUES[scale as usize]))) {
            return Ok(false);
        }
        let blocks = out.as_chunks_mut::<BYTES>().0.iter_mut();
        let codes = codes.as_chunks::<{ BLOCK / 2 }>().0;
        for ((block, codes), scales) in blocks.zip(codes).zip(scales.as_chunks::<{ BLOCK / GROUP }>().0) {
            let (new_scales, new_codes) = block.split_at_mut(BLOCK / GROUP);
            let groups = codes.as_chunks::<{ GROUP / 2 }>().0.iter().zip(new_codes.as_chunks_mut::<{ GROUP / 2 }>().0);
            for (((codes, new), &scale), new_scale) in groups.zip(scales).zip(new_scales) {
                let codes: [u8; GROUP] = std::array::from_fn(|i| codes[i / 2] >> (4 * (i % 2)) & 15);
                let (best, codes) = rescaled(&codes, self.whole(e4m3::VALUES[scale as usize]));
                *new_scale = best;
                *new = std::array::from_fn(|j| codes[j] | codes[j + GROUP / 2] << 4);
            }
        }
        Ok(true)
    }
}

/// Elements and bytes of a block in GGUF files: four scales, then the codes of 16 elements in 8 bytes, four times; of
/// element j the low nibble of byte j, of element j + 8 the high one.
const BLOCK: usize = 64;
const BYTES: usize = BLOCK / GROUP + BLOCK / 2;

/// The largest scale, and its code.
const LARGEST: f32 = 448.0;
const LARGEST_CODE: u8 = 0x7e;

/// `codes` under `scale`, which may be no number of the format, as a scale of the format and codes under that: the pair
/// with the smallest sum of squared errors, of the scales next to `scale`.
fn rescaled(codes: &[u8; GROUP], scale: f32) -> (u8, [u8; GROUP]) {
    let above = (0..LARGEST_CODE).find(|&code| e4m3::VALUES[code as usize] >= scale).unwrap_or(LARGEST_CODE);
    if e4m3::VALUES[above as usize] == scale {
        return (above, *codes);
    }
    let attempt = |candidate: u8| {
        let value = e4m3::VALUES[candidate as usize];
        let new = codes.map(|code| nearest(E2M1[code as usize] * scale / value));
        let off = |(&old, &new): (&u8, &u8)| (E2M1[old as usize] * scale - E2M1[new as usize] * value).powi(2);
        (codes.iter().zip(&new).map(off).sum::<f32>(), candidate, new)
    };
    // Zero would do only where all codes are zero, for which any other scale does as well. The smallest scales lie so far
    // apart that twice or four times the scale, under codes of a half or a quarter, can be the better one: up to code 32.
    let candidates = above.saturating_sub(2).max(1)..=(above + 2).clamp(32, LARGEST_CODE);
    let best = candidates.map(attempt).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or((0, [0; GROUP]), |(_, scale, codes)| (scale, codes))
}

/// The code whose value is nearest to `x`.
fn nearest(x: f32) -> u8 {
    let distance = |code: &u8| (E2M1[*code as usize] - x).abs();
    (0..16).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against every scale of the format.
    #[test]
    fn no_scale_is_better() {
        for n in 0..500u32 {
            let draw = |i: usize| n.wrapping_mul(2_654_435_761).wrapping_add(i as u32 * 40_503) >> 13;
            let codes: [u8; GROUP] = std::array::from_fn(|i| draw(i) as u8 & 15);
            let scale = 2f32.powf(n as f32 / 500.0 * 18.0 - 9.5);
            let error = |new: &[u8; GROUP], value: f32| -> f32 {
                let off = |(&old, &new): (&u8, &u8)| (E2M1[old as usize] * scale - E2M1[new as usize] * value).powi(2);
                codes.iter().zip(new).map(off).sum()
            };
            let (found, new) = rescaled(&codes, scale);
            let ours = error(&new, e4m3::VALUES[found as usize]);
            for other in 1..=LARGEST_CODE {
                let value = e4m3::VALUES[other as usize];
                let theirs = error(&codes.map(|code| nearest(E2M1[code as usize] * scale / value)), value);
                assert!(ours <= 1.0001 * theirs, "{scale}: scale {found} leaves {ours}, scale {other} {theirs}");
            }
        }
    }

    #[test]
    fn scales_of_the_format_keep_their_codes() {
        let codes = std::array::from_fn(|i| i as u8);
        for code in 1..=LARGEST_CODE {
            assert_eq!(rescaled(&codes, e4m3::VALUES[code as usize]), (code, codes));
        }
    }
}

//! The product without any instruction set: what the others are compared with.

use super::super::panels::PANEL;
use super::activations::FIXED;
use super::panel::Panel;
use super::{COLS, Job};
use crate::quant::panel::{CODE_LINES, Line};

/// # Safety
/// As [`super::tile_product`].
pub unsafe fn product(panel: &Panel, job: &Job) {
    for i in 0..job.rows.len() {
        let sums = row(panel, job.x.row(job.rows.get(i)));
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), job.out.at.add(i * job.out.stride), job.width) };
    }
}

/// One row of x with all rows of the panel.
fn row(panel: &Panel, x: &[i32]) -> [f32; PANEL] {
    let (groups, mut sums) = (panel.kind.groups(), [0.0f32; PANEL]);
    let blocks = panel.lines.chunks_exact(panel.record()).zip(x.chunks_exact(panel.kind.record()));
    for (lines, x) in blocks {
        let dx = f32::from_bits(x[COLS / 4] as u32);
        for g in 0..groups {
            let part = g * CODE_LINES / groups..(g + 1) * CODE_LINES / groups;
            let dots = dots(&lines[part.clone()], &x[part]);
            let (scales, correction) = (lines[CODE_LINES + g].floats(), x[FIXED + g]);
            match panel.kind.offset {
                Some(_) => {
                    for r in 0..PANEL {
                        sums[r] += (dots[r] + correction) as f32 * (scales[r] * dx);
                    }
                }
                None => {
                    let mins = lines[CODE_LINES + groups + g].floats();
                    for r in 0..PANEL {
                        sums[r] += dots[r] as f32 * (scales[r] * dx);
                        sums[r] -= mins[r] * f32::from_bits(correction as u32);
                    }
                }
            }
        }
    }
    sums
}

/// Sums of q * code.
fn dots(lines: &[Line], q: &[i32]) -> [i32; PANEL] {
    let mut dots = [0; PANEL];
    for (line, q) in lines.iter().zip(q) {
        let q = q.to_le_bytes();
        for (codes, dot) in line.bytes().iter().zip(&mut dots) {
            *dot += (0..4).map(|j| i32::from(q[j] as i8) * i32::from(codes[j])).sum::<i32>();
        }
    }
    dots
}

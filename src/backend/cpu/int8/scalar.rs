//! The product without any instruction set: what the others are compared with.

use super::super::gemm::Rows;
use super::panel::{BLOCK_BYTES, PANEL, Panel};
use super::{Activations, COLS, Which};

/// # Safety
/// As [`super::tile_product`].
pub unsafe fn product(panel: &Panel, x: &Activations, rows: Which, width: usize, out: Rows<*mut f32>) {
    for i in 0..rows.len() {
        let sums = row(panel, x, rows.get(i));
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), out.at.add(i * out.stride), width) };
    }
}

/// One row of x with all rows of the panel.
fn row(panel: &Panel, x: &Activations, row: usize) -> [f32; PANEL] {
    let (groups, group) = (x.columns / x.group, x.group);
    let mut sums = [0.0f32; PANEL];
    for g in 0..groups {
        let correction = x.corrections[row * groups + g];
        let dots = dots(panel, &x.q[row * x.columns + g * group..][..group], g * group);
        let scale = x.scales[(row * groups + g) * group / COLS];
        for (r, sum) in sums.iter_mut().enumerate() {
            let at = g * PANEL + r;
            match panel.offset {
                Some(_) => *sum += (dots[r] + correction) as f32 * (panel.scales[at] * scale),
                None => {
                    *sum += dots[r] as f32 * (panel.scales[at] * scale);
                    *sum -= panel.mins[at] * f32::from_bits(correction as u32);
                }
            }
        }
    }
    sums
}

/// Sums of q * code from column `first` on.
fn dots(panel: &Panel, q: &[i8], first: usize) -> [i32; PANEL] {
    let mut dots = [0; PANEL];
    let block = &panel.codes[first / COLS * BLOCK_BYTES..][first % COLS * PANEL..];
    for (q, codes) in q.as_chunks::<4>().0.iter().zip(block.as_chunks::<{ 4 * PANEL }>().0) {
        for (codes, dot) in codes.as_chunks::<4>().0.iter().zip(&mut dots) {
            *dot += (0..4).map(|j| i32::from(q[j]) * i32::from(codes[j])).sum::<i32>();
        }
    }
    dots
}

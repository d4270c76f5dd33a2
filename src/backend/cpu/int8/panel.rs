//! 16 weight rows, unpacked in the order in which the kernels read them.

use super::super::gemm::transpose;
use super::super::matmul::RowRange;
use super::COLS;
use crate::cpu_level::CpuLevel;
use crate::quant::Codes;

/// Weight rows of a panel: the 32-bit lanes of a 512-bit register.
pub const PANEL: usize = 16;

/// Columns unpacked before they are put in order: 16 KiB of codes stay in the L1 cache. A multiple of every block.
const CHUNK: usize = 1024;

/// Bytes of the codes of 32 columns.
pub const BLOCK_BYTES: usize = PANEL * COLS;

/// Unpacked rows. Rows that a narrower panel lacks have scales and minimums of zero.
#[derive(Default)]
pub struct Panel {
    /// Per 32 columns, for each 4 of them: `[16 rows, 4]` codes.
    pub codes: Vec<u8>,
    /// Per group: `[16]`.
    pub scales: Vec<f32>,
    /// Per group: `[16]`; of use only for codes without an offset.
    pub mins: Vec<f32>,
    /// Columns.
    pub columns: usize,
    /// Columns under one scale: 16 or 32.
    pub group: usize,
    /// What is taken off the codes, if their format says so; else they have minimums.
    pub offset: Option<u8>,
    /// The largest code.
    pub largest: u8,
    /// Row by row, as formats unpack: codes, scales, minimums of a chunk.
    rows: (Vec<u8>, Vec<f32>, Vec<f32>),
}

impl Panel {
    /// Unpacks `range`, of at most 16 rows.
    pub fn fill(&mut self, level: CpuLevel, codes: &Codes, range: &RowRange) {
        let (columns, group) = (range.weight.cols, codes.group);
        (self.columns, self.group, self.offset, self.largest) = (columns, group, codes.offset, codes.largest);
        self.codes.resize(columns * PANEL, 0);
        self.scales.resize(columns / group * PANEL, 0.0);
        self.mins.resize(columns / group * PANEL, 0.0);
        for first in (0..columns).step_by(CHUNK) {
            let width = (columns - first).min(CHUNK);
            self.unpack(codes, range, first, width);
            let groups = width / group;
            let at = first / group * PANEL;
            arrange(level, &self.rows.0, width, &mut self.codes[first * PANEL..][..width * PANEL]);
            transpose(level, &self.rows.1, PANEL, groups, &mut self.scales[at..], PANEL);
            if codes.offset.is_none() {
                transpose(level, &self.rows.2, PANEL, groups, &mut self.mins[at..], PANEL);
            }
        }
    }

    /// Columns `first..first + width` of all rows, row by row.
    fn unpack(&mut self, codes: &Codes, range: &RowRange, first: usize, width: usize) {
        let groups = width / codes.group;
        let (all, scales, mins) = &mut self.rows;
        all.resize(PANEL * width, 0);
        scales.resize(PANEL * groups, 0.0);
        mins.resize(PANEL * groups, 0.0);
        for row in 0..range.n {
            let bytes = range.weight.stored(range.first + row, first, width);
            let at = row * groups..(row + 1) * groups;
            (codes.unpack)(bytes, &mut all[row * width..][..width], &mut scales[at.clone()], &mut mins[at]);
        }
        // Codes that stay from before do no harm under a scale of zero.
        scales[range.n * groups..].fill(0.0);
        mins[range.n * groups..].fill(0.0);
    }
}

/// `out[block][i][row] = rows[row][block][i]` in units of four codes, i < 8.
fn arrange(level: CpuLevel, rows: &[u8], width: usize, out: &mut [u8]) {
    assert!(rows.len() >= PANEL * width && out.len() == PANEL * width && width.is_multiple_of(COLS));
    #[cfg(target_arch = "x86_64")]
    match level {
        CpuLevel::Avx512(_) | CpuLevel::Avx512Vnni(_) => {
            // SAFETY: the token; the sizes were asserted.
            return unsafe { super::x86::arrange_avx512(rows, width, out) };
        }
        // SAFETY: the token; the sizes were asserted.
        CpuLevel::Avx2(_) => return unsafe { super::x86::arrange_avx2(rows, width, out) },
        CpuLevel::Scalar => {}
    }
    let _ = level;
    for (block, out) in out.chunks_exact_mut(BLOCK_BYTES).enumerate() {
        for (i, out) in out.as_chunks_mut::<{ 4 * PANEL }>().0.iter_mut().enumerate() {
            for (row, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                out.copy_from_slice(&rows[row * width + block * COLS + 4 * i..][..4]);
            }
        }
    }
}

//! 16 weight rows, unpacked in the order in which the kernels read them: see `quant/panel.rs`.

use super::super::gemm::transpose;
use super::super::matmul::RowRange;
use super::super::panels::PANEL;
use super::COLS;
use super::activations::Kind;
use crate::cpu_level::CpuLevel;
use crate::quant::Codes;
use crate::quant::panel::Line;

/// Lines of the codes of 32 columns.
pub const CODE_LINES: usize = COLS / 4;

/// Columns that are unpacked row by row before they are put in order. A multiple of every block.
const CHUNK: usize = 1024;

/// Unpacked rows. What rows that a narrower panel lacks hold is of no meaning.
pub struct Panel {
    /// Per 32 columns: codes, scales, minimums.
    pub lines: Vec<Line>,
    /// Columns.
    pub columns: usize,
    /// The activations that go with it.
    pub kind: Kind,
    /// The largest code.
    pub largest: u8,
    /// 16 rows of a narrower panel.
    padded: Vec<u8>,
    /// Row by row: codes, scales, minimums of a chunk.
    rows: (Vec<u8>, Vec<f32>, Vec<f32>),
    /// Scales and minimums, transposed.
    turned: [Vec<f32>; 2],
}

impl Default for Panel {
    fn default() -> Self {
        let kind = Kind { group: COLS, offset: None };
        let (lines, rows, turned) = Default::default();
        Panel { lines, columns: 0, kind, largest: 0, padded: Vec::new(), rows, turned }
    }
}

impl Panel {
    /// Lines per 32 columns.
    pub fn record(&self) -> usize {
        let brackets = if self.kind.offset.is_some() { 1 } else { 2 };
        CODE_LINES + self.kind.groups() * brackets
    }

    /// Unpacks `range`, of at most 16 rows.
    pub fn fill(&mut self, level: CpuLevel, codes: &Codes, range: &RowRange) {
        let columns = range.weight.cols;
        (self.columns, self.kind, self.largest) = (columns, Kind::of(codes), codes.largest);
        self.lines.resize(columns / COLS * self.record(), Line::default());
        let Some(unpack) = codes.panel else { return self.fill_by_rows(level, codes, range) };
        let bytes = range.weight.stored_rows(range.first, range.n);
        if range.n == PANEL {
            unpack(level, bytes, &mut self.lines);
        } else {
            self.padded.clear();
            self.padded.extend_from_slice(bytes);
            self.padded.resize(bytes.len() / range.n * PANEL, 0);
            unpack(level, &self.padded, &mut self.lines);
        }
    }

    /// For formats without a faster way.
    fn fill_by_rows(&mut self, level: CpuLevel, codes: &Codes, range: &RowRange) {
        let (columns, record, groups) = (self.columns, self.record(), self.kind.groups());
        for first in (0..columns).step_by(CHUNK) {
            let width = (columns - first).min(CHUNK);
            let blocks = width / COLS;
            self.unpack(level, codes, range, first, width);
            let lines = &mut self.lines[first / COLS * record..][..blocks * record];
            for (block, lines) in lines.chunks_exact_mut(record).enumerate() {
                for (i, line) in lines[..CODE_LINES].iter_mut().enumerate() {
                    for (row, word) in line.0.iter_mut().enumerate() {
                        let at = row * width + block * COLS + 4 * i;
                        let code = |j: usize| self.rows.0[at + j];
                        *word = u32::from_le_bytes([code(0), code(1), code(2), code(3)]);
                    }
                }
                let scales = self.turned.iter().flat_map(|all| &all.as_chunks::<PANEL>().0[block * groups..][..groups]);
                for (line, scales) in lines[CODE_LINES..].iter_mut().zip(scales) {
                    *line = Line(scales.map(f32::to_bits));
                }
            }
        }
    }

    /// Columns `first..first + width` of all rows, row by row, and their scales and minimums transposed.
    fn unpack(&mut self, level: CpuLevel, codes: &Codes, range: &RowRange, first: usize, width: usize) {
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
        for (from, to) in [&*scales, &*mins].into_iter().zip(&mut self.turned) {
            to.resize(PANEL * groups, 0.0);
            transpose(level, from, PANEL, groups, to, PANEL);
        }
    }
}

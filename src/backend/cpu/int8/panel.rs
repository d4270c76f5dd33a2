//! 16 weight rows, unpacked in the order in which the kernels read them: see `quant/panel.rs`.

use super::super::matmul::RowRange;
use super::super::panels::PANEL;
use super::COLS;
use super::activations::Kind;
use crate::cpu_level::CpuLevel;
use crate::quant::Codes;
use crate::quant::panel::{CODE_LINES, Line, STEPS};

/// Unpacked rows. What rows that a narrower panel lacks hold is of no meaning.
pub struct Panel {
    /// Per 32 columns: codes, scales, minimums.
    pub lines: Vec<Line>,
    /// Per scale, where the level's kernel asks for them: its products with [`STEPS`].
    pub steps: Vec<Line>,
    /// Columns.
    pub columns: usize,
    /// The activations that go with it.
    pub kind: Kind,
    /// The largest code.
    pub largest: u8,
    /// 16 rows of a narrower panel.
    padded: Vec<u8>,
}

impl Default for Panel {
    fn default() -> Self {
        let kind = Kind { group: COLS, offset: None };
        let (lines, steps, padded) = Default::default();
        Panel { lines, steps, columns: 0, kind, largest: 0, padded }
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
        let with_steps = matches!(level, CpuLevel::Avx512Vnni(_));
        self.steps.resize(if with_steps { columns / codes.group * STEPS.len() } else { 0 }, Line::default());
        let mut bytes = range.weight.stored_rows(range.first, range.n);
        if range.n < PANEL {
            self.padded.clear();
            self.padded.extend_from_slice(bytes);
            self.padded.resize(bytes.len() / range.n * PANEL, 0);
            bytes = &self.padded;
        }
        (codes.panel)(level, bytes, &mut self.lines, &mut self.steps);
    }
}

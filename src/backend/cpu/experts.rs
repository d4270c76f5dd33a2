//! Routing, and the experts with their rows grouped, so that each expert's weights are decoded once per pass.
//!
//! A *slot* is one (row, choice) pair; slots are sorted by expert. Every row adds its slots in the order of its choices,
//! so the sum does not depend on the grouping.

use super::gemm::Rows;
use super::int8::Which;
use super::math;
use super::matmul::{Operand, RowRange, TILE_ROWS, tile_product};
use super::parallel::{Shared, parallel, rows_mut};
use crate::backend::host_weight::{HostWeight, zeroed};
use crate::backend::{ExpertLoad, ExpertWeights};
use crate::cpu_level::CpuLevel;
use crate::error::Result;

/// The choices of up to `rows` rows, and scratch memory for their slots.
pub struct Routes {
    top_k: usize,
    /// `[rows, top_k]`: expert, its weight.
    chosen: Vec<(u32, f32)>,
    /// Slots by expert: slot i serves choice `order[i]` of `chosen`.
    order: Vec<u32>,
    /// `[experts + 1]`: expert e has slots `begin[e]..begin[e + 1]`.
    begin: Vec<usize>,
    /// `[rows, top_k]`: the slot of a choice.
    slot_of: Vec<u32>,
    /// `[slots, hidden]`: inputs, later outputs.
    x: Vec<f32>,
    /// `[slots, ffn]` twice: gate and up.
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl Routes {
    /// Memory for `rows` rows of `top_k` choices.
    pub fn new(rows: usize, top_k: usize, ffn: usize, hidden: usize) -> Result<Self> {
        let slots = rows * top_k;
        Ok(Routes {
            top_k,
            chosen: Vec::with_capacity(slots),
            order: Vec::with_capacity(slots),
            begin: Vec::new(),
            slot_of: Vec::with_capacity(slots),
            x: zeroed(slots * hidden, "expert inputs")?,
            gate: zeroed(slots * ffn, "expert activations")?,
            up: zeroed(slots * ffn, "expert activations")?,
        })
    }

    /// How the rows are spread.
    pub fn load(&self) -> ExpertLoad {
        let sizes = self.begin.windows(2).map(|w| w[1] - w[0]);
        ExpertLoad { touched: sizes.clone().filter(|&n| n > 0).count(), largest: sizes.max().unwrap_or(0) }
    }

    /// The slots in the order of their experts, after [`Backend::experts`](crate::backend::Backend::experts) has run with
    /// activations `ffn` wide.
    pub fn slots(&self, ffn: usize) -> impl Iterator<Item = Slot<'_>> {
        let expert = |slot| self.begin.partition_point(|&begin| begin <= slot) - 1;
        self.order.iter().zip(self.gate.chunks_exact(ffn)).enumerate().map(move |(slot, (&choice, activation))| Slot {
            expert: expert(slot),
            row: choice as usize / self.top_k,
            activation,
        })
    }
}

/// One (row, choice) pair that an expert has served.
pub struct Slot<'a> {
    /// The expert.
    pub expert: usize,
    /// The row of x that it read.
    pub row: usize,
    /// `[ffn]`: what its down projection read.
    pub activation: &'a [f32],
}

pub fn route(logits: &[f32], expert_scale: &[f32], experts: usize, routes: &mut Routes) {
    let top_k = routes.top_k;
    routes.chosen.clear();
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(top_k + 1);
    for logits in logits.chunks_exact(experts) {
        best.clear();
        for (e, &l) in logits.iter().enumerate() {
            // Insertion keeps the order; `>` lets the smaller id win a tie.
            let at = best.iter().position(|&(b, _)| l > b).unwrap_or(best.len());
            if at < top_k {
                best.insert(at, (l, e as u32));
                best.truncate(top_k);
            }
        }
        // The softmax denominator over all experts cancels when the chosen ones are divided by their sum.
        let max = best[0].0;
        let sum: f32 = best.iter().map(|&(l, _)| (l - max).exp()).sum();
        routes.chosen.extend(best.iter().map(|&(l, e)| (e, (l - max).exp() / sum * expert_scale[e as usize])));
    }
    group(experts, routes);
}

/// Counting sort of the choices by expert.
fn group(experts: usize, routes: &mut Routes) {
    routes.begin.clear();
    routes.begin.resize(experts + 1, 0);
    for &(e, _) in &routes.chosen {
        routes.begin[e as usize + 1] += 1;
    }
    for e in 0..experts {
        routes.begin[e + 1] += routes.begin[e];
    }
    let mut next = routes.begin.clone();
    routes.order.clear();
    routes.order.resize(routes.chosen.len(), 0);
    routes.slot_of.clear();
    for (choice, &(e, _)) in routes.chosen.iter().enumerate() {
        let slot = next[e as usize];
        next[e as usize] += 1;
        routes.order[slot] = choice as u32;
        routes.slot_of.push(slot as u32);
    }
}

/// x and out `[rows, hidden]`.
pub fn experts(
    level: CpuLevel,
    w: ExpertWeights<HostWeight>,
    x: &[f32],
    r: &mut Routes,
    out: &mut [f32],
) -> Result<()> {
    let (hidden, ffn, top_k, slots) = (w.hidden, w.ffn, r.top_k, r.chosen.len());
    for ((weight, first), to) in [(w.gate, &mut r.gate), (w.up, &mut r.up)] {
        let input = Input::of_rows(level, weight, x, &r.order, top_k, &mut r.x)?;
        grouped(level, weight, first, ffn, &r.begin, &input, to);
    }
    let up = &r.up;
    rows_mut(&mut r.gate[..slots * ffn], ffn, 16, |slot, gate| math::gelu_mul(level, gate, &up[slot * ffn..][..ffn]));
    let input = Input { rows: Operand::new(level, w.down, &r.gate, slots)?, row_of: None };
    grouped(level, w.down, 0, hidden, &r.begin, &input, &mut r.x);
    let (y, slot_of, chosen) = (&r.x, &r.slot_of, &r.chosen);
    rows_mut(out, hidden, top_k, |row, out| {
        out.fill(0.0);
        for choice in row * top_k..(row + 1) * top_k {
            let y = &y[slot_of[choice] as usize * hidden..][..hidden];
            math::add_scaled(level, y, chosen[choice].1, out);
        }
    });
    Ok(())
}

/// What the slots read.
struct Input<'a> {
    rows: Operand<'a>,
    /// The row of each slot; by default the row of the same number.
    row_of: Option<Vec<u32>>,
}

impl<'a> Input<'a> {
    /// The rows of x that the slots chose. Rounded rows stay where they are, floats are gathered in `gathered`.
    fn of_rows(
        level: CpuLevel,
        weight: &HostWeight,
        x: &'a [f32],
        order: &[u32],
        top_k: usize,
        gathered: &'a mut [f32],
    ) -> Result<Self> {
        let hidden = weight.cols;
        let row_of: Vec<u32> = order.iter().map(|choice| choice / top_k as u32).collect();
        if weight.codes.is_some() {
            return Ok(Input { rows: Operand::new(level, weight, x, x.len() / hidden)?, row_of: Some(row_of) });
        }
        rows_mut(&mut gathered[..order.len() * hidden], hidden, 1, |slot, row| {
            row.copy_from_slice(&x[row_of[slot] as usize * hidden..][..hidden]);
        });
        Ok(Input { rows: Operand::Floats(gathered), row_of: None })
    }

    fn slots(&self, first: usize, n: usize) -> Which<'_> {
        match &self.row_of {
            Some(row_of) => Which::These(&row_of[first..first + n]),
            None => Which::From(first, n),
        }
    }
}

/// `out[slot] = x[slot] * weight[expert of slot, first..first + n]^T`: one task per expert with slots and tile of n.
fn grouped(level: CpuLevel, weight: &HostWeight, first: usize, n: usize, begin: &[usize], x: &Input, out: &mut [f32]) {
    let cols = weight.cols;
    let busy: Vec<usize> = (0..begin.len() - 1).filter(|&e| begin[e] < begin[e + 1]).collect();
    let (tiles, slots) = (n.div_ceil(TILE_ROWS), begin[begin.len() - 1]);
    assert!(out.len() >= slots * n);
    let shared = Shared::new(out);
    parallel(busy.len() * tiles, slots * n * cols, |task| {
        let (expert, j) = (busy[task / tiles], task % tiles * TILE_ROWS);
        let (slot, rows) = (begin[expert], begin[expert + 1] - begin[expert]);
        let range = RowRange { weight, first: expert * weight.rows + first + j, n: (n - j).min(TILE_ROWS) };
        // SAFETY: these slots and columns of out belong to this task alone.
        unsafe {
            let out = Rows { at: shared.at(slot * n + j), stride: n };
            tile_product(level, range, &x.rows, x.slots(slot, rows), out);
        }
    });
}

//! Routing, and the experts with their rows grouped, so that each expert's weights are decoded once per pass.
//!
//! A *slot* is one (row, choice) pair; slots are sorted by expert. Every row adds its slots in the order of their experts,
//! whatever the number of threads.

use super::gemm::Rows;
use super::math;
use super::matmul::{Form, Operand, Parts, RowRange, TILE_ROWS, tile_product};
use super::panels::Which;
use super::parallel::{Shared, parallel, rows_mut};
use crate::backend::host_weight::{HostWeight, zeroed};
use crate::backend::{ExpertLoad, ExpertWeights};
use crate::cpu_level::CpuLevel;
use crate::error::Result;
use std::cell::RefCell;

/// The choices of up to `rows` rows, and scratch memory for their slots.
pub struct Routes {
    top_k: usize,
    /// `[rows, top_k]`: expert, its weight.
    chosen: Vec<(u32, f32)>,
    /// Slots by expert: slot i serves choice `order[i]` of `chosen`.
    order: Vec<u32>,
    /// `[experts + 1]`: expert e has slots `begin[e]..begin[e + 1]`.
    begin: Vec<usize>,
    /// `[slots, hidden]`: inputs, where weights are floats.
    x: Vec<f32>,
    /// `[slots, ffn]`: what down projections read.
    gate: Vec<f32>,
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
            x: zeroed(slots * hidden, "expert inputs")?,
            gate: zeroed(slots * ffn, "expert activations")?,
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
    for (choice, &(e, _)) in routes.chosen.iter().enumerate() {
        let slot = next[e as usize];
        next[e as usize] += 1;
        routes.order[slot] = choice as u32;
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
    let (hidden, ffn, slots) = (w.hidden, w.ffn, r.chosen.len());
    let row_of: Vec<u32> = r.order.iter().map(|choice| choice / r.top_k as u32).collect();
    let [gate_form, up_form] = [w.gate.0, w.up.0].map(|weight| Form::of(level, weight));
    if gate_form == Form::Floats || up_form == Form::Floats {
        rows_mut(&mut r.x[..slots * hidden], hidden, 1, |slot, row| {
            row.copy_from_slice(&x[row_of[slot] as usize * hidden..][..hidden]);
        });
    }
    let operand = |form, weight| match form {
        Form::Floats => Ok(Operand::Floats(&r.x[..slots * hidden])),
        _ => Operand::new(level, weight, x, x.len() / hidden),
    };
    let gate_x = operand(gate_form, w.gate.0)?;
    // One operand is enough where gate and up have the same form, as they nearly always do.
    let other_x = if gate_form == up_form { None } else { Some(operand(up_form, w.up.0)?) };
    let inputs = [(w.gate, &gate_x), (w.up, other_x.as_ref().unwrap_or(&gate_x))];
    let mut rounded = Operand::empty(level, w.down, slots)?;
    gate_up(level, inputs, ffn, &r.begin, &row_of, &mut r.gate, rounded.as_mut().map(Operand::parts));
    let activations = rounded.unwrap_or(Operand::Floats(&r.gate[..slots * ffn]));
    let weight_of: Vec<f32> = r.order.iter().map(|&choice| r.chosen[choice as usize].1).collect();
    down(level, w.down, &activations, &r.begin, (&row_of, &weight_of), out);
    Ok(())
}

thread_local! {
    /// A tile of products.
    static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `gate[slot] = gelu(x gate^T) * (x up^T)`, and the same rounded: a task is one expert and a tile of its width, so that
/// an expert with many rows keeps no thread waiting.
fn gate_up(
    level: CpuLevel,
    inputs: [((&HostWeight, usize), &Operand); 2],
    ffn: usize,
    begin: &[usize],
    row_of: &[u32],
    gate: &mut [f32],
    rounded: Option<Parts>,
) {
    let busy: Vec<usize> = (0..begin.len() - 1).filter(|&e| begin[e] < begin[e + 1]).collect();
    let (tiles, slots) = (ffn.div_ceil(TILE_ROWS), begin[begin.len() - 1]);
    assert!(gate.len() >= slots * ffn);
    let shared = Shared::new(gate);
    parallel(busy.len() * tiles, 2 * slots * ffn * inputs[0].0.0.cols, |task| {
        let (expert, j) = (busy[task / tiles], task % tiles * TILE_ROWS);
        let (slot, rows, n) = (begin[expert], begin[expert + 1] - begin[expert], (ffn - j).min(TILE_ROWS));
        TILE.with_borrow_mut(|up| {
            up.resize(up.len().max(rows * TILE_ROWS), 0.0);
            // SAFETY: these slots and columns of gate belong to this task alone.
            let outs = unsafe {
                [Rows { at: shared.at(slot * ffn + j), stride: ffn }, Rows { at: up.as_mut_ptr(), stride: TILE_ROWS }]
            };
            // Up follows gate, and then the next tile of gate, or the next expert's first.
            let start = |(weight, first): (&HostWeight, usize), expert: usize| expert * weight.rows + first;
            let (gate_w, up_w) = (inputs[0].0, inputs[1].0);
            let after = if j + n < ffn { (expert, j + n) } else { (busy[(task / tiles + 1).min(busy.len() - 1)], 0) };
            let nexts = [(up_w.0, start(up_w, expert) + j), (gate_w.0, start(gate_w, after.0) + after.1)];
            for ((((weight, first), x), out), next) in inputs.into_iter().zip(outs).zip(nexts) {
                let which = match x {
                    Operand::Floats(_) => Which::From(slot, rows),
                    _ => Which::These(&row_of[slot..slot + rows]),
                };
                let range = RowRange { next, ..RowRange::new(weight, start((weight, first), expert) + j, n) };
                // SAFETY: as above; the tile of up has `rows` rows.
                unsafe { tile_product(level, range, x, which, out) };
            }
            for (i, up) in up.chunks_exact(TILE_ROWS).take(rows).enumerate() {
                // SAFETY: as above.
                let gate = unsafe { std::slice::from_raw_parts_mut(shared.at((slot + i) * ffn + j), n) };
                math::gelu_mul(level, gate, &up[..n]);
                if let Some(rounded) = rounded {
                    // SAFETY: these slots and columns belong to this task alone.
                    unsafe { rounded.put(level, slot + i, j, gate) };
                }
            }
        });
    });
}

/// `out[row] += weight of slot * (x[slot] down^T)`: a task is a tile of `out`'s columns and goes through all experts in
/// ascending order. So tasks are equally large however rows are routed, and every sum has one order.
fn down(
    level: CpuLevel,
    weight: &HostWeight,
    x: &Operand,
    begin: &[usize],
    (row_of, weight_of): (&[u32], &[f32]),
    out: &mut [f32],
) {
    let (hidden, slots) = (weight.rows, begin[begin.len() - 1]);
    let rows = out.len() / hidden;
    let shared = Shared::new(out);
    parallel(hidden.div_ceil(TILE_ROWS), slots * hidden * weight.cols, |task| {
        let j = task * TILE_ROWS;
        let n = (hidden - j).min(TILE_ROWS);
        // SAFETY: these columns of out belong to this task alone.
        let part = |row: usize| unsafe { std::slice::from_raw_parts_mut(shared.at(row * hidden + j), n) };
        (0..rows).for_each(|row| part(row).fill(0.0));
        TILE.with_borrow_mut(|y| {
            for (expert, slots) in begin.windows(2).enumerate().filter(|(_, slots)| slots[0] < slots[1]) {
                let (slot, rows) = (slots[0], slots[1] - slots[0]);
                y.resize(y.len().max(rows * TILE_ROWS), 0.0);
                let first = expert * hidden + j;
                let range = RowRange { next: (weight, first + hidden), ..RowRange::new(weight, first, n) };
                // SAFETY: the tile of y has `rows` rows.
                unsafe {
                    let y = Rows { at: y.as_mut_ptr(), stride: TILE_ROWS };
                    tile_product(level, range, x, Which::From(slot, rows), y);
                }
                for (i, y) in y.chunks_exact(TILE_ROWS).take(rows).enumerate() {
                    math::add_scaled(level, &y[..n], weight_of[slot + i], part(row_of[slot + i] as usize));
                }
            }
        });
    });
}

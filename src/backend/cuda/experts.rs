//! Launchers of `route.cu`, `experts_gate_up.cu`, `experts_down.cu` and `experts_combine.cu`.

use super::driver::{Device, Memory};
use super::grid::{self, Operand};
use super::layout::TILE_ROWS;
use super::scratch::Room;
use super::{Buffer, Cuda, Weight, arguments, product};
use crate::backend::fused::Norm;
use crate::backend::{ExpertLoad, ExpertWeights};
use crate::error::{Error, Result};
use std::sync::Arc;

/// Chosen experts, the order of their work, and its memory.
pub struct Routes {
    chosen: Memory,  // [rows, top_k] u32
    weights: Memory, // [rows, top_k] f32
    row_of: Memory,  // [slots] u32
    slot_of: Memory, // [rows, top_k] u32
    hidden: Memory,  // [slots, ffn] f32
    output: Memory,  // [slots, hidden] f32
    offsets: Room,   // [experts + 1] u32
    top_k: usize,
}

impl Routes {
    /// For up to `rows` rows.
    pub fn new(device: &Arc<Device>, rows: usize, top_k: usize, ffn: usize, hidden: usize) -> Result<Self> {
        let slots = rows * top_k;
        let memory = |numbers: usize| Memory::new(device, numbers * 4, "expert activations");
        Ok(Routes {
            chosen: memory(slots)?,
            weights: memory(slots)?,
            row_of: memory(slots)?,
            slot_of: memory(slots)?,
            hidden: memory(slots * ffn)?,
            output: memory(slots * hidden)?,
            offsets: Room::default(),
            top_k,
        })
    }
}

/// Bytes of [`Routes`] once they were used.
pub fn routes_bytes(rows: usize, top_k: usize, ffn: usize, hidden: usize, experts: usize) -> usize {
    4 * (rows * top_k * (4 + ffn + hidden) + experts + 1)
}

/// Experts that a lane of `route` can mark as taken, times lanes.
const MOST_EXPERTS: usize = 1024;

pub fn route(
    cuda: &Cuda,
    logits: &Buffer,
    expert_scale: &Buffer,
    rows: usize,
    experts: usize,
    top_k: usize,
    routes: &mut Routes,
) -> Result<()> {
    if experts > MOST_EXPERTS {
        return Err(Error::argument("backend", format!("{experts} experts, the CUDA backend takes {MOST_EXPERTS}")));
    }
    routes.top_k = top_k;
    let grid = grid::per_row("route", rows.div_ceil(4), 128, 0)?;
    let (n, experts_int, k) =
        (grid::int(rows * top_k, "routes")? / top_k as i32, experts as i32, grid::int(top_k, "routes")?);
    let (chosen, weights) = (routes.chosen.address(0), routes.weights.address(0));
    // SAFETY: (logits, expert_scale, rows, experts, top_k, chosen, weights), with rows * experts logits.
    unsafe {
        cuda.launch(
            "route",
            None,
            "route",
            grid,
            arguments![logits.0.address(0), expert_scale.0.address(0), n, experts_int, k, chosen, weights],
        )?;
    }
    let offsets = routes.offsets.of(&cuda.device, (experts + 1) * 4)?.address(0);
    let grid = grid::per_row("route_group", 1, 1024, (experts + 1) * 4)?;
    let (row_of, slot_of) = (routes.row_of.address(0), routes.slot_of.address(0));
    // SAFETY: (chosen, rows, experts, top_k, offsets, row_of, slot_of), a number per slot in the last two.
    unsafe {
        cuda.launch("route", None, "route_group", grid, arguments![chosen, n, experts_int, k, offsets, row_of, slot_of])
    }
}

/// How the rows of the last [`route`] fell on the experts; waits for it.
pub fn load(routes: &Routes) -> Result<ExpertLoad> {
    let Some(memory) = routes.offsets.held() else { return Ok(ExpertLoad::default()) };
    let mut offsets = vec![0u32; memory.bytes() / size_of::<u32>()];
    memory.read(0, &mut offsets)?;
    let rows = offsets.windows(2).map(|two| two[1].saturating_sub(two[0]) as usize);
    Ok(ExpertLoad { touched: rows.clone().filter(|n| *n > 0).count(), largest: rows.max().unwrap_or(0) })
}

fn entries(operand: Operand) -> (&'static str, &'static str) {
    match operand {
        Operand::Int8 => ("experts_gate_up_int8", "experts_down_int8"),
        Operand::Bf16 => ("experts_gate_up_bf16", "experts_down_bf16"),
        Operand::Exact => ("experts_gate_up_exact", "experts_down_exact"),
    }
}

/// The first tile of rows `row ..` of a stack, which must start a tile and end one.
fn first_tile(row: usize, ffn: usize) -> Result<i32> {
    if row.is_multiple_of(TILE_ROWS) && ffn.is_multiple_of(TILE_ROWS) {
        return grid::int(row / TILE_ROWS, "tiles");
    }
    Err(Error::argument(
        "backend",
        format!("experts are {ffn} wide, the CUDA backend expects a multiple of {TILE_ROWS}"),
    ))
}

pub fn experts(
    cuda: &Cuda,
    w: ExpertWeights<Weight>,
    x: &Buffer,
    rows: usize,
    routes: &mut Routes,
    out: &Buffer,
) -> Result<()> {
    let gate = w.gate.0;
    let records = |room: &mut Room| product::quantize(cuda, room, gate.operand, &x.0, rows, gate.cols, gate.k_tiles());
    of_records(cuda, w, records, rows, routes, out)
}

/// The norm's result goes to operand records directly.
pub fn rms_norm_experts(
    cuda: &Cuda,
    norm: &Norm<Cuda>,
    w: ExpertWeights<Weight>,
    routes: &mut Routes,
    out: &Buffer,
) -> Result<()> {
    let records = |room: &mut Room| product::rms_norm_records(cuda, room, norm, w.gate.0);
    of_records(cuda, w, records, norm.rows, routes, out)
}

/// The experts of what `records` leaves in work space; it gives its address.
fn of_records(
    cuda: &Cuda,
    w: ExpertWeights<Weight>,
    records: impl FnOnce(&mut Room) -> Result<u64>,
    rows: usize,
    routes: &mut Routes,
    out: &Buffer,
) -> Result<()> {
    let ((gate, gate_row), (up, up_row), down) = (w.gate, w.up, w.down);
    if gate.layout != up.layout {
        let what = format!("an expert's gate is {}, its up projection {}", gate.layout.name, up.layout.name);
        return Err(Error::argument("backend", format!("{what}: the CUDA backend expects one format for both")));
    }
    let slots = rows * routes.top_k;
    let offsets = routes.offsets.of(&cuda.device, (w.experts + 1) * 4)?.address(0);
    let (row_of, slot_of) = (routes.row_of.address(0), routes.slot_of.address(0));
    let mut scratch = cuda.scratch();
    let records = records(&mut scratch.operand)?;
    let (ffn, k_tiles) = (grid::int(w.ffn, "expert width")?, grid::int(gate.k_tiles(), "tiles")?);
    let (gate_tiles, up_tiles) = (grid::int(gate.row_tiles(), "tiles")?, grid::int(up.row_tiles(), "tiles")?);
    let (gate_first, up_first) = (first_tile(gate_row, w.ffn)?, first_tile(up_row, w.ffn)?);
    let grid = grid::experts(gate.layout, gate.operand, 2 * w.ffn, w.experts)?;
    let hidden = routes.hidden.address(0);
    // All three are of one layer, and so stay where they are while each of them is fetched.
    let (gate_at, up_at) = (gate.fetch(&mut scratch.streamed)?, up.fetch(&mut scratch.streamed)?);
    // SAFETY: (gate, gate_tiles, gate_first, up, up_tiles, up_first, ffn, k_tiles, x, offsets, row_of, out): the stacks hold
    // w.experts matrices, row_of names rows of x, and `hidden` has ffn numbers per slot.
    unsafe {
        cuda.launch(
            "experts_gate_up",
            Some(gate.layout.name),
            entries(gate.operand).0,
            grid,
            arguments![
                gate_at, gate_tiles, gate_first, up_at, up_tiles, up_first, ffn, k_tiles, records, offsets, row_of,
                hidden
            ],
        )?;
    }
    let records =
        product::quantize(cuda, &mut scratch.operand, down.operand, &routes.hidden, slots, w.ffn, down.k_tiles())?;
    let grid = grid::experts(down.layout, down.operand, w.hidden, w.experts)?;
    let (tiles, n, k_tiles) =
        (grid::int(down.row_tiles(), "tiles")?, grid::int(w.hidden, "width")?, grid::int(down.k_tiles(), "tiles")?);
    let (output, at) = (routes.output.address(0), down.fetch(&mut scratch.streamed)?);
    // SAFETY: (weight, weight_tiles, n, k_tiles, x, offsets, out), records and n numbers of `output` for each slot.
    unsafe {
        cuda.launch(
            "experts_down",
            Some(down.layout.name),
            entries(down.operand).1,
            grid,
            arguments![at, tiles, n, k_tiles, records, offsets, output],
        )?;
    }
    let grid = grid::plane("experts_combine", w.hidden.div_ceil(256), rows, 256, 0)?;
    let (weights, top_k) = (routes.weights.address(0), grid::int(routes.top_k, "routes")?);
    // SAFETY: (y, slot_of, weights, top_k, width, out), with rows * width numbers in out.
    unsafe {
        cuda.launch(
            "experts_combine",
            None,
            "experts_combine",
            grid,
            arguments![output, slot_of, weights, top_k, n, out.0.address(0)],
        )
    }
}

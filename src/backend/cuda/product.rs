//! Launchers of `quantize.cu` and `matmul.cu`.

use super::driver::Memory;
use super::grid::{self, Operand};
use super::rows::{NORM_SHARED, NORM_THREADS};
use super::scratch::{Room, Scratch};
use super::{Buffer, Cuda, Weight, arguments};
use crate::backend::fused::{self, Norm};
use crate::error::Result;

/// What records are made of, in `quantize.cu`.
#[derive(Clone, Copy)]
enum Origin {
    Numbers,
    GeluMul,
    Norm,
}

/// Entry of `quantize.cu`.
fn entry(origin: Origin, operand: Operand) -> &'static str {
    let (int8, bf16, exact) = match origin {
        Origin::Numbers => ("quantize_int8", "quantize_bf16", "quantize_exact"),
        Origin::GeluMul => ("gelu_mul_int8", "gelu_mul_bf16", "gelu_mul_exact"),
        Origin::Norm => ("rms_norm_int8", "rms_norm_bf16", "rms_norm_exact"),
    };
    match operand {
        Operand::Int8 => int8,
        Operand::Bf16 => bf16,
        Operand::Exact => exact,
    }
}

/// Rows of x `[rows, k]` as operand records in `room`; their address.
pub fn quantize(
    cuda: &Cuda,
    room: &mut Room,
    operand: Operand,
    x: &Memory,
    rows: usize,
    k: usize,
    k_tiles: usize,
) -> Result<u64> {
    let to = room.of(&cuda.device, rows * k_tiles * operand.record_bytes())?.address(0);
    let grid = grid::quantize(rows, k_tiles)?;
    let (rows, k, k_tiles) = (grid::int(rows, "rows")?, grid::int(k, "columns")?, grid::int(k_tiles, "tiles")?);
    // SAFETY: (x, rows, k, k_tiles, out), with rows * k numbers in x and a record per 64 columns of a row in `room`.
    unsafe {
        cuda.launch(
            "quantize",
            None,
            entry(Origin::Numbers, operand),
            grid,
            arguments![x.address(0), rows, k, k_tiles, to],
        )?;
    }
    Ok(to)
}

/// Rows `first_tile * 16 ..` of a weight, `n` of them, times operand records.
pub struct Product<'a> {
    pub weight: &'a Weight,
    /// Where it is.
    pub at: u64,
    pub first_tile: usize,
    pub n: usize,
    /// Address of the records, and how many rows of them.
    pub x: u64,
    pub rows: usize,
    /// Address of the result, and numbers from one row of it to the next.
    pub out: u64,
    pub out_width: usize,
}

impl Product<'_> {
    pub fn launch(&self, cuda: &Cuda) -> Result<()> {
        let w = self.weight;
        let (entry, grid) = grid::matmul(w.layout, w.operand, self.n, self.rows, cuda.info().processors)?;
        let (n, rows, width) =
            (grid::int(self.n, "rows")?, grid::int(self.rows, "rows")?, grid::int(self.out_width, "columns")?);
        let (first, k_tiles) = (grid::int(self.first_tile, "tiles")?, grid::int(w.k_tiles(), "tiles")?);
        // SAFETY: (weight, first_tile, n, k_tiles, x, rows, out, out_width): n rows from first_tile on are within the
        // weight, x has `rows` rows of records and out as many rows of `out_width` numbers, by the callers in this module's
        // siblings.
        unsafe {
            cuda.launch(
                "matmul",
                Some(w.layout.name),
                entry,
                grid,
                arguments![self.at, first, n, k_tiles, self.x, rows, self.out, width],
            )
        }
    }
}

/// All rows of `weight` times operand records.
fn multiply(cuda: &Cuda, scratch: &mut Scratch, weight: &Weight, (x, rows): (u64, usize), out: &Buffer) -> Result<()> {
    let (n, out, at) = (weight.rows, out.0.address(0), weight.fetch(&mut scratch.streamed)?);
    Product { weight, at, first_tile: 0, n, x, rows, out, out_width: n }.launch(cuda)
}

pub fn matmul(cuda: &Cuda, weight: &Weight, x: &Buffer, rows: usize, out: &Buffer) -> Result<()> {
    let mut scratch = cuda.scratch();
    let x = quantize(cuda, &mut scratch.operand, weight.operand, &x.0, rows, weight.cols, weight.k_tiles())?;
    multiply(cuda, &mut scratch, weight, (x, rows), out)
}

/// Whether one grid can multiply with both.
fn are_pair(left: &Weight, right: &Weight) -> bool {
    let of = |w: &Weight| (w.layout.name, w.operand, w.rows, w.cols);
    of(left) == of(right) && left.operand == Operand::Bf16
}

/// All rows of two weights, one layer's if they are streamed, times operand records.
fn multiply_pair(
    cuda: &Cuda,
    scratch: &mut Scratch,
    [(left, left_out), (right, right_out)]: [(&Weight, &Buffer); 2],
    (x, rows): (u64, usize),
) -> Result<()> {
    let grid = grid::matmul_pair(left.layout, left.rows, rows)?;
    let (n, k_tiles, rows) =
        (grid::int(left.rows, "rows")?, grid::int(left.k_tiles(), "tiles")?, grid::int(rows, "rows")?);
    let (left, right, name) =
        (left.fetch(&mut scratch.streamed)?, right.fetch(&mut scratch.streamed)?, left.layout.name);
    let (left_out, right_out) = (left_out.0.address(0), right_out.0.address(0));
    // SAFETY: (left, right, n, k_tiles, x, rows, left_out, right_out): both weights have n rows of k_tiles tiles, x has `rows`
    // rows of records and both results as many of n numbers.
    unsafe {
        cuda.launch(
            "matmul",
            Some(name),
            "matmul_bf16_pair",
            grid,
            arguments![left, right, n, k_tiles, x, rows, left_out, right_out],
        )
    }
}

/// The norm's result goes to operand records directly, once for products that follow each other and round it alike.
pub fn rms_norm_matmuls(cuda: &Cuda, norm: &Norm<Cuda>, products: &mut [fused::Product<Cuda>]) -> Result<()> {
    let mut scratch = cuda.scratch();
    let mut made = None;
    let alike = products.chunk_by_mut(|(left, _), (right, _)| are_pair(left, right));
    for pair_or_one in alike.flat_map(|products| products.chunks_mut(2)) {
        let Some((weight, _)) = pair_or_one.first() else { continue };
        let x = match made {
            Some((operand, x)) if operand == weight.operand => x,
            _ => rms_norm_records(cuda, &mut scratch.operand, norm, weight)?,
        };
        made = Some((weight.operand, x));
        if let [(left, left_out), (right, right_out)] = pair_or_one {
            multiply_pair(cuda, &mut scratch, [(left, left_out), (right, right_out)], (x, norm.rows))?;
        } else if let [(weight, out)] = pair_or_one {
            multiply(cuda, &mut scratch, weight, (x, norm.rows), out)?;
        }
    }
    Ok(())
}

/// Rows of the norm as operand records for `weight`, whose columns are the norm's; their address.
pub fn rms_norm_records(cuda: &Cuda, room: &mut Room, norm: &Norm<Cuda>, weight: &Weight) -> Result<u64> {
    let (operand, k_tiles) = (weight.operand, weight.k_tiles());
    let to = room.of(&cuda.device, norm.rows * k_tiles * operand.record_bytes())?.address(0);
    let grid = grid::per_row("rms_norm", norm.rows, NORM_THREADS, NORM_SHARED)?;
    let (k, k_tiles) = (grid::int(norm.dim, "columns")?, grid::int(k_tiles, "tiles")?);
    let (x, weight) = (norm.x.0.address(0), norm.weight.0.address(0));
    // SAFETY: (x, weight, k, k_tiles, eps, out), with rows * k numbers in x, k in weight, and a record per 64 columns of a
    // row in `room`.
    unsafe {
        cuda.launch(
            "quantize",
            None,
            entry(Origin::Norm, operand),
            grid,
            arguments![x, weight, k, k_tiles, norm.eps, to],
        )?;
    }
    Ok(to)
}

/// What gate and up become goes to operand records directly.
pub fn gelu_mul_matmul(
    cuda: &Cuda,
    (gate, up): (&Buffer, &Buffer),
    weight: &Weight,
    rows: usize,
    out: &Buffer,
) -> Result<()> {
    let mut scratch = cuda.scratch();
    let (operand, k_tiles) = (weight.operand, weight.k_tiles());
    let to = scratch.operand.of(&cuda.device, rows * k_tiles * operand.record_bytes())?.address(0);
    let grid = grid::quantize(rows, k_tiles)?;
    let (n, k, k_tiles) = (grid::int(rows, "rows")?, grid::int(weight.cols, "columns")?, grid::int(k_tiles, "tiles")?);
    let (gate, up) = (gate.0.address(0), up.0.address(0));
    // SAFETY: (gate, up, rows, k, k_tiles, out), with rows * k numbers in gate and up, and a record per 64 columns of a row in
    // the work space.
    unsafe {
        cuda.launch("quantize", None, entry(Origin::GeluMul, operand), grid, arguments![gate, up, n, k, k_tiles, to])?;
    }
    multiply(cuda, &mut scratch, weight, (to, rows), out)
}

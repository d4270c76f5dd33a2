//! How kernels are cut into blocks, and what they can take: pure functions, tested up to the limits without a GPU.

use super::driver::Grid;
use super::layout::{Layout, PIECE_COLS, TILE_COLS, TILE_ROWS};
use crate::error::{Error, Result};

/// Most blocks in y and z.
const MOST_BLOCKS: usize = 65_535;
/// Kernels count rows, columns and positions in i32.
const MOST: usize = i32::MAX as usize;

/// How the activations of a product are rounded; `cuda/operand.cuh` has the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// To 8 bits, for weights with integers.
    Int8,
    /// To bf16, as their weights are.
    Bf16,
    /// Not at all: three bf16 numbers each.
    Exact,
}

impl Operand {
    /// Bytes for 64 columns of a row.
    pub fn record_bytes(self) -> usize {
        match self {
            Operand::Int8 => 80,
            Operand::Bf16 => 128,
            Operand::Exact => 384,
        }
    }

    /// (rows of a tile, bytes of a row in shared memory, stages).
    fn tile(self) -> (usize, usize, usize) {
        match self {
            Operand::Int8 => (64, 80, 4),
            Operand::Bf16 => (64, 128, 3),
            Operand::Exact => (32, 416, 2),
        }
    }

    /// The part of kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Operand::Int8 => "int8",
            Operand::Bf16 => "bf16",
            Operand::Exact => "exact",
        }
    }

    /// Shared memory of a block that multiplies `weights` weight tiles per warp.
    fn shared(self, layout: &Layout, weights: usize) -> usize {
        let (tokens, pitch, stages) = self.tile();
        // With integer minimums, 8-bit products have the sums of 256 columns there, too: 32 bytes of each row.
        let sums = if self == Operand::Int8 && layout.integer_minimums() { 32 * tokens } else { 0 };
        stages * (tokens * pitch + 4 * weights * layout.tile_bytes()) + 2 * (4 * weights * layout.super_bytes + sums)
    }
}

/// A grid, or an error that names the kernel and the number that is too large.
fn grid(kernel: &str, blocks: [usize; 3], threads: u32, shared: usize) -> Result<Grid> {
    let [x, y, z] = blocks;
    if x > MOST || y > MOST_BLOCKS || z > MOST_BLOCKS {
        return Err(Error::Internal(format!(
            "{kernel}: a grid of {x} x {y} x {z} blocks is more than a launch can have"
        )));
    }
    Ok(Grid { blocks: [x as u32, y as u32, z as u32], threads, shared: shared as u32 })
}

/// `n` as the kernels count, or an error that names it.
pub fn int(n: usize, what: &str) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::Internal(format!("{what} {n} is more than {MOST}")))
}

/// `pack`: a block per 256 columns of a record of 16 rows, `piece_bytes` bytes of each row.
pub fn pack(records: usize, k_tiles: usize, piece_bytes: usize) -> Result<Grid> {
    let words = piece_bytes.div_ceil(4);
    let pitch = 4 * ((words + 4) / 8 * 8 + 4); // as in `pack.cu`
    let blocks = records.saturating_mul(k_tiles.div_ceil(PIECE_COLS / TILE_COLS));
    grid("pack", [blocks, 1, 1], 128, TILE_ROWS * pitch)
}

/// `quantize_*`: a warp per record of 64 columns.
pub fn quantize(rows: usize, k_tiles: usize) -> Result<Grid> {
    grid("quantize", [k_tiles, rows.div_ceil(4), 1], 128, 0)
}

/// `matmul_*`: its entry, and 64 rows of the weight by a tile of tokens, or 128 (`matmul_bf16_wide`). A block of 128 rows is
/// bound by its products, one of 64 by what it reads from shared memory, 1.5 times as long for each row (tests/bench/SPEED.md);
/// but half as many blocks may leave processors without any.
pub fn matmul(
    layout: &Layout,
    operand: Operand,
    n: usize,
    rows: usize,
    processors: usize,
) -> Result<(&'static str, Grid)> {
    let tokens = rows.div_ceil(operand.tile().0);
    let waves = |rows: usize| (n.div_ceil(rows) * tokens).div_ceil(processors.max(1));
    let (entry, tiles) = match operand {
        Operand::Int8 => ("matmul_int8", 1),
        Operand::Bf16 if 4 * waves(128) <= 3 * waves(64) => ("matmul_bf16_wide", 2),
        Operand::Bf16 => ("matmul_bf16", 1),
        Operand::Exact => ("matmul_exact", 1),
    };
    Ok((entry, grid("matmul", [n.div_ceil(64 * tiles), tokens, 1], 128, operand.shared(layout, tiles))?))
}

/// `matmul_bf16_pair`: 64 rows of both weights by a tile of tokens. Never worse than two grids: each would have as many blocks,
/// of at least three quarters of the time, or half as many that take as long.
pub fn matmul_pair(layout: &Layout, n: usize, rows: usize) -> Result<Grid> {
    let (tokens, shared) = (Operand::Bf16.tile().0, Operand::Bf16.shared(layout, 2));
    grid("matmul", [n.div_ceil(64), rows.div_ceil(tokens), 1], 128, shared)
}

/// `experts_gate_up_*` and `experts_down_*`: 128 of the `rows` rows of weights that each expert has there.
pub fn experts(layout: &Layout, operand: Operand, rows: usize, experts: usize) -> Result<Grid> {
    grid("experts", [rows.div_ceil(128), experts, 1], 128, operand.shared(layout, 2))
}

/// `sampler_decide`: one block; a canvas must fit its shared memory.
pub fn sampler(rows: usize, most_shared: usize) -> Result<Grid> {
    let shared = 12 * rows + 8;
    if shared > most_shared {
        let most = most_shared.saturating_sub(8) / 12;
        return Err(Error::argument("backend", format!("a canvas of {rows} positions, this device takes {most}")));
    }
    grid("sampler", [1, 1, 1], 256, shared)
}

/// A block of `threads` per row.
pub fn per_row(kernel: &str, rows: usize, threads: u32, shared: usize) -> Result<Grid> {
    grid(kernel, [rows, 1, 1], threads, shared)
}

/// A thread per element.
pub fn per_element(kernel: &str, n: usize, threads: u32) -> Result<Grid> {
    grid(kernel, [n.div_ceil(threads as usize), 1, 1], threads, 0)
}

/// Blocks in x and y.
pub fn plane(kernel: &str, x: usize, y: usize, threads: u32, shared: usize) -> Result<Grid> {
    grid(kernel, [x, y, 1], threads, shared)
}

/// How one attention call is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionGrid {
    /// Of the kernel; z counts splits.
    pub grid: Grid,
    /// Positions of a split.
    pub per_split: usize,
}

/// Query vectors of a block, and positions it looks at together (`cuda/attention.cu`).
pub const VECTORS: usize = 16;
const POSITIONS: usize = 32;
/// The shortest split that is worth its merge.
const LEAST_PER_SPLIT: usize = 256;
/// The widest head.
pub const MOST_HEAD_DIM: usize = 512;

/// In how many splits one call may be cut, at most; more positions never mean fewer.
pub fn most_splits(vectors: usize, kv_heads: usize, seen: usize, processors: usize) -> usize {
    let blocks = vectors.div_ceil(VECTORS) * kv_heads;
    let wanted = (2 * processors).div_ceil(blocks.max(1));
    wanted.min(seen.div_ceil(LEAST_PER_SPLIT)).clamp(1, 64)
}

/// `attention`: `vectors` query vectors per K/V head, of which the widest-seeing block walks over `seen` positions. Splits
/// until there are two blocks per processor.
pub fn attention(vectors: usize, kv_heads: usize, dim: usize, seen: usize, processors: usize) -> Result<AttentionGrid> {
    if dim > MOST_HEAD_DIM || !dim.is_multiple_of(4) {
        return Err(Error::Internal(format!(
            "attention: heads of {dim}, expected a multiple of 4 up to {MOST_HEAD_DIM}"
        )));
    }
    let splits = most_splits(vectors, kv_heads, seen, processors);
    // Whole tiles of positions, so that a position meets the same partners in its tile at any number of splits.
    let per_split = seen.div_ceil(splits).next_multiple_of(POSITIONS);
    let splits = seen.div_ceil(per_split).max(1);
    let shared = 4 * (VECTORS * dim + POSITIONS * (dim + 4) + VECTORS * POSITIONS + 3 * VECTORS);
    Ok(AttentionGrid {
        grid: grid("attention", [vectors.div_ceil(VECTORS), kv_heads, splits], 256, shared)?,
        per_split,
    })
}

/// Which of the kernels in `cuda/attention_tiles.cu`, and how it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionTiles {
    /// The widest head that it takes, and which of its variants: the end of its name.
    pub variant: Variant,
    /// Of the kernel; z counts splits.
    pub grid: Grid,
    /// Positions of a split.
    pub per_split: usize,
}

/// `Tiles<D, N, C>` of `cuda/attention_tiles.cu`; two places for K/V in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    dim: usize,
    positions: usize,
    columns: usize,
    /// Blocks that a processor's registers hold.
    blocks: usize,
    /// Kernels for K/V of f16 and f32, and of bf16.
    pub f16: &'static str,
    pub bf16: &'static str,
}

/// The best first, for heads of the same width.
const VARIANTS: [Variant; 5] = [
    Variant { dim: 128, positions: 32, columns: 128, blocks: 2, f16: "attention_f16_128", bf16: "attention_bf16_128" },
    Variant { dim: 256, positions: 32, columns: 256, blocks: 2, f16: "attention_f16_256", bf16: "attention_bf16_256" },
    Variant {
        dim: 512,
        positions: 64,
        columns: 512,
        blocks: 1,
        f16: "attention_f16_512_large",
        bf16: "attention_bf16_512_large",
    },
    Variant { dim: 512, positions: 32, columns: 512, blocks: 1, f16: "attention_f16_512", bf16: "attention_bf16_512" },
    Variant {
        dim: 512,
        positions: 32,
        columns: 128,
        blocks: 1,
        f16: "attention_f16_512_small",
        bf16: "attention_bf16_512_small",
    },
];
/// Query vectors of a block there.
pub const TILE_VECTORS: usize = 64;
/// What the start of a block costs, and what its sums cost that go through memory, in positions. From counting: the sums of
/// 64 vectors are 64 * dim * 4 bytes out and in again, the products of 32 positions take as long as about a quarter of that.
const START: usize = 64;
const MERGE: usize = 128;
/// Most splits: attention_merge reads them one after the other.
const MOST_SPLITS: usize = 128;
/// What a block's shared memory takes beside what it asked for.
const SHARED_RESERVED: usize = 1024;

impl Variant {
    fn shared(&self) -> usize {
        let scores = 2 * TILE_VECTORS * (self.positions + 4) * 4;
        TILE_VECTORS * self.dim * 2 + 2 * self.positions * self.columns * 2 + scores + TILE_VECTORS * 4
    }
}

/// `attention_operands_*`: eight numbers per thread.
pub fn attention_operands(numbers: usize) -> Result<Grid> {
    per_element("attention_operands", numbers / 8, 256)
}

/// `attention_<type>_*`: `vectors` query vectors per K/V head, of which the widest-seeing block walks over `seen` positions,
/// on a device of `processors` with `shared` bytes for a block. `None`: heads that these kernels do not take.
///
/// The number of splits makes the longest processor's work least: waves of blocks, times what one of them does. It depends
/// on the shape and the device alone, so a run repeats bit by bit.
pub fn attention_tiles(
    vectors: usize,
    kv_heads: usize,
    dim: usize,
    seen: usize,
    (processors, shared): (usize, usize),
) -> Result<Option<AttentionTiles>> {
    let Some(variant) = variant(dim, shared) else { return Ok(None) };
    let waves = waves(&variant, vectors.div_ceil(TILE_VECTORS) * kv_heads, (processors, shared));
    let tiles = tiles_seen(&variant, seen);
    let each = std::array::from_fn(|i| tiles.div_ceil(i + 1));
    let splits = splits(&waves, &each, tiles, variant.positions);
    let blocks = [vectors.div_ceil(TILE_VECTORS), kv_heads, splits];
    let per_split = tiles.div_ceil(splits) * variant.positions;
    Ok(Some(AttentionTiles { variant, grid: grid("attention", blocks, 256, variant.shared())?, per_split }))
}

/// The best variant for heads of `dim` numbers and blocks of `shared` bytes, if one takes them.
fn variant(dim: usize, shared: usize) -> Option<Variant> {
    let fits = |v: &&Variant| dim <= v.dim && v.shared() <= shared;
    VARIANTS.iter().find(fits).filter(|_| dim.is_multiple_of(8)).copied()
}

/// Tiles of positions that a block which sees `seen` may touch: it begins at a multiple of its tile.
fn tiles_seen(variant: &Variant, seen: usize) -> usize {
    (seen + variant.positions - 1).div_ceil(variant.positions)
}

/// How often a processor begins a block, for 1, 2 and more splits of `blocks` blocks.
fn waves(variant: &Variant, blocks: usize, (processors, shared): (usize, usize)) -> [usize; MOST_SPLITS] {
    let per_processor = ((shared + SHARED_RESERVED) / (variant.shared() + SHARED_RESERVED)).clamp(1, variant.blocks);
    std::array::from_fn(|i| (blocks * (i + 1)).div_ceil(processors.max(1) * per_processor))
}

/// The splits that are not empty, for blocks that walk over `tiles` of `positions`; `each`: how many tiles there are in each of
/// 1, 2 and more splits.
fn splits(waves: &[usize; MOST_SPLITS], each: &[usize; MOST_SPLITS], tiles: usize, positions: usize) -> usize {
    let cost = |i: usize| waves[i] * (each[i] * positions + START + if i > 0 { MERGE } else { 0 });
    let least = (0..MOST_SPLITS).map(cost).min().unwrap_or(0);
    // The fewest within 3 % of the best: what splits leave takes memory.
    let fewest = (0..MOST_SPLITS).find(|&i| cost(i) <= least + least / 32).unwrap_or(MOST_SPLITS - 1);
    tiles.div_ceil(each[fewest])
}

/// The most splits of [`attention_tiles`] over up to `seen` positions; `None` as there. How many there are goes up and down
/// with the positions, so every number of tiles is tried.
pub fn most_tile_splits(
    vectors: usize,
    kv_heads: usize,
    dim: usize,
    seen: usize,
    device: (usize, usize),
) -> Option<usize> {
    let variant = variant(dim, device.1)?;
    let waves = waves(&variant, vectors.div_ceil(TILE_VECTORS) * kv_heads, device);
    let (mut each, mut left) = ([0; MOST_SPLITS], [0; MOST_SPLITS]); // ceil(tiles / (i + 1)) without a division
    let of = |tiles: usize| {
        for (i, (each, left)) in each.iter_mut().zip(&mut left).enumerate() {
            let full = *left == 0;
            (*each, *left) = (*each + usize::from(full), if full { i } else { *left - 1 });
        }
        splits(&waves, &each, tiles, variant.positions)
    };
    (1..=tiles_seen(&variant, seen.max(1))).map(of).max()
}

#[cfg(test)]
mod tests {
    use super::super::layout::LAYOUTS;
    use super::*;

    /// Shared memory of a block on the smallest devices (compute capability 8.6, 8.9, 12.0): 99 KiB.
    const LEAST_SHARED: u32 = 101_376;

    #[test]
    fn every_product_fits_the_smallest_device() {
        for layout in &LAYOUTS {
            for operand in [Operand::Int8, Operand::Bf16, Operand::Exact] {
                if !layout.quantized() && (operand == Operand::Int8 || operand == Operand::Bf16 && !layout.half()) {
                    continue; // F32 is always exact
                }
                let grid = experts(layout, operand, 2 * 704, 128).unwrap();
                assert_eq!(grid.blocks, [11, 128, 1]);
                assert!(grid.shared <= LEAST_SHARED, "{} {operand:?}: {}", layout.name, grid.shared);
            }
        }
    }

    #[test]
    fn the_real_head_is_one_grid() {
        let q4_k = LAYOUTS.iter().find(|l| l.name == "q4_k").unwrap();
        let grid = matmul(q4_k, Operand::Int8, 262_144, 512, 132).unwrap().1;
        assert_eq!(
            (grid.blocks, grid.threads, grid.shared),
            ([4096, 8, 1], 128, 4 * (5120 + 4 * 576) + 2 * (4 * 64 + 2048))
        );
        // 262,144 x 512 outputs are more than 2^27, but their places are counted in 64 bits.
        assert!(per_element("softcap", 262_144 * 512, 256).is_ok());
    }

    /// A canvas on an H100: 128 rows of the weight per block where that leaves no more processors idle than it saves.
    #[test]
    fn wide_products_are_those_with_enough_blocks() {
        let q4_k = LAYOUTS.iter().find(|l| l.name == "q4_k").unwrap();
        let cut =
            |n, rows| matmul(q4_k, Operand::Bf16, n, rows, 132).map(|(entry, grid)| (entry, grid.blocks)).unwrap();
        assert_eq!(cut(8192, 256), ("matmul_bf16_wide", [64, 4, 1])); // a chunk of the head
        assert_eq!(cut(4096, 256), ("matmul_bf16_wide", [32, 4, 1])); // queries of a sliding layer
        assert_eq!(cut(2816, 256), ("matmul_bf16_wide", [22, 4, 1])); // back to the hidden width: 176 blocks of 64 are two waves
        assert_eq!(cut(2048, 256), ("matmul_bf16", [32, 4, 1])); // keys of a sliding layer
        assert_eq!(cut(2112, 256), ("matmul_bf16", [33, 4, 1])); // dense gate: one wave of 64
        assert_eq!(cut(2816, 1), ("matmul_bf16", [44, 1, 1]));
        assert_eq!(matmul_pair(q4_k, 2112, 256).unwrap().blocks, [33, 4, 1]); // dense gate and up: one wave for both
    }

    #[test]
    fn packing_is_cut_into_pieces_of_256_columns() {
        // Q4_K and F32: 36 and 256 words of a row, at a pitch of 44 and 260.
        let grid = |records, k_tiles, piece| pack(records, k_tiles, piece).map(|grid| (grid.blocks[0], grid.shared));
        assert_eq!(grid(88, 44, 144).unwrap(), (88 * 11, 16 * 44 * 4));
        assert_eq!(grid(1, 1, 1024).unwrap(), (1, 16 * 260 * 4));
        assert_eq!(grid(3, 5, 210).unwrap(), (6, 16 * 60 * 4));
        assert_eq!(grid(MOST / 2, 5, 144).unwrap().0, MOST as u32 - 1);
        assert!(grid(MOST / 2 + 1, 5, 144).is_err() && grid(usize::MAX, 5, 144).is_err());
    }

    #[test]
    fn too_much_is_an_error_and_never_wraps() {
        let f32 = &LAYOUTS[0];
        assert!(matmul(f32, Operand::Exact, 64, 65_535 * 32, 132).is_ok());
        let error = matmul(f32, Operand::Exact, 64, 65_535 * 32 + 1, 132).unwrap_err().to_string();
        assert!(error.contains("matmul") && error.contains("65536"), "{error}");
        assert!(per_element("add", MOST * 256, 256).is_ok());
        assert!(per_element("add", MOST * 256 + 1, 256).is_err());
        assert!(experts(f32, Operand::Exact, 64, 65_536).is_err());
        assert!(sampler(8447, LEAST_SHARED as usize).is_ok());
        let error = sampler(8448, LEAST_SHARED as usize).unwrap_err().to_string();
        assert_eq!(error, "argument `backend`: a canvas of 8448 positions, this device takes 8447");
        assert_eq!(int(MOST, "rows").unwrap(), i32::MAX);
        assert!(int(MOST + 1, "rows").unwrap_err().to_string().contains("rows 2147483648"));
    }

    #[test]
    fn attention_splits_long_prefixes_only_where_blocks_are_few() {
        let real =
            |rows: usize, group: usize, kv_heads, dim, seen| attention(rows * group, kv_heads, dim, seen, 132).unwrap();
        // A canvas on a sliding layer fills the device by itself.
        let sliding = real(256, 2, 8, 256, 1279);
        assert_eq!((sliding.grid.blocks, sliding.per_split), ([32, 8, 2], 640));
        // On a full layer at 128k there are 256 blocks; two splits make them enough.
        let full = real(256, 8, 2, 512, 131_328);
        assert_eq!((full.grid.blocks, full.per_split), ([128, 2, 2], 65_664));
        assert!(full.grid.shared <= LEAST_SHARED, "{}", full.grid.shared);
        // One row over a long prefix: as many splits as allowed, none shorter than 256 positions.
        let row = real(1, 8, 2, 512, 262_144);
        assert_eq!((row.grid.blocks, row.per_split), ([1, 2, 64], 4096));
        assert_eq!(real(1, 8, 2, 512, 255).grid.blocks, [1, 2, 1]);
        for seen in 1..2000 {
            let cut = real(1, 1, 1, 64, seen);
            let splits = cut.grid.blocks[2] as usize;
            assert!(splits * cut.per_split >= seen && (splits - 1) * cut.per_split < seen, "{seen}: {cut:?}");
        }
        for (dim, good) in [(512, true), (516, false), (30, false), (24, true)] {
            assert_eq!(attention(16, 1, dim, 32, 1).is_ok(), good, "{dim}");
        }
    }
    /// (processors, shared memory of a block) of an H100, an A100 and an RTX 4090.
    const DEVICES: [(usize, usize); 3] = [(132, 232_448), (108, 166_912), (128, LEAST_SHARED as usize)];

    #[test]
    fn attention_tiles_fit_every_device() {
        for device in DEVICES {
            for dim in (8..=512).step_by(8) {
                let cut = attention_tiles(4096, 2, dim, 1279, device).unwrap().unwrap();
                assert!(cut.grid.shared as usize <= device.1 && cut.variant.dim >= dim, "{device:?}, {dim}: {cut:?}");
            }
        }
        let name = |dim, device| attention_tiles(4096, 2, dim, 1279, device).unwrap().unwrap().variant.f16;
        assert_eq!(DEVICES.map(|d| name(256, d)), ["attention_f16_256"; 3]);
        let wide = ["attention_f16_512_large", "attention_f16_512", "attention_f16_512_small"];
        assert_eq!(DEVICES.map(|d| name(512, d)), wide);
        for other in [12, 20, 520, 1024] {
            assert_eq!(attention_tiles(64, 1, other, 1279, DEVICES[0]).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn attention_tiles_cover_every_prefix() {
        let lengths = (1..600).chain([1279, 4095, 65_537, 131_328, 262_144]);
        for (seen, device) in lengths.flat_map(|seen| DEVICES.map(|d| (seen, d))) {
            for (vectors, kv_heads, dim) in [(512, 8, 256), (2048, 2, 512), (8, 2, 512), (4096, 2, 512)] {
                let cut = attention_tiles(vectors, kv_heads, dim, seen, device).unwrap().unwrap();
                let (splits, tile) = (cut.grid.blocks[2] as usize, cut.variant.positions);
                assert!(cut.per_split.is_multiple_of(tile), "{cut:?}");
                // Wherever in a tile the first position lies, the last split is reached, and no split is empty for all.
                assert!(splits * cut.per_split >= seen + tile - 1, "{seen}: {cut:?}");
                assert!((splits - 1) * cut.per_split < seen + tile - 1, "{seen}: {cut:?}");
            }
        }
    }

    /// The most splits are those of the length that has them, each length tried; and that is not the longest one, or not
    /// always, so a plan cannot ask for the longest alone.
    #[test]
    fn most_splits_are_those_of_some_length() {
        let mut fell = false;
        for (vectors, kv_heads, dim) in [(512, 8, 256), (2048, 2, 512), (8, 2, 512), (64, 1, 128)] {
            for device in DEVICES {
                let mut most = 0;
                for seen in 1..5000 {
                    let splits = attention_tiles(vectors, kv_heads, dim, seen, device).unwrap().unwrap().grid.blocks[2];
                    fell |= (splits as usize) < most;
                    most = most.max(splits as usize);
                    if seen % 97 == 0 || seen == 1 {
                        assert_eq!(most_tile_splits(vectors, kv_heads, dim, seen, device), Some(most), "{seen}");
                    }
                }
            }
        }
        assert!(fell, "splits never fell: the longest length would do");
        assert_eq!(most_tile_splits(64, 1, 12, 100, DEVICES[0]), None);
    }

    /// What the rule gives for the real shapes on an H100: a canvas, and a single row.
    #[test]
    fn attention_tiles_of_the_real_shapes() {
        let real = |rows: usize, group: usize, kv_heads, dim, seen| {
            let cut = attention_tiles(rows * group, kv_heads, dim, seen, DEVICES[0]).unwrap().unwrap();
            (cut.grid.blocks, cut.per_split)
        };
        assert_eq!(real(256, 2, 8, 256, 1279), ([8, 8, 4], 352));
        assert_eq!(real(256, 8, 2, 512, 1280), ([32, 2, 2], 704));
        assert_eq!(real(256, 8, 2, 512, 262_144), ([32, 2, 2], 131_136));
        assert_eq!(real(1, 8, 2, 512, 262_144), ([1, 2, 64], 4_160));
    }
}

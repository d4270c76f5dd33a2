//! How weights lie on the device: tiles of 16 rows x 64 columns, each a record in which every lane of a warp finds what
//! the tensor-core instructions want from it. Here are the sizes; `cuda/pack.cu` lays weights out, and `cuda/quant/` reads
//! them.

use crate::quant::Format;

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;
/// Columns of a tile.
pub const TILE_COLS: usize = 64;
/// Columns that share what stands behind the tiles of a row.
pub const PIECE_COLS: usize = 256;

/// One format on the device.
#[derive(Debug)]
pub struct Layout {
    /// The ggml id of the format.
    id: u32,
    /// Its name in `cuda/quant/` and in the names of kernels.
    pub name: &'static str,
    /// Bits of an element.
    bits: usize,
    /// Whether those are a float's.
    float: bool,
    /// Bytes of scales for a row of a tile.
    scale_bytes: usize,
    /// Bytes for each 256 columns of 16 rows, behind the tiles of the row.
    pub super_bytes: usize,
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

const fn floats(id: u32, name: &'static str, bits: usize) -> Layout {
    Layout { id, name, bits, float: true, scale_bytes: 0, super_bytes: 0 }
}

const fn blocks(id: u32, name: &'static str, bits: usize, scale_bytes: usize) -> Layout {
    Layout { id, name, bits, float: false, scale_bytes, super_bytes: 0 }
}

const fn k_blocks(id: u32, name: &'static str, bits: usize) -> Layout {
    Layout { super_bytes: 64, ..blocks(id, name, bits, 4) }
}

/// Every format that the kernels are compiled for.
pub static LAYOUTS: [Layout; 14] = [
    floats(0, "f32", 32),
    floats(1, "f16", 16),
    floats(30, "bf16", 16),
    blocks(8, "q8_0", 8, 4),
    k_blocks(14, "q6_k", 6),
    k_blocks(13, "q5_k", 5),
    blocks(7, "q5_1", 5, 8),
    blocks(6, "q5_0", 5, 4),
    k_blocks(12, "q4_k", 4),
    blocks(3, "q4_1", 4, 8),
    blocks(2, "q4_0", 4, 4),
    blocks(20, "iq4_nl", 4, 4),
    blocks(39, "mxfp4", 4, 2),
    blocks(40, "nvfp4", 4, 4),
];

/// The layout of a format, if the kernels know it.
pub fn layout(format: &Format) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|l| l.id == format.id)
}

impl Layout {
    /// Whether it has integers for products in integers.
    pub fn quantized(&self) -> bool {
        !self.float
    }

    /// Whether it is a float of 16 bits.
    pub fn half(&self) -> bool {
        self.float && self.bits == 16
    }

    /// Whether its minimums are integers times a number for 256 columns (Q4_K, Q5_K).
    pub fn integer_minimums(&self) -> bool {
        self.super_bytes > 0 && self.bits < 6
    }

    /// Bytes of a tile.
    pub fn tile_bytes(&self) -> usize {
        TILE_ROWS * (TILE_COLS * self.bits / 8 + self.scale_bytes)
    }

    /// Bytes of 16 rows of `tiles` tiles.
    pub fn row_tile_bytes(&self, tiles: usize) -> usize {
        tiles * self.tile_bytes() + tiles * TILE_COLS / PIECE_COLS * self.super_bytes
    }

    /// Bytes of `count` matrices of `rows` rows of `cols` columns.
    pub fn bytes(&self, cols: usize, rows: usize, count: usize) -> Option<usize> {
        let row_tiles = rows.div_ceil(TILE_ROWS).checked_mul(count)?;
        self.row_tile_bytes(cols.div_ceil(TILE_COLS)).checked_mul(row_tiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant;

    /// The sizes that the kernels have as constants (`TILE_BYTES`, `SUPER_BYTES` of cuda/quant/).
    #[test]
    fn sizes_are_those_of_the_kernels() {
        let all = LAYOUTS.iter().map(|l| (l.name, l.tile_bytes(), l.super_bytes));
        let want = [
            ("f32", 4096, 0),
            ("f16", 2048, 0),
            ("bf16", 2048, 0),
            ("q8_0", 1088, 0),
            ("q6_k", 832, 64),
            ("q5_k", 704, 64),
            ("q5_1", 768, 0),
            ("q5_0", 704, 0),
            ("q4_k", 576, 64),
            ("q4_1", 640, 0),
            ("q4_0", 576, 0),
            ("iq4_nl", 576, 0),
            ("mxfp4", 544, 0),
            ("nvfp4", 576, 0),
        ];
        assert_eq!(all.collect::<Vec<_>>(), want);
        assert!(LAYOUTS.iter().all(|l| l.tile_bytes().is_multiple_of(16)), "copies take 16 bytes at a time");
    }

    #[test]
    fn layouts_belong_to_their_formats() {
        for l in &LAYOUTS {
            assert!(quant::by_id(l.id).is_some_and(|f| f.name.eq_ignore_ascii_case(l.name)), "{}", l.name);
        }
    }

    /// What a byte more per weight would cost, per format: stored bits against those of the file.
    #[test]
    fn the_layout_adds_at_most_a_thirtieth() {
        for l in &LAYOUTS {
            let format = quant::by_id(l.id).unwrap();
            let (cols, rows) = (2816, 64);
            let file = format.row_bytes(cols).unwrap() * rows;
            let here = l.bytes(cols, rows, 1).unwrap();
            assert!(here >= file && here * 30 <= file * 31, "{}: {here} bytes, {file} in the file", l.name);
        }
    }
}

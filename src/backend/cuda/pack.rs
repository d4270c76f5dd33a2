//! How weights lie on the device: tiles of 16 rows x 64 columns, each a record in which every lane of a warp finds what
//! the tensor-core instructions want from it. `cuda/quant/codes.cuh` reads what this file writes; the two describe the
//! same bytes, and the tests compare every format.

use crate::quant::{Format, q4_k};

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;
/// Columns of a tile.
pub const TILE_COLS: usize = 64;
const LANES: usize = 32;

/// How elements are stored.
#[derive(Clone, Copy, Debug)]
enum Elements {
    /// As they are, of so many bytes.
    Floats(usize),
    /// Codes of 8 bits.
    Bytes,
    /// Codes of 4 bits, and so many bits more in a plane of their own.
    Nibbles(usize),
    /// Indices of 4 bits into a table of values; here the index of each code.
    Table(&'static [u8; 256]),
}

/// Writes a row's scales of a tile: (the row's blocks, which tile, to).
type Scales = fn(&[u8], usize, &mut [u8]);
/// Writes a row's numbers of 256 columns: (the block, to).
type Supers = fn(&[u8], &mut [u8]);

/// One format on the device.
#[derive(Debug)]
pub struct Layout {
    /// The ggml id of the format.
    id: u32,
    /// Its name in `cuda/quant/` and in the names of kernels.
    pub name: &'static str,
    elements: Elements,
    /// Bytes of scales for a row of a tile, and who writes them.
    scale_bytes: usize,
    scales: Scales,
    /// Bytes for each 256 columns of 16 rows, behind the tiles of the row, and who writes a row's.
    pub super_bytes: usize,
    supers: Supers,
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

const NO_SCALES: Scales = |_, _, _| ();
const NO_SUPERS: Supers = |_, _| ();

const fn floats(id: u32, name: &'static str, bytes: usize) -> Layout {
    let elements = Elements::Floats(bytes);
    Layout { id, name, elements, scale_bytes: 0, scales: NO_SCALES, super_bytes: 0, supers: NO_SUPERS }
}

const fn blocks(id: u32, name: &'static str, elements: Elements, scales: (usize, Scales)) -> Layout {
    Layout { id, name, elements, scale_bytes: scales.0, scales: scales.1, super_bytes: 0, supers: NO_SUPERS }
}

const fn k_blocks(id: u32, name: &'static str, high: usize, scales: Scales) -> Layout {
    let elements = Elements::Nibbles(high);
    let supers: Supers = if high == 2 { q6_k_super } else { |block, to| to.copy_from_slice(&block[..4]) };
    Layout { id, name, elements, scale_bytes: 4, scales, super_bytes: 64, supers }
}

/// Every format that the kernels are compiled for.
pub static LAYOUTS: [Layout; 14] = [
    floats(0, "f32", 4),
    floats(1, "f16", 2),
    floats(30, "bf16", 2),
    blocks(8, "q8_0", Elements::Bytes, (4, first_bytes::<34, 2>)),
    k_blocks(14, "q6_k", 2, q6_k_scales),
    k_blocks(13, "q5_k", 1, k_scales::<176>),
    blocks(7, "q5_1", Elements::Nibbles(1), (8, first_bytes::<24, 4>)),
    blocks(6, "q5_0", Elements::Nibbles(1), (4, first_bytes::<22, 2>)),
    k_blocks(12, "q4_k", 0, k_scales::<144>),
    blocks(3, "q4_1", Elements::Nibbles(0), (8, first_bytes::<20, 4>)),
    blocks(2, "q4_0", Elements::Nibbles(0), (4, first_bytes::<18, 2>)),
    blocks(20, "iq4_nl", Elements::Table(&IQ4_NL), (4, first_bytes::<18, 2>)),
    blocks(39, "mxfp4", Elements::Table(&E2M1), (2, first_bytes::<17, 1>)),
    blocks(40, "nvfp4", Elements::Table(&E2M1), (4, |row, tile, to| to.copy_from_slice(&row[tile * 36..][..4]))),
];

/// The layout of a format, if the kernels know it.
pub fn layout(format: &Format) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|l| l.id == format.id)
}

/// Scales at the start of blocks of 32 elements: `N` of `BYTES` bytes, of two blocks. The second is missing in the last tile
/// of an odd row.
fn first_bytes<const BYTES: usize, const N: usize>(row: &[u8], tile: usize, to: &mut [u8]) {
    for (block, to) in row.chunks_exact(BYTES).skip(2 * tile).zip(to.chunks_exact_mut(N)) {
        to.copy_from_slice(&block[..N]);
    }
}

/// Scales and minimums of Q4_K and Q5_K: (s, n) of two sub-blocks.
fn k_scales<const BYTES: usize>(row: &[u8], tile: usize, to: &mut [u8]) {
    let mut packed = [0; 12];
    packed.copy_from_slice(&row[tile / 4 * BYTES + 4..][..12]);
    let (s, n) = q4_k::scales(&packed);
    let k = tile % 4 * 2;
    to.copy_from_slice(&[s[k], n[k], s[k + 1], n[k + 1]]);
}

fn q6_k_scales(row: &[u8], tile: usize, to: &mut [u8]) {
    to.copy_from_slice(&row[tile / 4 * 210 + 192 + tile % 4 * 4..][..4]);
}

fn q6_k_super(block: &[u8], to: &mut [u8]) {
    to[..2].copy_from_slice(&block[208..210]);
}

/// For each code of a format with a table, as `Codes::unpack` gives it, its index.
const fn indices(values: [i8; 16], offset: i16) -> [u8; 256] {
    let mut of = [0; 256];
    let mut i = 16;
    while i > 0 {
        i -= 1; // downwards: of two zeros, the first counts
        of[(values[i] as i16 + offset) as usize] = i as u8;
    }
    of
}

static IQ4_NL: [u8; 256] = indices([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], 128);
static E2M1: [u8; 256] = indices([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], 12);

impl Layout {
    /// Whether it has integers for products in integers.
    pub fn quantized(&self) -> bool {
        !matches!(self.elements, Elements::Floats(_))
    }

    /// Whether it is a float of 16 bits.
    pub fn half(&self) -> bool {
        matches!(self.elements, Elements::Floats(2))
    }

    /// Bytes of a tile's elements.
    fn element_bytes(&self) -> usize {
        match self.elements {
            Elements::Floats(bytes) => TILE_ROWS * TILE_COLS * bytes,
            Elements::Bytes => TILE_ROWS * TILE_COLS,
            Elements::Nibbles(high) => TILE_ROWS * TILE_COLS * (4 + high) / 8,
            Elements::Table(_) => TILE_ROWS * TILE_COLS / 2,
        }
    }

    /// Bytes of a tile.
    pub fn tile_bytes(&self) -> usize {
        self.element_bytes() + TILE_ROWS * self.scale_bytes
    }

    /// Bytes of 16 rows of `tiles` tiles.
    pub fn row_tile_bytes(&self, tiles: usize) -> usize {
        tiles * self.tile_bytes() + tiles / 4 * self.super_bytes
    }

    /// Bytes of `count` matrices of `rows` rows of `cols` columns.
    pub fn bytes(&self, cols: usize, rows: usize, count: usize) -> Option<usize> {
        let row_tiles = rows.div_ceil(TILE_ROWS).checked_mul(count)?;
        self.row_tile_bytes(cols.div_ceil(TILE_COLS)).checked_mul(row_tiles)
    }

    /// Lays out up to 16 rows of `format`, `row_bytes` bytes of `cols` columns each, into zeroed `to`.
    pub fn pack(&self, format: &Format, rows: &[u8], row_bytes: usize, cols: usize, to: &mut [u8]) {
        let tiles = cols.div_ceil(TILE_COLS);
        let (records, supers) = to.split_at_mut(tiles * self.tile_bytes());
        let mut codes = vec![0; tiles * TILE_COLS];
        let (mut scales, mut mins) = (Vec::new(), Vec::new());
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            if let Some(of) = &format.codes {
                scales.resize(cols / of.group, 0.0);
                mins.resize(cols / of.group, 0.0);
                (of.unpack)(row, &mut codes[..cols], &mut scales, &mut mins);
            }
            for (tile, record) in records.chunks_exact_mut(self.tile_bytes()).enumerate() {
                let (elements, scales) = record.split_at_mut(self.element_bytes());
                match self.elements {
                    Elements::Floats(bytes) => pack_floats(row, bytes, r, tile, elements),
                    _ => self.pack_codes(&codes[tile * TILE_COLS..][..TILE_COLS], r, elements),
                }
                if self.scale_bytes > 0 {
                    (self.scales)(row, tile, &mut scales[r * self.scale_bytes..][..self.scale_bytes]);
                }
            }
            if self.super_bytes > 0 {
                for (block, to) in row.chunks_exact(format.block_bytes).zip(supers.chunks_exact_mut(self.super_bytes)) {
                    (self.supers)(block, &mut to[r * 4..][..4]);
                }
            }
        }
    }

    /// One row's codes of a tile; `to` is zero where nothing was put yet. Four columns at a time: they share a register, a
    /// byte each.
    fn pack_codes(&self, codes: &[u8], row: usize, to: &mut [u8]) {
        for (four, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            let (lane, r, _) = place(row, four * 4);
            let word = lane * 16 + (r / 4 * 2 + r % 2) * 4; // of nibbles
            let bits = u32::from_le_bytes(*codes);
            match self.elements {
                Elements::Bytes => put(to, r / 4 * 16 * LANES + lane * 16 + r % 4 * 4, bits ^ 0x8080_8080),
                Elements::Table(index) => {
                    let [a, b, c, d] = codes.map(|code| index[usize::from(code)]);
                    put(to, word, u32::from_le_bytes([a | (b << 4), c | (d << 4), 0, 0]) << (8 * (r & 2)));
                }
                Elements::Nibbles(high) => {
                    put(to, word, (bits & 0x0f0f_0f0f) << (2 * (r & 2)));
                    let above = 16 * LANES + lane * 4 * high;
                    match high {
                        1 => put(to, above, ((bits >> 4) & 0x0101_0101) << r),
                        2 => put(to, above + r / 4 * 4, ((bits >> 4) & 0x0303_0303) << (2 * (r % 4))),
                        _ => (),
                    }
                }
                Elements::Floats(_) => (),
            }
        }
    }
}

/// Adds bits to the four bytes at `at`, where they are zero yet.
fn put(to: &mut [u8], at: usize, bits: u32) {
    let mut four = [0; 4];
    four.copy_from_slice(&to[at..at + 4]);
    to[at..at + 4].copy_from_slice(&(u32::from_le_bytes(four) | bits).to_le_bytes());
}

/// Which lane has an element of a tile, in which of its eight registers, and where in it.
fn place(row: usize, col: usize) -> (usize, usize, usize) {
    (row % 8 * 4 + col % 16 / 4, col / 32 * 4 + col / 16 % 2 * 2 + row / 8, col % 4)
}

/// One row's elements of tile `tile`, of `bytes` bytes; four columns lie side by side.
fn pack_floats(row: &[u8], bytes: usize, r: usize, tile: usize, to: &mut [u8]) {
    let fours = row.chunks(4 * bytes).skip(tile * TILE_COLS / 4).take(TILE_COLS / 4);
    for (four, elements) in fours.enumerate() {
        let (lane, register, _) = place(r, four * 4);
        to[(register * LANES + lane) * 4 * bytes..][..elements.len()].copy_from_slice(elements);
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

    /// Each layout is of the format it is called after, and no element shares its place with another.
    #[test]
    fn layouts_belong_to_their_formats_and_elements_have_places_of_their_own() {
        for l in &LAYOUTS {
            assert!(quant::by_id(l.id).is_some_and(|f| f.name.eq_ignore_ascii_case(l.name)), "{}", l.name);
        }
        let mut taken = std::collections::HashSet::new();
        for row in 0..TILE_ROWS {
            for col in 0..TILE_COLS {
                let (lane, r, i) = place(row, col);
                assert!(lane < LANES && r < 8 && i < 4 && taken.insert((lane, r, i)), "row {row}, column {col}");
            }
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

    /// The same of floats: each lies where its place says, also in a row that ends within a tile.
    #[test]
    fn floats_are_put_where_each_belongs() {
        for bytes in [2, 4] {
            for cols in [64, 61, 3] {
                let row: Vec<u8> = (0..(TILE_COLS + cols) * bytes).map(|i| (i * 37 % 251) as u8 + 1).collect();
                let mut to = vec![0; TILE_ROWS * TILE_COLS * bytes];
                pack_floats(&row, bytes, 5, 1, &mut to);
                let mut want = vec![0; to.len()];
                for col in 0..cols {
                    let (lane, register, i) = place(5, col);
                    let at = ((register * LANES + lane) * 4 + i) * bytes;
                    want[at..at + bytes].copy_from_slice(&row[(TILE_COLS + col) * bytes..][..bytes]);
                }
                assert!(to == want, "{bytes} bytes, {cols} columns");
            }
        }
    }

    /// `pack_codes` by its definition, one element after the other.
    fn one_by_one(l: &Layout, codes: &[u8], row: usize, to: &mut [u8]) {
        for (col, &code) in codes.iter().enumerate() {
            let (lane, r, i) = place(row, col);
            let word = lane * 16 + (r / 4 * 2 + r % 2) * 4; // of nibbles
            match l.elements {
                Elements::Bytes => to[r / 4 * 16 * LANES + lane * 16 + r % 4 * 4 + i] = code ^ 128,
                Elements::Table(index) => {
                    to[word + (r & 2) + i / 2] |= index[usize::from(code)] << (4 * (i % 2));
                }
                Elements::Nibbles(high) => {
                    to[word + i] |= (code & 15) << (2 * (r & 2));
                    let above = 16 * LANES + lane * 4 * high;
                    match high {
                        1 => to[above + i] |= (code >> 4) << r,
                        2 => to[above + r / 4 * 4 + i] |= (code >> 4) << (2 * (r % 4)),
                        _ => (),
                    }
                }
                Elements::Floats(_) => (),
            }
        }
    }

    #[test]
    fn four_columns_at_a_time_are_put_where_each_belongs() {
        for l in LAYOUTS.iter().filter(|l| l.quantized()) {
            let codes = |row: usize| -> Vec<u8> {
                let code = |col: usize| (row * 67 + col * 29 + row * col % 11) as u8;
                (0..TILE_COLS)
                    .map(|col| match l.elements {
                        Elements::Nibbles(high) => code(col) & ((16 << high) - 1) as u8,
                        _ => code(col),
                    })
                    .collect()
            };
            let (mut got, mut want) = (vec![0; l.element_bytes()], vec![0; l.element_bytes()]);
            for row in 0..TILE_ROWS {
                l.pack_codes(&codes(row), row, &mut got);
                one_by_one(l, &codes(row), row, &mut want);
            }
            assert!(got == want, "{}", l.name);
        }
    }
}

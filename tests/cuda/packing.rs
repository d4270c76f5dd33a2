//! What `cuda/pack.cu` does, on the host and element by element: the reference that it is compared with. How a tile lies is
//! told in `cuda/quant/codes.cuh`.

use dgemma::quant::{Format, q4_k};

const ROWS: usize = 16;
const COLS: usize = 64;
const LANES: usize = 32;

/// How elements are stored.
#[derive(Clone, Copy)]
enum Elements {
    /// As they are, of so many bytes.
    Floats(usize),
    /// Codes of 8 bits, signed.
    Bytes,
    /// Codes of 4 bits, and so many bits more in a plane of their own.
    Nibbles(usize),
    /// Indices of 4 bits into these values, of which the first counts where two are the same.
    Table([i8; 16]),
}

/// Writes a row's scales of a tile: (the row's blocks, which tile, to).
type Scales = fn(&[u8], usize, &mut [u8]);

struct Rules {
    elements: Elements,
    /// Bytes of scales for a row of a tile, and who writes them.
    scales: (usize, Scales),
    /// Bytes of each block that stand for 256 columns of a row, of four; none in formats without such.
    supers: Option<std::ops::Range<usize>>,
}

const IQ4_NL: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn rules(name: &str) -> Rules {
    let floats = |bytes| Rules { elements: Elements::Floats(bytes), scales: (0, |_, _, _| ()), supers: None };
    let blocks = |elements, bytes, scales| Rules { elements, scales: (bytes, scales), supers: None };
    let k =
        |high, scales, supers| Rules { elements: Elements::Nibbles(high), scales: (4, scales), supers: Some(supers) };
    match name {
        "F32" => floats(4),
        "F16" | "BF16" => floats(2),
        "Q8_0" => blocks(Elements::Bytes, 4, first_bytes::<34, 2>),
        "Q6_K" => k(2, |row, tile, to| to.copy_from_slice(&row[tile / 4 * 210 + 192 + tile % 4 * 4..][..4]), 208..210),
        "Q5_K" => k(1, k_scales::<176>, 0..4),
        "Q5_1" => blocks(Elements::Nibbles(1), 8, first_bytes::<24, 4>),
        "Q5_0" => blocks(Elements::Nibbles(1), 4, first_bytes::<22, 2>),
        "Q4_K" => k(0, k_scales::<144>, 0..4),
        "Q4_1" => blocks(Elements::Nibbles(0), 8, first_bytes::<20, 4>),
        "Q4_0" => blocks(Elements::Nibbles(0), 4, first_bytes::<18, 2>),
        "IQ4_NL" => blocks(Elements::Table(IQ4_NL), 4, first_bytes::<18, 2>),
        "MXFP4" => blocks(Elements::Table(E2M1), 2, first_bytes::<17, 1>),
        "NVFP4" => blocks(Elements::Table(E2M1), 4, |row, tile, to| to.copy_from_slice(&row[tile * 36..][..4])),
        _ => panic!("{name} has no layout"),
    }
}

/// Scales at the start of blocks of 32 elements: `N` of `BYTES` bytes, of two blocks.
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

impl Rules {
    /// Bytes of a tile's elements.
    fn element_bytes(&self) -> usize {
        let bits = match self.elements {
            Elements::Floats(bytes) => 8 * bytes,
            Elements::Bytes => 8,
            Elements::Nibbles(high) => 4 + high,
            Elements::Table(_) => 4,
        };
        ROWS * COLS * bits / 8
    }

    /// Puts the element at (row, col) of a tile, which is zero there yet; `code`: as `Codes::unpack` gives it.
    fn put(&self, (row, col): (usize, usize), code: u8, offset: u8, tile: &mut [u8]) {
        let (lane, r, i) = place(row, col);
        let word = lane * 16 + (r / 4 * 2 + r % 2) * 4; // of nibbles
        let above = 16 * LANES;
        match self.elements {
            Elements::Floats(_) => (),
            Elements::Bytes => tile[r / 4 * above + lane * 16 + r % 4 * 4 + i] = code.wrapping_sub(offset),
            Elements::Table(values) => {
                let index =
                    values.iter().position(|&v| v == code.wrapping_sub(offset) as i8).expect("a value of the table");
                tile[word + (r & 2) + i / 2] |= (index as u8) << (i % 2 * 4);
            }
            Elements::Nibbles(high) => {
                tile[word + i] |= (code & 15) << (2 * (r & 2));
                match high {
                    1 => tile[above + lane * 4 + i] |= (code >> 4) << r,
                    2 => tile[above + lane * 8 + r / 4 * 4 + i] |= (code >> 4) << (2 * (r % 4)),
                    _ => (),
                }
            }
        }
    }
}

/// Which lane has an element of a tile, in which of its eight registers, and where in it.
fn place(row: usize, col: usize) -> (usize, usize, usize) {
    (row % 8 * 4 + col % 16 / 4, col / 32 * 4 + col / 16 % 2 * 2 + row / 8, col % 4)
}

/// `count` matrices of `rows` rows of `cols` columns of `format`, laid out. What the file does not have is a block of zeros.
pub fn pack(format: &Format, data: &[u8], cols: usize, rows: usize, count: usize) -> Vec<u8> {
    let row_bytes = format.row_bytes(cols).unwrap();
    let matrices = (0..count).map(|i| &data[i * rows * row_bytes..][..rows * row_bytes]);
    matrices.flat_map(|matrix| matrix.chunks(ROWS * row_bytes)).flat_map(|rows| record(format, rows, cols)).collect()
}

/// Up to 16 rows.
fn record(format: &Format, rows: &[u8], cols: usize) -> Vec<u8> {
    let (rules, tiles) = (rules(format.name), cols.div_ceil(COLS));
    let (elements, (scale_bytes, scales)) = (rules.element_bytes(), rules.scales);
    let tile_bytes = elements + ROWS * scale_bytes;
    let mut out = vec![0; tiles * tile_bytes + if rules.supers.is_some() { tiles / 4 * 64 } else { 0 }];
    let (records, supers) = out.split_at_mut(tiles * tile_bytes);
    for (r, row) in rows.chunks(format.row_bytes(cols).unwrap()).enumerate() {
        let mut whole = row.to_vec();
        whole.resize(format.row_bytes(tiles * COLS).unwrap(), 0);
        for (tile, record) in records.chunks_exact_mut(tile_bytes).enumerate() {
            let (to, to_scales) = record.split_at_mut(elements);
            if let Elements::Floats(bytes) = rules.elements {
                floats(&whole[tile * COLS * bytes..][..COLS * bytes], bytes, r, to);
            }
            if scale_bytes > 0 {
                scales(&whole, tile, &mut to_scales[r * scale_bytes..][..scale_bytes]);
            }
        }
        if let Some(codes) = &format.codes {
            let n = tiles * COLS;
            let mut unpacked = vec![0; n];
            (codes.unpack)(&whole, &mut unpacked, &mut vec![0.0; n / codes.group], &mut vec![0.0; n / codes.group]);
            // Only those that are stored signed, or as indices of values, lose what was added for the processor's sake.
            let offset = codes.offset.unwrap_or(0);
            for (col, &code) in unpacked.iter().enumerate() {
                rules.put((r, col % COLS), code, offset, &mut records[col / COLS * tile_bytes..][..elements]);
            }
        }
        if let Some(range) = &rules.supers {
            for (block, to) in row.chunks_exact(format.block_bytes).zip(supers.chunks_exact_mut(64)) {
                to[r * 4..][..range.len()].copy_from_slice(&block[range.clone()]);
            }
        }
    }
    out
}

fn floats(row: &[u8], bytes: usize, r: usize, tile: &mut [u8]) {
    for (col, element) in row.chunks_exact(bytes).enumerate() {
        let (lane, register, i) = place(r, col);
        tile[((register * LANES + lane) * 4 + i) * bytes..][..bytes].copy_from_slice(element);
    }
}

//! Products with two panels of weight rows at a time: what those in integers (`int8/mod.rs`) and in BF16 (`bf16/product.rs`)
//! have in common.

use super::ahead::Ahead;
use super::gemm::Rows;
use super::matmul::RowRange;

/// Weight rows of a panel: the 32-bit lanes of a 512-bit register.
pub const PANEL: usize = crate::quant::panel::ROWS;

/// The rows of x that a product is for.
#[derive(Clone, Copy)]
pub enum Which<'a> {
    /// This many, from that one on.
    From(usize, usize),
    /// These.
    These(&'a [u32]),
}

impl Which<'_> {
    pub fn len(self) -> usize {
        match self {
            Which::From(_, n) => n,
            Which::These(rows) => rows.len(),
        }
    }

    pub fn get(self, i: usize) -> usize {
        match self {
            Which::From(first, _) => first + i,
            Which::These(rows) => rows[i] as usize,
        }
    }
}

/// What a product is of, beside the panels.
pub struct Job<'a, X> {
    pub x: &'a X,
    pub rows: Which<'a>,
    /// Columns of out.
    pub width: usize,
    pub out: Rows<*mut f32>,
    /// Memory to ask for on the way.
    pub ahead: Ahead,
}

/// `rows` rows in groups of at most `most`, as few and as equal as can be: the first row and the number of each. Those of a small
/// group would wait for each other's sums.
#[cfg(target_arch = "x86_64")]
pub fn groups(rows: usize, most: usize) -> impl ExactSizeIterator<Item = (usize, usize)> {
    let (count, mut first) = (rows.div_ceil(most), 0);
    (0..count).map(move |i| {
        let n = (rows - first).div_ceil(count - i);
        first += n;
        (first - n, n)
    })
}

/// Fills one or two panels with the weight rows of `range` that come next and multiplies them, until there are no more. The
/// job's out is columns of `out`, as many as there are weight rows in the panels.
pub fn by_pairs<P, X>(
    panels: &mut [P; 2],
    range: RowRange,
    (x, rows): (&X, Which),
    out: Rows<*mut f32>,
    fill: impl Fn(&mut P, RowRange),
    product: impl Fn(&[P], &Job<X>),
) {
    for j in (0..range.n).step_by(2 * PANEL) {
        let width = (range.n - j).min(2 * PANEL);
        let count = width.div_ceil(PANEL);
        for (i, panel) in panels[..count].iter_mut().enumerate() {
            let (first, n) = (range.first + j + i * PANEL, (width - i * PANEL).min(PANEL));
            fill(panel, RowRange { first, n, ..range });
        }
        // What comes after this pair of panels: the next pair, or what the caller reads next.
        let ahead = Ahead::of(&range, j + 2 * PANEL, 2 * PANEL);
        let out = Rows { at: out.at.wrapping_add(j), ..out };
        product(&panels[..count], &Job { x, rows, width, out, ahead });
    }
}

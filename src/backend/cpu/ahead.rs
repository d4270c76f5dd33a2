//! Memory asked for before it is read. Kernels ask for it bit by bit beside their arithmetic: asked for while a panel is
//! unpacked, all at once, it comes no faster than memory can, and the arithmetic waits.

use super::matmul::RowRange;

/// Bytes that memory gives at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Memory that will be read soon; it need not exist.
#[derive(Clone, Copy)]
pub struct Ahead {
    pub at: *const u8,
    pub bytes: usize,
}

impl Ahead {
    /// `rows` weight rows from row `after` of `range` on, or what the caller reads after the range.
    pub fn of(range: &RowRange, after: usize, rows: usize) -> Ahead {
        let (next, row) = range.next;
        let at = if after < range.n { range.weight.address(range.first + after) } else { next.address(row) };
        Ahead { at, bytes: range.weight.stored_rows(range.first, 1).len() * rows }
    }
}

/// How a group of rows of x goes over the columns.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Walk {
    /// Of 32 columns.
    pub blocks: usize,
    /// Memory to ask for: so many cache lines with every block, `lines_left` in all.
    ahead: *const u8,
    lines: usize,
    lines_left: usize,
}

#[cfg(target_arch = "x86_64")]
impl Walk {
    /// Of the first of `groups` groups. All of them together ask for everything.
    pub fn new(ahead: Ahead, blocks: usize, groups: usize) -> Walk {
        let lines_left = ahead.bytes.div_ceil(CACHE_LINE);
        Walk { blocks, ahead: ahead.at, lines: lines_left.div_ceil(blocks * groups), lines_left }
    }

    /// Of the next group.
    pub fn next(self) -> Walk {
        let done = self.blocks * self.lines;
        let lines = if done < self.lines_left { self.lines } else { 0 };
        let ahead = self.ahead.wrapping_add(done * CACHE_LINE);
        Walk { ahead, lines, lines_left: self.lines_left.saturating_sub(done), ..self }
    }

    /// Asks for what goes with a block.
    #[inline(always)]
    pub fn prefetch(self, block: usize) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        for i in 0..self.lines {
            let at = self.ahead.wrapping_add((block * self.lines + i) * CACHE_LINE);
            // SAFETY: a hint about an address, whatever is there.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
        }
    }
}

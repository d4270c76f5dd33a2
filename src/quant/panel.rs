//! Sixteen rows taken apart at once, for products in integers: the packed bytes are transposed, 32 bits per row at a time,
//! before codes are split out of them, so that everything happens in whole registers. A format says how in `Panel`, once
//! for all instruction sets; `unpack` of its [`Codes`](super::Codes) is the truth that `conformance.rs` compares with.
//!
//! What comes out is what kernels read. For each 32 columns, as [`Line`]s with one word for each row:
//!
//! ```text
//! 8 lines      codes: four columns each
//! 1 or 2       F32 scales of the 32 columns, or of 16 and 16
//! 0, 1 or 2    F32 minimums, where the format has no offset
//! ```
//!
//! Kernels that would rather load a scale's product with 1, 1.25, 1.5 or 1.75 than multiply get these apart, four lines for
//! each scale ([`STEPS`]).

pub use super::words::Line;
use super::words::Words;
use crate::cpu_level::CpuLevel;
use std::marker::PhantomData;

/// Rows of a panel.
pub const ROWS: usize = 16;
/// Lines of the codes of 32 columns.
pub const CODE_LINES: usize = 8;

/// What scales are multiplied with for [`UnpackPanel`]'s `steps`: the numbers from 1 to 2 with two bits behind the point.
pub const STEPS: [f32; 4] = [1.0, 1.25, 1.5, 1.75];

/// Takes 16 rows of `src.len() / 16` bytes apart. `steps`, if it is not empty, has a place for each scale's product with each of
/// [`STEPS`]. Panics when the lengths do not match.
pub type UnpackPanel = fn(level: CpuLevel, src: &[u8], out: &mut [Line], steps: &mut [Line]);

/// How a format's blocks come apart, sixteen rows at once.
pub(super) trait Panel: Sized {
    /// Bytes of a block.
    const BYTES: usize;
    /// How many times 32 columns a block has.
    const RECORDS: usize;
    /// What these 32 columns become.
    const RECORD: Record;
    /// Lines that a block of sixteen rows becomes.
    const LINES: usize = Self::RECORDS * Self::RECORD.lines;

    /// `out` has [`Panel::LINES`] lines. Has to be `#[inline(always)]`.
    fn block<W: Words>(block: &Block<Self, W>, out: &mut [Line]);
}

/// The lines of 32 columns.
pub(super) struct Record {
    scales: usize,
    lines: usize,
}

impl Record {
    pub const ONE_SCALE: Record = Record { scales: 1, lines: 9 };
    pub const SCALE_AND_MIN: Record = Record { scales: 1, lines: 10 };
    pub const TWO_SCALES: Record = Record { scales: 2, lines: 10 };
    pub const TWO_SCALES_AND_MINS: Record = Record { scales: 2, lines: 12 };
}

/// One block of each of the sixteen rows.
pub(super) struct Block<'a, P, W> {
    first: *const u8,
    stride: usize,
    bytes: PhantomData<&'a [u8]>,
    of: PhantomData<(P, W)>,
}

impl<P: Panel, W: Words> Block<'_, P, W> {
    /// The four words from byte `AT` on.
    #[inline(always)]
    pub fn words<const AT: usize>(&self) -> [W; 4] {
        const { assert!(AT + 16 <= P::BYTES) };
        // SAFETY: as asserted, inside the block; `unpack` checked that the rows hold it.
        unsafe { W::rows(self.first.add(AT), self.stride) }
    }

    /// The four words from byte `at` on.
    #[inline(always)]
    pub fn words_at(&self, at: usize) -> [W; 4] {
        assert!(at + 16 <= P::BYTES);
        // SAFETY: as above.
        unsafe { W::rows(self.first.add(at), self.stride) }
    }

    /// The eight words from byte `at` on.
    #[inline(always)]
    pub fn words8_at(&self, at: usize) -> [W; 8] {
        assert!(at + 32 <= P::BYTES);
        // SAFETY: as above.
        unsafe { W::rows8(self.first.add(at), self.stride) }
    }

    /// The word at byte `AT` of each row.
    #[inline(always)]
    pub fn lanes<const AT: usize>(&self) -> [u32; ROWS] {
        const { assert!(AT + 4 <= P::BYTES) };
        let mut lanes = [0; ROWS];
        for (r, lane) in lanes.iter_mut().enumerate() {
            // SAFETY: as above.
            *lane = u32::from_le(unsafe { self.first.add(r * self.stride + AT).cast::<u32>().read_unaligned() });
        }
        lanes
    }

    /// The F16 number at byte `AT`.
    #[inline(always)]
    pub fn half<const AT: usize>(&self) -> W {
        const { assert!(AT + 2 <= P::BYTES) };
        // SAFETY: as above.
        let halves = unsafe { halves(self.first.add(AT), self.stride) };
        W::from_halves(halves)
    }
}

/// # Safety
/// Two bytes are readable at `at + r * stride` for r < 16.
#[inline(always)]
unsafe fn halves(at: *const u8, stride: usize) -> [u16; ROWS] {
    let mut halves = [0; ROWS];
    for (r, half) in halves.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *half = u16::from_le(unsafe { at.add(r * stride).cast::<u16>().read_unaligned() });
    }
    halves
}

/// The [`UnpackPanel`] of `P`.
pub(super) fn unpack<P: Panel>(level: CpuLevel, src: &[u8], out: &mut [Line], steps: &mut [Line]) {
    let stride = src.len() / ROWS;
    assert!(src.len().is_multiple_of(ROWS) && stride.is_multiple_of(P::BYTES), "not a whole number of blocks");
    let records = stride / P::BYTES * P::RECORDS;
    assert!(out.len() == records * P::RECORD.lines, "different numbers of blocks");
    assert!(steps.is_empty() || steps.len() == records * P::RECORD.scales * STEPS.len(), "different numbers of scales");
    #[cfg(target_arch = "x86_64")]
    match level {
        // SAFETY: the token proves the features.
        CpuLevel::Avx512(_) | CpuLevel::Avx512Vnni(_) => return unsafe { avx512::<P>(src, out, steps) },
        // SAFETY: the token proves the features.
        CpuLevel::Avx2(_) => return unsafe { avx2::<P>(src, out, steps) },
        CpuLevel::Scalar => {}
    }
    let _ = level;
    blocks::<P, [u32; 16]>(src, out, steps);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<P: Panel>(src: &[u8], out: &mut [Line], steps: &mut [Line]) {
    blocks::<P, super::words::x86::W512>(src, out, steps);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<P: Panel>(src: &[u8], out: &mut [Line], steps: &mut [Line]) {
    blocks::<P, super::words::x86::W256>(src, out, steps);
}

#[inline(always)]
fn blocks<P: Panel, W: Words>(src: &[u8], out: &mut [Line], steps: &mut [Line]) {
    let stride = src.len() / ROWS;
    let each = if steps.is_empty() { 0 } else { P::RECORDS * P::RECORD.scales * STEPS.len() };
    for (i, out) in out.chunks_exact_mut(P::LINES).enumerate() {
        P::block::<W>(&Block { first: src[i * P::BYTES..].as_ptr(), stride, bytes: PhantomData, of: PhantomData }, out);
        let steps = &mut steps[i * each..][..each];
        let scales = out.chunks_exact(P::RECORD.lines).flat_map(|record| &record[CODE_LINES..][..P::RECORD.scales]);
        for (scale, steps) in scales.zip(steps.as_chunks_mut().0) {
            multiples::<W>(W::from_lanes(scale.0), steps);
        }
    }
}

/// A scale's products with [`STEPS`].
#[inline(always)]
fn multiples<W: Words>(scale: W, out: &mut [Line; STEPS.len()]) {
    scale.store(&mut out[0]);
    for i in 1..STEPS.len() {
        scale.mul_f32(W::splat(STEPS[i].to_bits())).store(&mut out[i]);
    }
}

/// Asks for `bytes` bytes, which need not exist.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..bytes).step_by(64) {
        // SAFETY: a hint about an address, whatever is there.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.wrapping_add(offset).cast())
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}

/// Four nibbles per word: the low ones, then the high ones.
#[inline(always)]
pub(super) fn split_nibbles<W: Words>(x: W) -> (W, W) {
    let low = W::splat(0x0f0f_0f0f);
    (x.and(low), x.shr(4).and(low))
}

/// The codes of 32 columns whose nibbles, four words of them, are places in `table`.
#[inline(always)]
pub(super) fn look_up<W: Words>(words: &[W; 4], table: &[u8; 16], out: &mut [Line]) {
    for (k, &word) in words.iter().enumerate() {
        let (low, high) = split_nibbles(word);
        low.lookup(table).store(&mut out[k]);
        high.lookup(table).store(&mut out[k + 4]);
    }
}

/// Bit 4 of four codes from bits `at .. at + 4` of each word.
#[inline(always)]
pub(super) fn fifth_bits<W: Words>(x: W, at: u32) -> W {
    // Copies of the four bits at distances of 7 bring bit k to place 8 k.
    let copies = x.shr(at).and(W::splat(15)).mul(W::splat(1 | 1 << 7 | 1 << 14 | 1 << 21));
    copies.and(W::splat(0x0101_0101)).shl(4)
}

/// Six bits of each word, `at` being the lowest, as F32 numbers 32 smaller.
#[inline(always)]
pub(super) fn six_bits_less_32<W: Words>(x: W, at: u32) -> W {
    // With the highest bit flipped, six bits are that number in two's complement.
    x.xor(W::splat(32 << at)).shl(26 - at).sar(26).to_f32()
}

/// Changes the sign of F32 numbers.
#[inline(always)]
pub(super) fn negative<W: Words>(x: W) -> W {
    x.xor(W::splat(1 << 31))
}

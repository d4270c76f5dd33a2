//! Tensor formats. Each lives in a file of its own and ends in one [`Format`] descriptor; the loader, the quantizer, the
//! tests and the backends ask this registry and never name a format themselves.
//!
//! A row of a tensor is a whole number of *blocks*; a block holds `block` elements in `block_bytes` bytes. The codecs
//! here are the truth. They are plain Rust over arrays of fixed size, which the compiler vectorizes for each instruction
//! set that it meets ([`CpuLevel`]), with the same bits from all of them; decoding follows the operation order of ggml, so
//! that values agree with it to the last bit. `conformance.rs` runs one test body over all of them.
//!
//! Encoders come in two kinds. Where all tools share a fixed rule (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, MXFP4, NVFP4), it is
//! followed bit for bit. The others search for the scales that leave the smallest weighted error: `lanes.rs` holds the
//! data of a search, `scale.rs` searches scales, `scale_min.rs` scales with minimums.

pub mod bf16;
mod bound;
#[cfg(test)]
mod conformance;
pub mod f16;
pub mod f32;
pub mod iq4_nl;
pub mod iq4_xs;
mod lanes;
pub mod mxfp4;
pub mod nvfp4;
pub mod pairs;
pub mod panel;
mod plain;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
mod scale;
mod scale_min;
mod words;

use crate::cpu_level::CpuLevel;
pub use bound::{cut_off, error_bound, scaled_together};

/// Decodes whole blocks: `src.len() / block_bytes == dst.len() / block`, both without remainder. Panics otherwise.
pub type Decode = fn(src: &[u8], dst: &mut [f32]);

/// Encodes whole blocks, with the same rule for the lengths. Values that are not finite make no sense in formats with a
/// scale: such a block decodes to something, but not to what it was.
///
/// `importance`, if given, has one weight >= 0 for each element of `src`: how much an error there matters. Panics when the
/// lengths differ. The floats, Q8_0, MXFP4 and NVFP4 always follow their fixed rule and ignore it.
pub type Encode = fn(src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]);

/// How the elements of a format come apart into small integers under scales, for products in integers.
///
/// An element is `scale * (code - offset)`, or `scale * code - min` where there is no offset, as [`Format::decode`] gives it.
#[derive(Debug)]
pub struct Codes {
    /// Elements in a row that share a scale (and a minimum): 16 or 32.
    pub group: usize,
    /// What is taken off the codes.
    pub offset: Option<u8>,
    /// The largest code. Above 63, the offset is 128: kernels may take `code ^ 128` for a signed number.
    pub largest: u8,
    /// Takes whole blocks apart: the definition, which `panel` is compared with.
    pub unpack: Unpack,
    /// The same for sixteen rows at once, as products take them.
    pub panel: panel::UnpackPanel,
}

/// Takes whole blocks apart: a code per element, a scale (and, without an offset, a minimum) per group. Panics when the
/// lengths do not match.
pub type Unpack = fn(src: &[u8], codes: &mut [u8], scales: &mut [f32], mins: &mut [f32]);

/// One tensor format: its identity, its block geometry and its scalar codecs. Compare formats by `id`.
#[derive(Debug)]
pub struct Format {
    /// ggml's name, e.g. `Q4_K`.
    pub name: &'static str,
    /// ggml's type id, as stored in a tensor info entry.
    pub id: u32,
    /// Elements per block.
    pub block: usize,
    /// Bytes per block.
    pub block_bytes: usize,
    /// The decoder.
    pub decode: Decode,
    /// The encoder.
    pub encode: Encode,
    /// The integers in it; `None` for floats.
    pub codes: Option<Codes>,
    /// For floats of 16 bits: as BF16 numbers, in the order that dot products take.
    pub pairs: Option<pairs::UnpackPairs>,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Format {}

impl Format {
    /// Bytes of a row of `elements`, or `None` when that is not a whole number of blocks or overflows.
    pub fn row_bytes(&self, elements: usize) -> Option<usize> {
        (elements.is_multiple_of(self.block)).then(|| (elements / self.block).checked_mul(self.block_bytes))?
    }
}

/// Every format of the library.
pub static FORMATS: &[&Format] = &[
    &f32::F32,
    &f16::F16,
    &bf16::BF16,
    &q8_0::Q8_0,
    &q6_k::Q6_K,
    &q5_k::Q5_K,
    &q5_1::Q5_1,
    &q5_0::Q5_0,
    &q4_k::Q4_K,
    &q4_1::Q4_1,
    &q4_0::Q4_0,
    &iq4_xs::IQ4_XS,
    &iq4_nl::IQ4_NL,
    &nvfp4::NVFP4,
    &mxfp4::MXFP4,
    &q3_k::Q3_K,
    &q2_k::Q2_K,
];

/// The format with ggml's type id `id`.
pub fn by_id(id: u32) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.id == id)
}

/// The format called `name`, in either case.
pub fn by_name(name: &str) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.name.eq_ignore_ascii_case(name))
}

/// The level that codecs run at: the best one, found once. Tests choose.
#[inline]
fn level() -> CpuLevel {
    #[cfg(test)]
    if let Some(level) = conformance::FORCED.get() {
        return level;
    }
    static BEST: std::sync::OnceLock<CpuLevel> = std::sync::OnceLock::new();
    *BEST.get_or_init(CpuLevel::best)
}

/// Defines a codec that is compiled for every [`CpuLevel`] and runs at [`level`]. What its loops call has to be
/// `#[inline(always)]`, or it is compiled for the plainest processor.
macro_rules! codec {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $body:block) => {
        $(#[$meta])*
        fn $name($($arg: $ty),*) {
            $crate::cpu_level::leveled! { fn at($($arg: $ty),*) $body }
            at($crate::quant::level(), $($arg),*)
        }
    };
}
use codec;

/// Pairs the blocks of `src` with the elements of `dst`, for a decoder. Panics when they do not match.
#[inline(always)]
fn decoding<'a, const BYTES: usize, const BLOCK: usize>(
    src: &'a [u8],
    dst: &'a mut [f32],
) -> impl Iterator<Item = (&'a [u8; BYTES], &'a mut [f32; BLOCK])> {
    let (src, src_rest) = src.as_chunks();
    let (dst, dst_rest) = dst.as_chunks_mut();
    assert!(src_rest.is_empty() && dst_rest.is_empty(), "not a whole number of blocks");
    assert_eq!(src.len(), dst.len(), "different numbers of blocks");
    src.iter().zip(dst)
}

/// Pairs the blocks of `src` with the codes and scales they come apart into. Panics when they do not match.
#[inline(always)]
fn unpacking<'a, const BYTES: usize, const BLOCK: usize, const GROUPS: usize>(
    src: &'a [u8],
    codes: &'a mut [u8],
    scales: &'a mut [f32],
) -> impl Iterator<Item = (&'a [u8; BYTES], &'a mut [u8; BLOCK], &'a mut [f32; GROUPS])> {
    let (src, src_rest) = src.as_chunks();
    let (codes, codes_rest) = codes.as_chunks_mut();
    let (scales, scales_rest) = scales.as_chunks_mut();
    assert!(src_rest.is_empty() && codes_rest.is_empty() && scales_rest.is_empty(), "not a whole number of blocks");
    assert!(src.len() == codes.len() && src.len() == scales.len(), "different numbers of blocks");
    src.iter().zip(codes).zip(scales).map(|((src, codes), scales)| (src, codes, scales))
}

/// Pairs the elements of `src` with the blocks of `dst`, for an encoder. Panics when they do not match.
#[inline(always)]
fn encoding<'a, const BLOCK: usize, const BYTES: usize>(
    src: &'a [f32],
    dst: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; BLOCK], &'a mut [u8; BYTES])> {
    let (src, src_rest) = src.as_chunks();
    let (dst, dst_rest) = dst.as_chunks_mut();
    assert!(src_rest.is_empty() && dst_rest.is_empty(), "not a whole number of blocks");
    assert_eq!(src.len(), dst.len(), "different numbers of blocks");
    src.iter().zip(dst)
}

/// 16 low nibbles, then 16 high ones. The black box has no meaning but for speed: it keeps the compiler from unrolling a
/// decoder into one straight line, which it fails to vectorize (8 instead of 50 GB/s on AVX-512).
#[inline(always)]
fn nibbles(qs: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for j in 0..16 {
        codes[j] = qs[j] & 15;
        codes[j + 16] = qs[j] >> 4;
    }
    std::hint::black_box(codes)
}

/// The `N` bytes of a block from byte `AT`. That they lie inside is checked when this is compiled.
#[inline(always)]
fn field<const AT: usize, const N: usize, const BYTES: usize>(block: &[u8; BYTES]) -> &[u8; N] {
    const { assert!(AT + N <= BYTES) };
    let Some(bytes) = block[AT..].first_chunk() else { unreachable!() };
    bytes
}

/// The same for writing.
#[inline(always)]
fn field_mut<const AT: usize, const N: usize, const BYTES: usize>(block: &mut [u8; BYTES]) -> &mut [u8; N] {
    const { assert!(AT + N <= BYTES) };
    let Some(bytes) = block[AT..].first_chunk_mut() else { unreachable!() };
    bytes
}

/// The F16 number, usually a scale, at byte `AT` of a block.
#[inline(always)]
fn half<const AT: usize, const BYTES: usize>(block: &[u8; BYTES]) -> f32 {
    f16::to_f32(u16::from_le_bytes(*field::<AT, 2, BYTES>(block)))
}

/// Stores an F16 number at byte `AT` of a block.
#[inline(always)]
fn set_half<const AT: usize, const BYTES: usize>(block: &mut [u8; BYTES], x: f32) {
    *field_mut::<AT, 2, BYTES>(block) = f16::from_f32(x).to_le_bytes();
}

//! Sixteen rows side by side: a register of 32-bit words, one per row, for each instruction set. With it an unpacker is
//! written once (`panel.rs`).
//!
//! The types of the vector levels appear only inside functions that are compiled for their level, which is what makes the
//! intrinsics sound. Everything is `#[inline(always)]` for that reason, and nothing is a closure, which cannot be: an
//! intrinsic is inlined only where the function around it has been inlined into one compiled for its level.

use super::f16;

/// 64 bytes that a vector register takes in one load: one word for each of sixteen rows.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Line(pub [u32; 16]);

impl Line {
    /// The words as F32 numbers.
    pub fn floats(&self) -> [f32; 16] {
        self.0.map(f32::from_bits)
    }

    /// The words as four bytes each.
    pub fn bytes(&self) -> &[[u8; 4]; 16] {
        // SAFETY: 64 bytes either way, and any bytes are bytes.
        unsafe { &*(&raw const self.0).cast() }
    }
}

/// One word per row. Shifts are in bits; `*_f32` take the words as F32 numbers.
pub(super) trait Words: Copy {
    /// Four words from `at` on in each row: the transposed 16 bytes of 16 rows.
    ///
    /// # Safety
    /// 16 bytes are readable at `at + r * stride` for r < 16.
    unsafe fn rows(at: *const u8, stride: usize) -> [Self; 4];
    /// Eight words.
    ///
    /// # Safety
    /// 32 bytes are readable at `at + r * stride` for r < 16.
    #[inline(always)]
    unsafe fn rows8(at: *const u8, stride: usize) -> [Self; 8] {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe { (Self::rows(at, stride), Self::rows(at.add(16), stride)) };
        [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
    }
    fn from_lanes(x: [u32; 16]) -> Self;
    /// F16 numbers as F32 numbers.
    #[inline(always)]
    fn from_halves(x: [u16; 16]) -> Self {
        Self::from_lanes(x.map(|x| f16::to_f32(x).to_bits()))
    }
    fn splat(x: u32) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn shl(self, n: u32) -> Self;
    fn shr(self, n: u32) -> Self;
    /// Shifts signed numbers.
    fn sar(self, n: u32) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Each byte, 0..16, becomes that entry of the table.
    fn lookup(self, table: &[u8; 16]) -> Self;
    /// Signed numbers as F32 numbers.
    fn to_f32(self) -> Self;
    fn mul_f32(self, other: Self) -> Self;
    fn store(self, line: &mut Line);
}

impl Words for [u32; 16] {
    #[inline(always)]
    unsafe fn rows(at: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the caller's promise.
        let word = |k: usize, r: usize| unsafe { at.add(r * stride + 4 * k).cast::<u32>().read_unaligned() };
        std::array::from_fn(|k| std::array::from_fn(|r| u32::from_le(word(k, r))))
    }
    #[inline(always)]
    fn from_lanes(x: [u32; 16]) -> Self {
        x
    }
    #[inline(always)]
    fn splat(x: u32) -> Self {
        [x; 16]
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        std::array::from_fn(|r| self[r] & other[r])
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        std::array::from_fn(|r| self[r] | other[r])
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        std::array::from_fn(|r| self[r] ^ other[r])
    }
    #[inline(always)]
    fn shl(self, n: u32) -> Self {
        self.map(|x| x << n)
    }
    #[inline(always)]
    fn shr(self, n: u32) -> Self {
        self.map(|x| x >> n)
    }
    #[inline(always)]
    fn sar(self, n: u32) -> Self {
        self.map(|x| (x as i32 >> n) as u32)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|r| self[r].wrapping_mul(other[r]))
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16]) -> Self {
        self.map(|x| u32::from_le_bytes(x.to_le_bytes().map(|code| table[usize::from(code & 15)])))
    }
    #[inline(always)]
    fn to_f32(self) -> Self {
        self.map(|x| (x as i32 as f32).to_bits())
    }
    #[inline(always)]
    fn mul_f32(self, other: Self) -> Self {
        std::array::from_fn(|r| (f32::from_bits(self[r]) * f32::from_bits(other[r])).to_bits())
    }
    #[inline(always)]
    fn store(self, line: &mut Line) {
        *line = Line(self);
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{Line, Words};
    use std::arch::x86_64::*;

    /// A method of one intrinsic.
    macro_rules! op {
        ($name:ident($a:ident $(, $b:ident: $t:ty)*) -> $r:ty, $body:expr) => {
            #[inline(always)]
            fn $name($a $(, $b: $t)*) -> $r {
                // SAFETY: the type exists only in functions compiled for its level.
                unsafe { $body }
            }
        };
    }

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub struct W512(__m512i);

    impl Words for W512 {
        #[inline(always)]
        unsafe fn rows(at: *const u8, stride: usize) -> [Self; 4] {
            // SAFETY: the caller's promise, and as in `op`.
            unsafe {
                // Rows i, i + 4, i + 8, i + 12 in the quarters of a register; then a 4 x 4 transposition in each quarter.
                let mut z = [_mm512_setzero_si512(); 4];
                for (i, z) in z.iter_mut().enumerate() {
                    let at = at.add(i * stride);
                    let x = _mm512_castsi128_si512(_mm_loadu_si128(at.cast()));
                    let x = _mm512_inserti32x4::<1>(x, _mm_loadu_si128(at.add(4 * stride).cast()));
                    let x = _mm512_inserti32x4::<2>(x, _mm_loadu_si128(at.add(8 * stride).cast()));
                    *z = _mm512_inserti32x4::<3>(x, _mm_loadu_si128(at.add(12 * stride).cast()));
                }
                let (a, b) = (_mm512_unpacklo_epi32(z[0], z[1]), _mm512_unpackhi_epi32(z[0], z[1]));
                let (c, d) = (_mm512_unpacklo_epi32(z[2], z[3]), _mm512_unpackhi_epi32(z[2], z[3]));
                [
                    W512(_mm512_unpacklo_epi64(a, c)),
                    W512(_mm512_unpackhi_epi64(a, c)),
                    W512(_mm512_unpacklo_epi64(b, d)),
                    W512(_mm512_unpackhi_epi64(b, d)),
                ]
            }
        }
        #[inline(always)]
        unsafe fn rows8(at: *const u8, stride: usize) -> [Self; 8] {
            // SAFETY: the caller's promise, and as in `op`.
            unsafe {
                // Rows i and i + 4 of eight in the halves of a register: half the loads of twice `rows`.
                let mut r = [_mm512_setzero_si512(); 8];
                for (i, r) in r.iter_mut().enumerate() {
                    let low = at.add((i % 4 + i / 4 * 8) * stride);
                    let high = low.add(4 * stride);
                    let x = _mm512_castsi256_si512(_mm256_loadu_si256(low.cast()));
                    *r = _mm512_inserti64x4::<1>(x, _mm256_loadu_si256(high.cast()));
                }
                // Four rows at a time: words 0, 1, 2, 3 of each half row.
                let mut fours = [[_mm512_setzero_si512(); 4]; 2];
                for (f, four) in fours.iter_mut().enumerate() {
                    let r = [r[4 * f], r[4 * f + 1], r[4 * f + 2], r[4 * f + 3]];
                    let (a, b) = (_mm512_unpacklo_epi32(r[0], r[1]), _mm512_unpackhi_epi32(r[0], r[1]));
                    let (c, d) = (_mm512_unpacklo_epi32(r[2], r[3]), _mm512_unpackhi_epi32(r[2], r[3]));
                    *four = [
                        _mm512_unpacklo_epi64(a, c),
                        _mm512_unpackhi_epi64(a, c),
                        _mm512_unpacklo_epi64(b, d),
                        _mm512_unpackhi_epi64(b, d),
                    ];
                }
                // Quarters of `fours`: word k of rows 0 to 3, word k + 4 of them, word k of rows 4 to 7, word k + 4.
                let mut words = [W512(_mm512_setzero_si512()); 8];
                for k in 0..4 {
                    words[k] = W512(_mm512_shuffle_i64x2::<0b10_00_10_00>(fours[0][k], fours[1][k]));
                    words[k + 4] = W512(_mm512_shuffle_i64x2::<0b11_01_11_01>(fours[0][k], fours[1][k]));
                }
                words
            }
        }
        #[inline(always)]
        fn from_lanes(x: [u32; 16]) -> Self {
            // SAFETY: 64 bytes; as in `op`.
            unsafe { W512(_mm512_loadu_si512(x.as_ptr().cast())) }
        }
        #[inline(always)]
        fn from_halves(x: [u16; 16]) -> Self {
            // SAFETY: 32 bytes; as in `op`.
            unsafe { W512(_mm512_castps_si512(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))) }
        }
        #[inline(always)]
        fn splat(x: u32) -> Self {
            // SAFETY: as in `op`.
            unsafe { W512(_mm512_set1_epi32(x as i32)) }
        }
        op!(and(self, other: Self) -> Self, W512(_mm512_and_si512(self.0, other.0)));
        op!(or(self, other: Self) -> Self, W512(_mm512_or_si512(self.0, other.0)));
        op!(xor(self, other: Self) -> Self, W512(_mm512_xor_si512(self.0, other.0)));
        op!(shl(self, n: u32) -> Self, W512(_mm512_sll_epi32(self.0, _mm_cvtsi32_si128(n as i32))));
        op!(shr(self, n: u32) -> Self, W512(_mm512_srl_epi32(self.0, _mm_cvtsi32_si128(n as i32))));
        op!(sar(self, n: u32) -> Self, W512(_mm512_sra_epi32(self.0, _mm_cvtsi32_si128(n as i32))));
        op!(mul(self, other: Self) -> Self, W512(_mm512_mullo_epi32(self.0, other.0)));
        op!(lookup(self, table: &[u8; 16]) -> Self, {
            W512(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), self.0))
        });
        op!(to_f32(self) -> Self, W512(_mm512_castps_si512(_mm512_cvtepi32_ps(self.0))));
        op!(mul_f32(self, other: Self) -> Self, {
            W512(_mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(self.0), _mm512_castsi512_ps(other.0))))
        });
        op!(store(self, line: &mut Line) -> (), _mm512_store_si512(line.0.as_mut_ptr().cast(), self.0));
    }

    /// AVX2: rows 0 .. 7 and 8 .. 15.
    #[derive(Clone, Copy)]
    pub struct W256(__m256i, __m256i);

    /// Both halves.
    macro_rules! both {
        ($self:ident, $f:ident, $n:expr) => {
            W256($f($self.0, $n), $f($self.1, $n))
        };
        ($f:ident($self:ident, $other:ident)) => {
            W256($f($self.0, $other.0), $f($self.1, $other.1))
        };
    }

    /// Four words of eight rows.
    ///
    /// # Safety
    /// As [`Words::rows`], in a function compiled for AVX2.
    #[inline(always)]
    unsafe fn eight_rows(at: *const u8, stride: usize) -> [__m256i; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut y = [_mm256_setzero_si256(); 4];
            for (i, y) in y.iter_mut().enumerate() {
                let (low, high) = (at.add(i * stride), at.add((i + 4) * stride));
                let x = _mm256_castsi128_si256(_mm_loadu_si128(low.cast()));
                *y = _mm256_inserti128_si256::<1>(x, _mm_loadu_si128(high.cast()));
            }
            let (a, b) = (_mm256_unpacklo_epi32(y[0], y[1]), _mm256_unpackhi_epi32(y[0], y[1]));
            let (c, d) = (_mm256_unpacklo_epi32(y[2], y[3]), _mm256_unpackhi_epi32(y[2], y[3]));
            [
                _mm256_unpacklo_epi64(a, c),
                _mm256_unpackhi_epi64(a, c),
                _mm256_unpacklo_epi64(b, d),
                _mm256_unpackhi_epi64(b, d),
            ]
        }
    }

    impl Words for W256 {
        #[inline(always)]
        unsafe fn rows(at: *const u8, stride: usize) -> [Self; 4] {
            // SAFETY: the caller's promise, and as in `op`.
            unsafe {
                let (low, high) = (eight_rows(at, stride), eight_rows(at.add(8 * stride), stride));
                [W256(low[0], high[0]), W256(low[1], high[1]), W256(low[2], high[2]), W256(low[3], high[3])]
            }
        }
        #[inline(always)]
        fn from_lanes(x: [u32; 16]) -> Self {
            // SAFETY: 32 bytes each; as in `op`.
            unsafe { W256(_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x[8..].as_ptr().cast())) }
        }
        #[inline(always)]
        fn splat(x: u32) -> Self {
            // SAFETY: as in `op`.
            unsafe { W256(_mm256_set1_epi32(x as i32), _mm256_set1_epi32(x as i32)) }
        }
        op!(and(self, other: Self) -> Self, both!(_mm256_and_si256(self, other)));
        op!(or(self, other: Self) -> Self, both!(_mm256_or_si256(self, other)));
        op!(xor(self, other: Self) -> Self, both!(_mm256_xor_si256(self, other)));
        op!(shl(self, n: u32) -> Self, both!(self, _mm256_sll_epi32, _mm_cvtsi32_si128(n as i32)));
        op!(shr(self, n: u32) -> Self, both!(self, _mm256_srl_epi32, _mm_cvtsi32_si128(n as i32)));
        op!(sar(self, n: u32) -> Self, both!(self, _mm256_sra_epi32, _mm_cvtsi32_si128(n as i32)));
        op!(mul(self, other: Self) -> Self, both!(_mm256_mullo_epi32(self, other)));
        op!(lookup(self, table: &[u8; 16]) -> Self, {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            W256(_mm256_shuffle_epi8(table, self.0), _mm256_shuffle_epi8(table, self.1))
        });
        op!(to_f32(self) -> Self, {
            W256(_mm256_castps_si256(_mm256_cvtepi32_ps(self.0)), _mm256_castps_si256(_mm256_cvtepi32_ps(self.1)))
        });
        op!(mul_f32(self, other: Self) -> Self, {
            let low = _mm256_mul_ps(_mm256_castsi256_ps(self.0), _mm256_castsi256_ps(other.0));
            let high = _mm256_mul_ps(_mm256_castsi256_ps(self.1), _mm256_castsi256_ps(other.1));
            W256(_mm256_castps_si256(low), _mm256_castps_si256(high))
        });
        op!(store(self, line: &mut Line) -> (), {
            _mm256_store_si256(line.0.as_mut_ptr().cast(), self.0);
            _mm256_store_si256(line.0[8..].as_mut_ptr().cast(), self.1);
        });
    }
}

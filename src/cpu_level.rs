//! What this processor can do, as proof tokens: fast code takes a token, so holding one proves the feature, and the
//! `unsafe` of a `#[target_feature]` call needs one line of explanation. The choice is made once, when a backend is
//! built, and can be forced, so that every level is exercised on one machine.

/// Proof of AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof of AVX-512 F, BW, DQ and VL, and of AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

/// Proof of AVX-512 VNNI (8-bit dot products), and of everything before it; with the proof of BF16 where there is that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Vnni(Option<Avx512Bf16>);

/// Proof of AVX-512 BF16 (dot products of BF16 numbers). No level of its own: it belongs to the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Bf16(());

/// The instruction sets that the kernels distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuLevel {
    /// What every processor of the target has.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2(Avx2),
    /// x86-64 with AVX-512.
    Avx512(Avx512),
    /// x86-64 with AVX-512 and VNNI.
    Avx512Vnni(Avx512Vnni),
}

impl Avx2 {
    /// The token, where the processor and the system support it.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Some(Avx2(()));
        }
        None
    }
}

impl Avx512 {
    /// The token, where the processor and the system support it.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && Avx2::detect().is_some()
        {
            return Some(Avx512(()));
        }
        None
    }
}

impl Avx512Vnni {
    /// The token, where the processor and the system support it.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512vnni") && Avx512::detect().is_some() {
            return Some(Avx512Vnni(is_x86_feature_detected!("avx512bf16").then_some(Avx512Bf16(()))));
        }
        None
    }
}

impl CpuLevel {
    /// The token of BF16 dot products, where this level has them.
    pub fn bf16(self) -> Option<Avx512Bf16> {
        match self {
            CpuLevel::Avx512Vnni(Avx512Vnni(bf16)) => bf16,
            _ => None,
        }
    }

    /// Every level this processor has, the plainest first.
    pub fn available() -> Vec<CpuLevel> {
        let levels = [
            Some(CpuLevel::Scalar),
            Avx2::detect().map(CpuLevel::Avx2),
            Avx512::detect().map(CpuLevel::Avx512),
            Avx512Vnni::detect().map(CpuLevel::Avx512Vnni),
        ];
        levels.into_iter().flatten().collect()
    }

    /// The best level this processor has.
    pub fn best() -> CpuLevel {
        Self::available().pop().unwrap_or(CpuLevel::Scalar)
    }

    /// `scalar`, `avx2`, `avx512` or `avx512vnni`.
    pub fn name(self) -> &'static str {
        match self {
            CpuLevel::Scalar => "scalar",
            CpuLevel::Avx2(_) => "avx2",
            CpuLevel::Avx512(_) => "avx512",
            CpuLevel::Avx512Vnni(_) => "avx512vnni",
        }
    }
}

/// Compiles one function body for every level and picks by the first argument, a [`CpuLevel`]. The body is plain Rust
/// that the compiler vectorises; it contains no reassociated sums, so all levels compute the same bits.
macro_rules! leveled {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::cpu_level::CpuLevel, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match level {
                    $crate::cpu_level::CpuLevel::Scalar => body($($arg),*),
                    // SAFETY: the token proves the features.
                    $crate::cpu_level::CpuLevel::Avx2(_) => unsafe { avx2($($arg),*) },
                    // SAFETY: the token proves the features.
                    $crate::cpu_level::CpuLevel::Avx512(_) | $crate::cpu_level::CpuLevel::Avx512Vnni(_) => unsafe { avx512($($arg),*) },
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = level;
                body($($arg),*)
            }
        }
    };
}
pub(crate) use leveled;

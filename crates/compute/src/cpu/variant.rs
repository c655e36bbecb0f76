//! Which instructions the integer kernels use. All variants give the same bits.

/// Instructions of the integer kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// What every machine has: SIMD128 in a tab, the target's baseline natively.
    Portable,
    /// WebAssembly's relaxed dot products, summed in 16 bits.
    #[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
    Relaxed16,
    /// WebAssembly's relaxed dot products, summed in 32 bits.
    #[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
    Relaxed32,
    /// AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 VNNI with VL, at 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Variant {
    /// What this machine can run, the one that is expected to be fastest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut variants = Self::beyond_portable();
        variants.push(Self::Portable);
        variants
    }

    #[cfg(target_arch = "x86_64")]
    fn beyond_portable() -> Vec<Self> {
        let avx2 = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c");
        let vnni = std::arch::is_x86_feature_detected!("avx512vnni") && std::arch::is_x86_feature_detected!("avx512vl");
        match (avx2, vnni) {
            (true, true) => vec![Self::Avx512Vnni, Self::Avx2],
            (true, false) => vec![Self::Avx2],
            (false, _) => Vec::new(),
        }
    }

    #[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
    fn beyond_portable() -> Vec<Self> {
        vec![Self::Relaxed16, Self::Relaxed32]
    }

    #[cfg(not(any(target_arch = "x86_64", all(feature = "relaxed-simd", target_feature = "simd128"))))]
    fn beyond_portable() -> Vec<Self> {
        Vec::new()
    }

    /// The variants among which only a measurement can choose: browsers turn one relaxed instruction into one or
    /// into three, and do not tell.
    #[must_use]
    pub fn candidates() -> Vec<Self> {
        #[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
        return vec![Self::Relaxed16, Self::Relaxed32];
        #[cfg(not(all(feature = "relaxed-simd", target_feature = "simd128")))]
        return Self::available().into_iter().take(1).collect();
    }

    /// Short name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable SIMD",
            #[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
            Self::Relaxed16 => "relaxed SIMD (16-bit sums)",
            #[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
            Self::Relaxed32 => "relaxed SIMD (32-bit sums)",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "AVX-512 VNNI",
        }
    }
}

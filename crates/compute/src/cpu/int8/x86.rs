//! AVX2, and the dot products of AVX-512 VNNI at 256 bits: eight rows a register.
//!
//! `vpmaddubsw` and `vpdpbusd` multiply unsigned by signed bytes. Q4_0 gives the weights (0 to 15) as the unsigned
//! operand; Q8_0 the activations plus 128, which AVX2 takes in two halves, so that sums of a block fit 16 bits (eight
//! times 2 · 15 · 128 is 30720).

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_cvtepi16_epi32, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_dpbusd_epi32, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm256_sub_epi32,
};

use bytemuck::{Pod, Zeroable, cast, cast_ref};

use super::Kernel;
use super::activations::quantise;
use super::blocks::{Q4Block, Q8Block, ROWS};
use crate::stored::BLOCK;

/// Signed bytes, four columns a word.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
pub(super) struct Signed {
    words: [i32; 8],
    scale: f32,
    /// Eight times the sum of the quants.
    sum8: i32,
    padding: [u32; 2],
}

impl Signed {
    #[inline(always)]
    fn new(values: &[f32; BLOCK]) -> Self {
        let x = quantise(values);
        Self { words: cast(x.quants), scale: x.scale, sum8: 8 * x.sum, padding: [0; 2] }
    }
}

/// Quants plus 128, low and high halves apart.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
pub(super) struct Halves {
    low: [i32; 8],
    high: [i32; 8],
    scale: f32,
    padding: [u32; 3],
}

impl Halves {
    #[inline(always)]
    fn new(values: &[f32; BLOCK]) -> Self {
        let x = quantise(values);
        let above = x.quants.map(|q| q.cast_unsigned() ^ 0x80);
        Self { low: cast(above.map(|q| q & 15)), high: cast(above.map(|q| q >> 4)), scale: x.scale, padding: [0; 3] }
    }
}

/// Quants plus 128.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
pub(super) struct Above {
    words: [i32; 8],
    scale: f32,
    padding: [u32; 3],
}

impl Above {
    #[inline(always)]
    fn new(values: &[f32; BLOCK]) -> Self {
        let x = quantise(values);
        Self { words: cast(x.quants.map(|q| q.cast_unsigned() ^ 0x80)), scale: x.scale, padding: [0; 3] }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes; the load needs no alignment.
    #[allow(unsafe_code, reason = "vectors are loaded through pointers")]
    unsafe {
        _mm256_loadu_si256(bytes.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(bits: &[u16; ROWS]) -> __m256 {
    // SAFETY: the reference covers the 16 bytes; the load needs no alignment.
    #[allow(unsafe_code, reason = "vectors are loaded through pointers")]
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bits.as_ptr().cast()) })
}

/// The share of the 128 that was added to every activation.
#[inline]
#[target_feature(enable = "avx2")]
fn above(sums: &[i16; ROWS]) -> __m256i {
    // SAFETY: the reference covers the 16 bytes; the load needs no alignment.
    #[allow(unsafe_code, reason = "vectors are loaded through pointers")]
    _mm256_slli_epi32::<7>(_mm256_cvtepi16_epi32(unsafe { _mm_loadu_si128(sums.as_ptr().cast()) }))
}

#[inline]
#[target_feature(enable = "avx2")]
fn accumulate(result: __m256, sum: __m256i, scales: __m256, scale: f32) -> __m256 {
    let scale = _mm256_mul_ps(scales, _mm256_set1_ps(scale));
    _mm256_add_ps(result, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store<const T: usize>(results: [__m256; T]) -> [[f32; ROWS]; T] {
    let mut out = [[0.0; ROWS]; T];
    for (out, result) in out.iter_mut().zip(results) {
        // SAFETY: the reference covers the 32 bytes; the store needs no alignment.
        #[allow(unsafe_code, reason = "vectors are stored through pointers")]
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), result);
        }
    }
    out
}

/// The eight columns of two steps, low and high halves apart.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(q: &[u8; 32]) -> (__m256i, __m256i) {
    let (q, low) = (load(q), _mm256_set1_epi8(15));
    (_mm256_and_si256(q, low), _mm256_and_si256(_mm256_srli_epi16::<4>(q), low))
}

/// A kernel whose `dots` calls a function that needs features which [`Variant::available`] found.
///
/// [`Variant::available`]: crate::cpu::Variant::available
macro_rules! kernel {
    ($name:ident, $weights:ty, $activations:ty, $dots:ident) => {
        /// See the file's documentation.
        pub(in super::super) struct $name;

        impl Kernel for $name {
            type Weights = $weights;
            type Activations = $activations;
            const WIDEST: usize = 8;

            fn quantise(values: &[f32; BLOCK]) -> $activations {
                <$activations>::new(values)
            }

            #[inline(always)]
            fn dots<const T: usize>(w: &[$weights], x: &[[$activations; T]]) -> [[f32; ROWS]; T] {
                // SAFETY: a `Cpu` of this variant is made only where its features were detected.
                #[allow(unsafe_code, reason = "features are detected at run time")]
                unsafe {
                    $dots(w, x)
                }
            }
        }
    };
}

pub(super) mod avx2 {
    use super::*;

    kernel!(Q4, Q4Block, Signed, q4);
    kernel!(Q8, Q8Block, Halves, q8);

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        _mm256_add_epi16(sum, _mm256_maddubs_epi16(unsigned, signed))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn total(sum: __m256i) -> __m256i {
        _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn q4<const T: usize>(w: &[Q4Block], x: &[[Signed; T]]) -> [[f32; ROWS]; T] {
        let mut results = [_mm256_setzero_ps(); T];
        for (w, x) in w.iter().zip(x) {
            let mut sums = [_mm256_setzero_si256(); T];
            for (step, q) in cast_ref::<_, [[u8; 32]; 4]>(&w.quants).iter().enumerate() {
                let (a, b) = nibbles(q);
                for t in 0..T {
                    let words = &x[t].words;
                    sums[t] = add(sums[t], a, _mm256_set1_epi32(words[step]));
                    sums[t] = add(sums[t], b, _mm256_set1_epi32(words[4 + step]));
                }
            }
            let scales = scales(&w.scales);
            for t in 0..T {
                let x = &x[t];
                let sum = _mm256_sub_epi32(total(sums[t]), _mm256_set1_epi32(x.sum8));
                results[t] = accumulate(results[t], sum, scales, x.scale);
            }
        }
        store(results)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn q8<const T: usize>(w: &[Q8Block], x: &[[Halves; T]]) -> [[f32; ROWS]; T] {
        let mut results = [_mm256_setzero_ps(); T];
        for (w, x) in w.iter().zip(x) {
            let mut sums = [[_mm256_setzero_si256(); 2]; T];
            for (step, q) in cast_ref::<_, [[u8; 32]; 8]>(&w.quants).iter().enumerate() {
                let q = load(q);
                for t in 0..T {
                    let x = &x[t];
                    let [low, high] = &mut sums[t];
                    *low = add(*low, _mm256_set1_epi32(x.low[step]), q);
                    *high = add(*high, _mm256_set1_epi32(x.high[step]), q);
                }
            }
            let (scales, above) = (scales(&w.scales), above(&w.sums));
            for t in 0..T {
                let [low, high] = sums[t];
                let sum = _mm256_add_epi32(total(low), _mm256_slli_epi32::<4>(total(high)));
                results[t] = accumulate(results[t], _mm256_sub_epi32(sum, above), scales, x[t].scale);
            }
        }
        store(results)
    }
}

pub(super) mod vnni {
    use super::*;

    kernel!(Q4, Q4Block, Signed, q4);
    kernel!(Q8, Q8Block, Above, q8);

    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512vnni,avx512vl")]
    fn q4<const T: usize>(w: &[Q4Block], x: &[[Signed; T]]) -> [[f32; ROWS]; T] {
        let mut results = [_mm256_setzero_ps(); T];
        for (w, x) in w.iter().zip(x) {
            let mut sums = [_mm256_setzero_si256(); T];
            for (step, q) in cast_ref::<_, [[u8; 32]; 4]>(&w.quants).iter().enumerate() {
                let (a, b) = nibbles(q);
                for t in 0..T {
                    let words = &x[t].words;
                    sums[t] = _mm256_dpbusd_epi32(sums[t], a, _mm256_set1_epi32(words[step]));
                    sums[t] = _mm256_dpbusd_epi32(sums[t], b, _mm256_set1_epi32(words[4 + step]));
                }
            }
            let scales = scales(&w.scales);
            for t in 0..T {
                let x = &x[t];
                let sum = _mm256_sub_epi32(sums[t], _mm256_set1_epi32(x.sum8));
                results[t] = accumulate(results[t], sum, scales, x.scale);
            }
        }
        store(results)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512vnni,avx512vl")]
    fn q8<const T: usize>(w: &[Q8Block], x: &[[Above; T]]) -> [[f32; ROWS]; T] {
        let mut results = [_mm256_setzero_ps(); T];
        for (w, x) in w.iter().zip(x) {
            let mut sums = [_mm256_setzero_si256(); T];
            for (step, q) in cast_ref::<_, [[u8; 32]; 8]>(&w.quants).iter().enumerate() {
                let q = load(q);
                for t in 0..T {
                    sums[t] = _mm256_dpbusd_epi32(sums[t], _mm256_set1_epi32(x[t].words[step]), q);
                }
            }
            let (scales, above) = (scales(&w.scales), above(&w.sums));
            for t in 0..T {
                results[t] = accumulate(results[t], _mm256_sub_epi32(sums[t], above), scales, x[t].scale);
            }
        }
        store(results)
    }
}

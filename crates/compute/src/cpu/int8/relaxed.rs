//! WebAssembly's relaxed dot products, for engines that have them.
//!
//! `i16x8.relaxed_dot_i8x16_i7x16` is one instruction on every x86 since SSSE3; adding its pairs up in i16 for a whole
//! block and widening once beats the fused dot-and-add, which is three instructions there. With AVX-VNNI the fused
//! form is one instruction and wins. Both are exact, so which one runs is a matter of measurement only: `SHORT` sums in
//! i16. No pair of sums can overflow: eight times 2 · 15 · 128 is 30720.
//!
//! Defined alike by every implementation, because the operand called i7 never has its eighth bit set:
//! Q4_0 gives it the weights (0 to 15), Q8_0 the halves of the activations plus 128 (0 to 15 each).
//! Source: <https://github.com/WebAssembly/relaxed-simd/blob/main/proposals/relaxed-simd/Overview.md>.

use core::arch::wasm32::{
    f32x4_add, f32x4_convert_i32x4, f32x4_mul, f32x4_splat, i16x8_add, i16x8_relaxed_dot_i8x16_i7x16, i16x8_splat,
    i32x4_add, i32x4_dot_i16x8, i32x4_load_extend_i16x4, i32x4_relaxed_dot_i8x16_i7x16_add, i32x4_shl, i32x4_splat,
    i32x4_sub, u8x16_splat, u16x8_shr, v128, v128_and, v128_load, v128_load32_splat, v128_store,
};

use bytemuck::{Pod, Zeroable, cast, cast_ref};

use super::Kernel;
use super::activations::quantise;
use super::blocks::{Q4Block, Q8Block, ROWS};
use crate::stored::BLOCK;

#[inline(always)]
fn vector(bytes: &[u8; 16]) -> v128 {
    // SAFETY: the reference covers the 16 bytes; the load needs no alignment.
    #[allow(unsafe_code, reason = "vectors are loaded through pointers")]
    unsafe {
        v128_load(bytes.as_ptr().cast())
    }
}

#[inline(always)]
fn splat(word: &u32) -> v128 {
    // SAFETY: the reference covers the 4 bytes.
    #[allow(unsafe_code, reason = "vectors are loaded through pointers")]
    unsafe {
        v128_load32_splat(word)
    }
}

/// Four values of a half, sign-extended.
#[inline(always)]
fn extended(values: &[u16; ROWS], half: usize) -> v128 {
    let [low, high] = cast_ref::<[u16; ROWS], [[u16; 4]; 2]>(values);
    let four = if half == 0 { low } else { high };
    // SAFETY: the reference covers the 8 bytes; the load needs no alignment.
    #[allow(unsafe_code, reason = "vectors are loaded through pointers")]
    unsafe {
        i32x4_load_extend_i16x4(four.as_ptr().cast())
    }
}

/// As in `portable.rs`.
#[inline(always)]
fn scales(bits: &[u16; ROWS], half: usize) -> v128 {
    let shifted = v128_and(i32x4_shl(extended(bits, half), 13), i32x4_splat(0x8fff_ffff_u32.cast_signed()));
    f32x4_mul(shifted, f32x4_splat(f32::from_bits(0x7780_0000)))
}

/// Adds products: `signed` by `small`, whose bytes lie within 0 to 127.
#[inline]
#[target_feature(enable = "relaxed-simd")]
fn add<const SHORT: bool>(sum: v128, signed: v128, small: v128) -> v128 {
    if SHORT {
        i16x8_add(sum, i16x8_relaxed_dot_i8x16_i7x16(signed, small))
    } else {
        i32x4_relaxed_dot_i8x16_i7x16_add(signed, small, sum)
    }
}

/// The four sums.
#[inline(always)]
fn total<const SHORT: bool>(sum: v128) -> v128 {
    if SHORT { i32x4_dot_i16x8(sum, i16x8_splat(1)) } else { sum }
}

/// As in `portable.rs`.
#[inline(always)]
fn accumulate(result: v128, sum: v128, scales: v128, scale: f32) -> v128 {
    f32x4_add(result, f32x4_mul(f32x4_convert_i32x4(sum), f32x4_mul(scales, f32x4_splat(scale))))
}

#[inline(always)]
fn store(result: v128, out: &mut [f32; ROWS], half: usize) {
    let halves: &mut [[f32; 4]; 2] = bytemuck::cast_mut(out);
    // SAFETY: the reference covers the 16 bytes; the store needs no alignment.
    #[allow(unsafe_code, reason = "vectors are stored through pointers")]
    unsafe {
        v128_store(halves[half].as_mut_ptr().cast(), result);
    }
}

/// Signed bytes, four columns a word.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
pub(super) struct Signed {
    words: [u32; 8],
    scale: f32,
    /// Eight times the sum of the quants.
    sum8: i32,
    padding: [u32; 2],
}

/// Q4_0; `SHORT` sums in i16.
pub(super) struct Q4<const SHORT: bool>;

impl<const SHORT: bool> Kernel for Q4<SHORT> {
    type Weights = Q4Block;
    type Activations = Signed;
    const WIDEST: usize = 8;

    fn quantise(values: &[f32; BLOCK]) -> Signed {
        let x = quantise(values);
        Signed { words: cast(x.quants), scale: x.scale, sum8: 8 * x.sum, padding: [0; 2] }
    }

    #[inline(always)]
    fn dots<const T: usize>(w: &[Q4Block], x: &[[Signed; T]]) -> [[f32; ROWS]; T] {
        let mut out = [[0.0; ROWS]; T];
        if T > 2 {
            q4::<SHORT, T, 0, 1>(w, x, &mut out);
            q4::<SHORT, T, 1, 1>(w, x, &mut out);
        } else {
            q4::<SHORT, T, 0, 2>(w, x, &mut out);
        }
        out
    }
}

/// `COUNT` halves from `FIRST` on: one at a time for many rows, so that the sums stay in registers, and both at once
/// for few, so that they share the activations.
#[inline]
#[target_feature(enable = "relaxed-simd")]
fn q4<const SHORT: bool, const T: usize, const FIRST: usize, const COUNT: usize>(
    w: &[Q4Block],
    x: &[[Signed; T]],
    out: &mut [[f32; ROWS]; T],
) {
    let low = u8x16_splat(15);
    let mut results = [[f32x4_splat(0.0); T]; COUNT];
    for (w, x) in w.iter().zip(x) {
        let mut sums = [[i32x4_splat(0); T]; COUNT];
        for step in 0..4 {
            for (half, sums) in sums.iter_mut().enumerate() {
                let q = vector(&w.quants[2 * step + half + FIRST]);
                let (a, b) = (v128_and(q, low), v128_and(u16x8_shr(q, 4), low));
                for t in 0..T {
                    let x = &x[t];
                    sums[t] = add::<SHORT>(sums[t], splat(&x.words[step]), a);
                    sums[t] = add::<SHORT>(sums[t], splat(&x.words[4 + step]), b);
                }
            }
        }
        for (half, (results, sums)) in results.iter_mut().zip(sums).enumerate() {
            let scales = scales(&w.scales, half + FIRST);
            for t in 0..T {
                let x = &x[t];
                let sum = i32x4_sub(total::<SHORT>(sums[t]), i32x4_splat(x.sum8));
                results[t] = accumulate(results[t], sum, scales, x.scale);
            }
        }
    }
    for (half, results) in results.into_iter().enumerate() {
        for (result, out) in results.into_iter().zip(out.iter_mut()) {
            store(result, out, half + FIRST);
        }
    }
}

/// Quants plus 128, low and high halves apart.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
pub(super) struct Halves {
    low: [u32; 8],
    high: [u32; 8],
    scale: f32,
    padding: [u32; 3],
}

/// Q8_0; `SHORT` sums in i16.
pub(super) struct Q8<const SHORT: bool>;

impl<const SHORT: bool> Kernel for Q8<SHORT> {
    type Weights = Q8Block;
    type Activations = Halves;
    const WIDEST: usize = 4;

    fn quantise(values: &[f32; BLOCK]) -> Halves {
        let x = quantise(values);
        let above = x.quants.map(|q| q.cast_unsigned() ^ 0x80);
        Halves { low: cast(above.map(|q| q & 15)), high: cast(above.map(|q| q >> 4)), scale: x.scale, padding: [0; 3] }
    }

    #[inline(always)]
    fn dots<const T: usize>(w: &[Q8Block], x: &[[Halves; T]]) -> [[f32; ROWS]; T] {
        let mut out = [[0.0; ROWS]; T];
        if T > 2 {
            q8::<SHORT, T, 0, 1>(w, x, &mut out);
            q8::<SHORT, T, 1, 1>(w, x, &mut out);
        } else {
            q8::<SHORT, T, 0, 2>(w, x, &mut out);
        }
        out
    }
}

/// As [`q4`].
#[inline]
#[target_feature(enable = "relaxed-simd")]
fn q8<const SHORT: bool, const T: usize, const FIRST: usize, const COUNT: usize>(
    w: &[Q8Block],
    x: &[[Halves; T]],
    out: &mut [[f32; ROWS]; T],
) {
    let mut results = [[f32x4_splat(0.0); T]; COUNT];
    for (w, x) in w.iter().zip(x) {
        let mut sums = [[[i32x4_splat(0); 2]; T]; COUNT];
        for step in 0..8 {
            for (half, sums) in sums.iter_mut().enumerate() {
                let q = vector(cast_ref(&w.quants[2 * step + half + FIRST]));
                for t in 0..T {
                    let x = &x[t];
                    let [low, high] = &mut sums[t];
                    *low = add::<SHORT>(*low, q, splat(&x.low[step]));
                    *high = add::<SHORT>(*high, q, splat(&x.high[step]));
                }
            }
        }
        for (half, (results, sums)) in results.iter_mut().zip(sums).enumerate() {
            let scales = scales(&w.scales, half + FIRST);
            let above = i32x4_shl(extended(cast_ref(&w.sums), half + FIRST), 7);
            for t in 0..T {
                let [low, high] = sums[t];
                let sum = i32x4_add(total::<SHORT>(low), i32x4_shl(total::<SHORT>(high), 4));
                results[t] = accumulate(results[t], i32x4_sub(sum, above), scales, x[t].scale);
            }
        }
    }
    for (half, results) in results.into_iter().enumerate() {
        for (result, out) in results.into_iter().zip(out.iter_mut()) {
            store(result, out, half + FIRST);
        }
    }
}

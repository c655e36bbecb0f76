//! Products of i16, with `wide`: SIMD128 in a tab, SSE2 or NEON natively, plain arithmetic elsewhere.

use bytemuck::{Pod, Zeroable, cast};
use wide::{f32x4, i16x8, i32x4};

use super::Kernel;
use super::activations::quantise;
use super::blocks::{Q4Block, Q8Block, ROWS};
use crate::stored::BLOCK;

/// Activations as pairs of i16: of each four columns the pairs (0, 2) and (1, 3), because the even bytes of a vector
/// of weights and the odd ones widen with a shift each.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
pub(super) struct Pairs {
    even: [i32; 8],
    odd: [i32; 8],
    scale: f32,
    /// Eight times the sum of the quants.
    sum8: i32,
    padding: [u32; 2],
}

impl Pairs {
    #[inline(always)]
    fn new(values: &[f32; BLOCK]) -> Self {
        let x = quantise(values);
        let pair = |i: usize| cast::<[i16; 2], i32>([x.quants[i].into(), x.quants[i + 2].into()]);
        Self {
            even: std::array::from_fn(|step| pair(4 * step)),
            odd: std::array::from_fn(|step| pair(4 * step + 1)),
            scale: x.scale,
            sum8: 8 * x.sum,
            padding: [0; 2],
        }
    }
}

#[inline(always)]
fn splat(pair: i32) -> i16x8 {
    cast(i32x4::splat(pair))
}

/// The f16 scales of four rows. Shifted into place, the bits of a finite f16 are those of a f32 that is 2¹¹² times
/// too small.
#[inline(always)]
fn scales(bits: &[u16; ROWS], half: usize) -> f32x4 {
    let signed = |i: usize| i32::from(bits[4 * half + i].cast_signed());
    let bits = i32x4::new([signed(0), signed(1), signed(2), signed(3)]);
    let shifted = (bits << 13) & i32x4::splat(0x8fff_ffff_u32.cast_signed());
    cast::<i32x4, f32x4>(shifted) * f32x4::splat(f32::from_bits(0x7780_0000))
}

/// Adds a block's share to the results of four rows.
#[inline(always)]
fn add(result: &mut f32x4, sum: i32x4, scales: f32x4, scale: f32) {
    *result += f32x4::from_i32x4(sum) * (scales * f32x4::splat(scale));
}

#[inline(always)]
fn joined<const T: usize>(halves: [[f32x4; T]; 2]) -> [[f32; ROWS]; T] {
    std::array::from_fn(|t| cast(halves.map(|half| half[t].to_array())))
}

/// Q4_0.
pub(super) struct Q4;

impl Kernel for Q4 {
    type Weights = Q4Block;
    type Activations = Pairs;
    const WIDEST: usize = 4;

    fn quantise(values: &[f32; BLOCK]) -> Pairs {
        Pairs::new(values)
    }

    #[inline(always)]
    fn dots<const T: usize>(w: &[Q4Block], x: &[[Pairs; T]]) -> [[f32; ROWS]; T] {
        let low = i16x8::splat(15);
        let mut results = [[f32x4::ZERO; T]; 2];
        for (w, x) in w.iter().zip(x) {
            for (half, results) in results.iter_mut().enumerate() {
                let mut sums = [i32x4::splat(0); T];
                for step in 0..4 {
                    let q: i16x8 = cast(w.quants[2 * step + half]);
                    let [a, b, c, d]: [i16x8; 4] = [q & low, (q >> 8) & low, (q >> 4) & low, (q >> 12) & low];
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum += (a.dot(splat(x.even[step])) + b.dot(splat(x.odd[step])))
                            + (c.dot(splat(x.even[4 + step])) + d.dot(splat(x.odd[4 + step])));
                    }
                }
                let scales = scales(&w.scales, half);
                for t in 0..T {
                    let x = &x[t];
                    add(&mut results[t], sums[t] - i32x4::splat(x.sum8), scales, x.scale);
                }
            }
        }
        joined(results)
    }
}

/// Q8_0.
pub(super) struct Q8;

impl Kernel for Q8 {
    type Weights = Q8Block;
    type Activations = Pairs;
    const WIDEST: usize = 4;

    fn quantise(values: &[f32; BLOCK]) -> Pairs {
        Pairs::new(values)
    }

    #[inline(always)]
    fn dots<const T: usize>(w: &[Q8Block], x: &[[Pairs; T]]) -> [[f32; ROWS]; T] {
        let mut results = [[f32x4::ZERO; T]; 2];
        for (w, x) in w.iter().zip(x) {
            for (half, results) in results.iter_mut().enumerate() {
                let mut sums = [i32x4::splat(0); T];
                for step in 0..8 {
                    let q: i16x8 = cast(w.quants[2 * step + half]);
                    let [a, b]: [i16x8; 2] = [(q << 8) >> 8, q >> 8];
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum += a.dot(splat(x.even[step])) + b.dot(splat(x.odd[step]));
                    }
                }
                let scales = scales(&w.scales, half);
                for t in 0..T {
                    add(&mut results[t], sums[t], scales, x[t].scale);
                }
            }
        }
        joined(results)
    }
}

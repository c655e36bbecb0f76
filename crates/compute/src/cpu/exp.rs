//! `e^x` of four lanes, the same bits everywhere.

use bytemuck::cast;
use wide::{f32x4, i32x4};

/// From here on the result is infinite.
const MOST: f32 = 88.722_84;
/// From here on down the result would be subnormal and is 0.
const LEAST: f32 = -87.336_54;

/// `e^x`, off by at most 2 units in the last place; NaN gives NaN.
///
/// With `n` the integer next to `x / ln 2` it is `2^n e^r`, where `r = x - n ln 2` lies within ±0.35 and `ln 2` is
/// split so that the first product is exact; `e^r` is a polynomial whose coefficients minimise the relative error there.
/// Source of method and coefficients: Cephes `expf`, <https://www.netlib.org/cephes/>.
#[inline(always)]
pub(super) fn exp(x: f32x4) -> f32x4 {
    const SHIFT: f32 = 12_582_912.0;
    let clamped = x.simd_lt(f32x4::splat(LEAST)).bitselect(f32x4::splat(LEAST), x);
    let clamped = clamped.simd_gt(f32x4::splat(MOST)).bitselect(f32x4::splat(MOST), clamped);
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits.
    let shifted = clamped * f32x4::splat(std::f32::consts::LOG2_E) + f32x4::splat(SHIFT);
    let n = shifted - f32x4::splat(SHIFT);
    let r = clamped - n * f32x4::splat(355.0 / 512.0);
    let r = r - n * f32x4::splat(-2.121_944_4e-4);
    let mut p = f32x4::splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + f32x4::splat(coefficient);
    }
    let p = p * (r * r) + r + f32x4::ONE;
    // 2^n in two factors, because 2^128 alone has no bits.
    let n = cast::<f32x4, i32x4>(shifted) - i32x4::splat(SHIFT.to_bits().cast_signed());
    let half = n >> 1;
    let power = |n: i32x4| cast::<i32x4, f32x4>((n + i32x4::splat(127)) << 23);
    let result = p * power(half) * power(n - half);
    let result = x.simd_lt(f32x4::splat(LEAST)).bitselect(f32x4::ZERO, result);
    let result = x.simd_gt(f32x4::splat(MOST)).bitselect(f32x4::splat(f32::INFINITY), result);
    x.simd_eq(x).bitselect(result, x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(x: f32) -> f32 {
        exp(f32x4::splat(x)).to_array()[0]
    }

    #[test]
    fn it_is_close_to_the_exact_value() {
        for i in -87_300..=88_700 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(one(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "e^{x} is off by {error:e}");
        }
    }

    #[test]
    fn edges() {
        assert_eq!([one(0.0), one(-0.0), one(-1e4), one(f32::NEG_INFINITY)], [1.0, 1.0, 0.0, 0.0]);
        assert_eq!([one(89.0), one(f32::INFINITY)], [f32::INFINITY; 2]);
        assert!(one(f32::NAN).is_nan());
    }
}

//! Activations in 8 bits: the other operand of the integer kernels.

use crate::stored::BLOCK;

/// Blocks whose largest magnitude lies below this are zero. Their inverse scale could overflow, and no product with
/// them would leave the subnormal range, where processors are slow.
const LEAST: f32 = 7.888_609e-31;

/// 32 activations: `scale * quants`, quants within ±127.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantised {
    pub(super) scale: f32,
    pub(super) quants: [i8; BLOCK],
    pub(super) sum: i32,
}

/// `scale = max|x| / 127`, `q = x * (127 / max|x|)` rounded to the nearest, ties to even. A block that holds a value
/// that is not finite has the scale NaN, so that every result that depends on it is NaN.
///
/// The same operations in the same order everywhere, so the same bits.
#[inline(always)]
pub(super) fn quantise(values: &[f32; BLOCK]) -> Quantised {
    // Magnitudes compare like their bits, and a NaN's bits are above all others.
    let largest = f32::from_bits(values.iter().fold(0, |most, v| most.max(v.to_bits() & 0x7fff_ffff)));
    if !largest.is_finite() {
        return Quantised { scale: f32::NAN, quants: [0; BLOCK], sum: 0 };
    }
    if largest < LEAST {
        return Quantised { scale: 0.0, quants: [0; BLOCK], sum: 0 };
    }
    let inverse = 127.0 / largest;
    let words = values.map(|v| rounded(v * inverse));
    #[allow(clippy::cast_possible_truncation, reason = "within ±127")]
    let quants = words.map(|q| q as i8);
    Quantised { scale: largest / 127.0, quants, sum: words.iter().sum() }
}

/// The nearest integer, ties to even, of a value within ±2²²: adding 1.5 · 2²³ leaves no bits behind the point.
#[inline(always)]
fn rounded(value: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_the_documented_one() {
        let mut values = [0.0; BLOCK];
        values[..6].copy_from_slice(&[127.0, -127.0, 0.5, 1.5, -2.5, 63.6]);
        let block = quantise(&values);
        assert_eq!(block.scale, 1.0);
        assert_eq!(block.quants[..7], [127, -127, 0, 2, -2, 64, 0]);
        assert_eq!(block.sum, 64);
    }

    #[test]
    fn edges_are_harmless() {
        let zero = Quantised { scale: 0.0, quants: [0; BLOCK], sum: 0 };
        assert_eq!(quantise(&[0.0; BLOCK]), zero);
        assert_eq!(quantise(&[1e-40; BLOCK]), zero);
        assert_eq!(quantise(&[1e-30; BLOCK]).quants, [127; BLOCK]);
        assert_eq!(quantise(&[-f32::MAX; BLOCK]).quants, [-127; BLOCK]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; BLOCK];
            values[7] = bad;
            assert!(quantise(&values).scale.is_nan());
        }
    }
}

//! Dot products of f32: weights that are kept so, and attention. `int8` has those of quantised weights.
//!
//! # Reduction order
//!
//! A product of `n` elements is cut into chunks of 16, the last one padded with zeros. With `x_s` and `w_s`
//! the four-lane vectors of a chunk, each chunk adds `(x_0 w_0 + x_1 w_1) + (x_2 w_2 + x_3 w_3)` to one
//! four-lane accumulator, in order; at the end its lanes `a` give `(a_0 + a_2) + (a_1 + a_3)`. No product is
//! fused with its sum. The order depends on `n` alone, so a row gives the same bits whatever it is computed
//! with, and the same natively and in a browser.

use wide::f32x4;

/// Elements of a chunk.
pub(super) const CHUNK: usize = 16;

type Chunk = [f32x4; 4];

/// A row of f32.
#[derive(Clone, Copy)]
pub(super) struct F32Row<'a>(pub(super) &'a [f32]);

impl F32Row<'_> {
    /// Chunk `index` of the whole ones.
    #[inline(always)]
    fn chunk(self, index: usize) -> Chunk {
        load(&self.0.as_chunks::<CHUNK>().0[index])
    }

    /// The elements after the last whole chunk, padded with zeros.
    fn tail(self) -> Chunk {
        let rest = self.0.as_chunks::<CHUNK>().1;
        let mut padded = [0.0; CHUNK];
        padded[..rest.len()].copy_from_slice(rest);
        load(&padded)
    }
}

#[inline(always)]
fn load(values: &[f32; CHUNK]) -> Chunk {
    let [a, b, c, d] = values.as_chunks::<4>().0 else { return [f32x4::ZERO; 4] };
    [f32x4::new(*a), f32x4::new(*b), f32x4::new(*c), f32x4::new(*d)]
}

/// `T` rows of `x` times one row of weights: the weights are loaded once for all of them.
#[inline(always)]
pub(super) fn dots<const T: usize>(x: [F32Row<'_>; T], w: F32Row<'_>) -> [f32; T] {
    let length = x[0].0.len();
    let mut sums = [f32x4::ZERO; T];
    for chunk in 0..length / CHUNK {
        let weights = w.chunk(chunk);
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += product(x.chunk(chunk), weights);
        }
    }
    if !length.is_multiple_of(CHUNK) {
        let weights = w.tail();
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += product(x.tail(), weights);
        }
    }
    sums.map(|sum| {
        let [a, b, c, d] = sum.to_array();
        (a + c) + (b + d)
    })
}

#[inline(always)]
fn product(x: Chunk, w: Chunk) -> f32x4 {
    (x[0] * w[0] + x[1] * w[1]) + (x[2] * w[2] + x[3] * w[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(x: &[f32], y: &[f32]) -> f32 {
        let [sum] = dots([F32Row(x)], F32Row(y));
        sum
    }

    /// The documented order, element by element.
    fn in_order(x: &[f32], y: &[f32]) -> f32 {
        let mut lanes = [0.0_f32; 4];
        for (x, y) in x.chunks(CHUNK).zip(y.chunks(CHUNK)) {
            let product = |i: usize| if i < x.len() { x[i] * y[i] } else { 0.0 };
            for (l, lane) in lanes.iter_mut().enumerate() {
                *lane += (product(l) + product(4 + l)) + (product(8 + l) + product(12 + l));
            }
        }
        (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    }

    #[test]
    fn the_order_is_the_documented_one() {
        let value = |i: usize| ((i * 7919 % 1000) as f32 - 500.0) / 7.0;
        for length in [1, 3, 4, 15, 16, 17, 64, 100, 1000] {
            let x: Vec<f32> = (0..length).map(value).collect();
            let y: Vec<f32> = (0..length).map(|i| value(i + 13) / 3.0).collect();
            assert_eq!(dot(&x, &y).to_bits(), in_order(&x, &y).to_bits(), "{length}");
        }
    }
}

//! Dot products: the one place where this back end sums f32 products.
//!
//! # Reduction order
//!
//! A product of `n` elements is cut into chunks of 16, the last one padded with zeros. With `x_s` and `w_s`
//! the four-lane vectors of a chunk, each chunk adds `(x_0 w_0 + x_1 w_1) + (x_2 w_2 + x_3 w_3)` to one
//! four-lane accumulator, in order; at the end its lanes `a` give `(a_0 + a_2) + (a_1 + a_3)`. No product is
//! fused with its sum. The order depends on `n` alone, so a row gives the same bits whatever it is computed
//! with, and the same natively and in a browser.
//!
//! A quantised element is widened to `scale * q`. That is exact (an f16 scale has 11 significant bits, `q` has 7),
//! so Q8_0 weights give the bits that F32 weights of the same values would give.

use wide::{f32x4, i32x4};

use crate::stored::BLOCK;

/// Elements of a chunk.
pub(super) const CHUNK: usize = 16;

type Chunk = [f32x4; 4];

/// A row of elements, in chunks.
pub(super) trait Row: Copy {
    /// Chunk `index` of the whole ones.
    fn chunk(self, index: usize) -> Chunk;
    /// The elements after the last whole chunk, padded with zeros.
    fn tail(self) -> Chunk;
}

/// A row of f32.
#[derive(Clone, Copy)]
pub(super) struct F32Row<'a>(pub(super) &'a [f32]);

impl Row for F32Row<'_> {
    #[inline(always)]
    fn chunk(self, index: usize) -> Chunk {
        load(&self.0.as_chunks::<CHUNK>().0[index])
    }

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

/// Sixteen signed bytes: byte `s` of word `l` is element `4 s + l`, so that two shifts widen four lanes.
pub(super) type PackedQuants = [i32; 4];

/// Packs the quants of one chunk.
pub(super) fn pack(quants: &[i8; CHUNK]) -> PackedQuants {
    std::array::from_fn(|l| {
        let byte = |s: usize| quants[4 * s + l].to_le_bytes()[0];
        i32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
    })
}

/// A quantised row: whole blocks, so it has no tail.
#[derive(Clone, Copy)]
pub(super) struct Q8Row<'a> {
    pub(super) quants: &'a [PackedQuants],
    pub(super) scales: &'a [f32],
}

impl Row for Q8Row<'_> {
    #[inline(always)]
    fn chunk(self, index: usize) -> Chunk {
        let scale = f32x4::splat(self.scales[index / (BLOCK / CHUNK)]);
        let q = i32x4::new(self.quants[index]);
        [
            f32x4::from_i32x4((q << 24) >> 24) * scale,
            f32x4::from_i32x4((q << 16) >> 24) * scale,
            f32x4::from_i32x4((q << 8) >> 24) * scale,
            f32x4::from_i32x4(q >> 24) * scale,
        ]
    }

    fn tail(self) -> Chunk {
        [f32x4::ZERO; 4]
    }
}

impl Q8Row<'_> {
    /// Writes the elements to `out`, which is as long as the row.
    pub(super) fn widen(self, out: &mut [f32]) {
        for (index, out) in out.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
            for (out, lanes) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.chunk(index)) {
                *out = lanes.to_array();
            }
        }
    }
}

/// `T` rows of `x` times one row of weights: the weights are widened once for all of them.
#[inline(always)]
pub(super) fn dots<W: Row, const T: usize>(x: [F32Row; T], w: W) -> [f32; T] {
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

/// The product of two rows of equal length.
pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let [sum] = dots([F32Row(x)], F32Row(y));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn packed_quants_widen_to_what_was_packed() {
        let quants: [i8; BLOCK] = std::array::from_fn(|i| i8::try_from(i * 8).unwrap_or(0) - 127);
        let packed: Vec<PackedQuants> = quants.as_chunks::<CHUNK>().0.iter().map(pack).collect();
        let mut wide = [0.0; BLOCK];
        Q8Row { quants: &packed, scales: &[0.5] }.widen(&mut wide);
        assert_eq!(wide, quants.map(|q| f32::from(q) * 0.5));
    }
}

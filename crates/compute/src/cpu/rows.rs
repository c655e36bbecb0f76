//! Operations on each row by itself: normalisation, rotation, activations, softmax.
//!
//! Sums run in f64 and in order: rows are short next to the matrices, and activations of 1e19 cannot overflow.
//! `exp` is computed here; `tanh`, `sin` and `cos` come from `libm`, because the system's give other bits on other
//! systems.

use cdi_model::compute::Rope;
use wide::f32x4;

use super::exp::exp;

/// `x / sqrt(mean(x²) + eps) * weight`.
#[allow(clippy::cast_possible_truncation, reason = "the result of the f64 sums is an f32 activation")]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares: f64 = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let scale = (1.0 / (squares / x.len() as f64 + f64::from(eps)).sqrt()) as f32;
    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * w;
    }
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias`.
#[allow(clippy::cast_possible_truncation, reason = "the result of the f64 sums is an f32 activation")]
pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len() as f64;
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *out = ((f64::from(*x) - mean) * scale) as f32 * w + b;
    }
}

/// Turns scores into probabilities, shifted by the largest so that nothing overflows.
#[allow(clippy::cast_possible_truncation, reason = "the result of the f64 sum is an f32 probability")]
pub(super) fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (fours, rest) = x.as_chunks_mut::<4>();
    for x in fours {
        *x = exp(f32x4::new(*x) - f32x4::splat(largest)).to_array();
    }
    for x in rest {
        [*x, ..] = exp(f32x4::splat(*x - largest)).to_array();
    }
    let sum: f64 = x.iter().copied().map(f64::from).sum();
    let scale = (1.0 / sum) as f32;
    for x in x {
        *x *= scale;
    }
}

/// `gate = silu(gate) * up`, with `silu(x) = x / (1 + e^-x)`.
#[inline(never)]
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    let silu = |x: f32x4| x / (f32x4::ONE + exp(-x));
    let (fours, rest) = gate.as_chunks_mut::<4>();
    let (up_fours, up_rest) = up.as_chunks::<4>();
    for (gate, up) in fours.iter_mut().zip(up_fours) {
        *gate = (silu(f32x4::new(*gate)) * f32x4::new(*up)).to_array();
    }
    for (gate, up) in rest.iter_mut().zip(up_rest) {
        let [value, ..] = silu(f32x4::splat(*gate)).to_array();
        *gate = value * up;
    }
}

/// GELU, tanh approximation.
pub(super) fn gelu(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + libm::tanhf(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
}

/// Cosines and sines of a run of positions.
///
/// A step rotates the queries and keys of every layer by the same angles, so they are computed once.
#[derive(Debug)]
pub(super) struct Rotations {
    rope: Rope,
    /// `[rows, head_dim / 2]` of cosine and sine.
    angles: Vec<(f32, f32)>,
}

impl Rotations {
    #[allow(clippy::cast_possible_truncation, reason = "cosine and sine are rounded to f32 activations")]
    pub(super) fn new(rope: Rope, rows: u32) -> Self {
        let pairs = rope.head_dim / 2;
        let frequencies: Vec<f64> = (0..pairs)
            .map(|i| libm::pow(f64::from(rope.theta), -2.0 * f64::from(i) / f64::from(rope.head_dim)))
            .collect();
        let rotate = |row: u32, frequency: &f64| {
            let (sin, cos) = libm::sincos((f64::from(rope.start) + f64::from(row)) * frequency);
            (cos as f32, sin as f32)
        };
        let angles = (0..rows).flat_map(|row| frequencies.iter().map(move |f| rotate(row, f))).collect();
        Self { rope, angles }
    }

    /// Whether this holds exactly the angles of `rows` rows of `rope`.
    pub(super) fn fits(&self, rope: Rope, rows: u32) -> bool {
        self.rope == rope && self.angles.len() as u64 == u64::from(rows) * u64::from(rope.head_dim / 2)
    }

    /// Rotates every head of every row.
    pub(super) fn apply(&self, x: &mut [f32], cols: usize) {
        let pairs = self.rope.head_dim as usize / 2;
        for (row, angles) in x.chunks_exact_mut(cols).zip(self.angles.chunks_exact(pairs)) {
            for head in row.chunks_exact_mut(2 * pairs) {
                let (low, high) = head.split_at_mut(pairs);
                for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(angles) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

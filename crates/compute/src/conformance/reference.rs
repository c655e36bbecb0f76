//! The operations in f64, written from their definitions.

use cdi_model::compute::{Attention, Rope};

pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Rows by rows: `x · wᵀ`, and the sums of the magnitudes.
pub(super) fn matmul(cols: usize, x: &[f64], w: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let pairs = x.chunks(cols).flat_map(|x| w.chunks(cols).map(move |w| (x, w)));
    pairs
        .map(|(x, w)| {
            let products = || x.iter().zip(w).map(|(x, w)| x * w);
            (products().sum::<f64>(), products().map(f64::abs).sum::<f64>())
        })
        .unzip()
}

pub(super) fn rms_norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let n = weight.len();
    let row = |x: &[f64]| {
        let scale = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / n as f64 + eps).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect::<Vec<_>>()
    };
    x.chunks(n).flat_map(row).collect()
}

/// The normalised rows, and what was added up for each element.
pub(super) fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let n = weight.len();
    let row = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / n as f64;
        let scale = 1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64 + eps).sqrt();
        let largest = x.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        let elements = x
            .iter()
            .zip(weight)
            .zip(bias)
            .map(move |((x, w), b)| ((x - mean) * scale * w + b, (2.0 * largest * scale * w).abs() + b.abs()));
        elements.collect::<Vec<_>>()
    };
    x.chunks(n).flat_map(row).unzip()
}

/// The rotated rows, and what was added up for each element.
pub(super) fn rope(cols: usize, x: &[f64], rope: Rope) -> (Vec<f64>, Vec<f64>) {
    let dim = rope.head_dim as usize;
    let mut out = x.to_vec();
    let mut magnitude = vec![0.0; x.len()];
    for (row, start) in (0..x.len()).step_by(cols).enumerate() {
        let position = f64::from(rope.start) + row as f64;
        for head in (start..start + cols).step_by(dim) {
            for i in 0..dim / 2 {
                let angle = position * f64::from(rope.theta).powf(-2.0 * i as f64 / dim as f64);
                let (a, b) = (head + i, head + i + dim / 2);
                let (sin, cos) = angle.sin_cos();
                out[a] = x[a] * cos - x[b] * sin;
                out[b] = x[b] * cos + x[a] * sin;
                magnitude[a] = x[a].abs() + x[b].abs();
                magnitude[b] = magnitude[a];
            }
        }
    }
    (out, magnitude)
}

/// The probabilities of each row.
pub(super) fn softmax(cols: usize, x: &[f64]) -> Vec<f64> {
    let row = |x: &[f64]| {
        let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(move |p| p / sum)
    };
    x.chunks(cols).flat_map(row).collect()
}

pub(super) fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

pub(super) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

/// Attention of the last `n` rows of queries over all rows of keys and values, which start at position 0. Gives the
/// outputs and the sums of the magnitudes.
pub(super) fn attention(q: &[f64], k: &[f64], v: &[f64], shape: Attention) -> (Vec<f64>, Vec<f64>) {
    let dim = shape.head_dim as usize;
    let (q_cols, kv_cols) = (shape.heads as usize * dim, shape.kv_heads as usize * dim);
    let mut out = Vec::new();
    let mut magnitude = Vec::new();
    for (i, row) in q.chunks(q_cols).enumerate() {
        let seen = shape.start as usize + i + 1;
        for (head, q) in row.chunks(dim).enumerate() {
            let offset = head / (shape.heads / shape.kv_heads) as usize * dim;
            let part = |x: &[f64], position: usize| x[position * kv_cols + offset..][..dim].to_vec();
            let score = |p| q.iter().zip(part(k, p)).map(|(q, k)| q * k).sum::<f64>() / (dim as f64).sqrt();
            let probabilities = softmax(seen, &(0..seen).map(score).collect::<Vec<_>>());
            for d in 0..dim {
                let terms = || probabilities.iter().enumerate().map(|(p, weight)| weight * part(v, p)[d]);
                out.push(terms().sum());
                magnitude.push(terms().map(f64::abs).sum());
            }
        }
    }
    (out, magnitude)
}

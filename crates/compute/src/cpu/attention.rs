//! Causal grouped-query attention over a cache of f32 keys and values.

use cdi_model::compute::{Attention, CacheSpec, ComputeError};

use super::buffer::{Buffer, Meter};
use super::dot::{F32Row, dots};
use super::rows::softmax;

/// Keys and values of one layer for one sequence: `[kv_heads, positions, head_dim]` each, so that a head reads
/// memory in order.
#[derive(Debug)]
pub struct Cache {
    pub(super) spec: CacheSpec,
    keys: Buffer<f32>,
    values: Buffer<f32>,
}

impl Cache {
    pub(super) fn new(meter: &Meter, spec: CacheSpec) -> Result<Self, ComputeError> {
        if spec.kv_heads == 0 || spec.head_dim == 0 || spec.positions == 0 {
            return Err(ComputeError::Shape(format!("cache of {spec:?}")));
        }
        let elements =
            u64::from(spec.kv_heads).saturating_mul(u64::from(spec.head_dim)).saturating_mul(u64::from(spec.positions));
        Ok(Self { spec, keys: meter.zeroed(elements)?, values: meter.zeroed(elements)? })
    }

    /// Stores the rows of `keys` and `values` (`[n, kv_heads * head_dim]`) from position `start` on.
    pub(super) fn store(&mut self, start: usize, keys: &[f32], values: &[f32]) {
        let (dim, positions) = (self.spec.head_dim as usize, self.spec.positions as usize);
        let cols = dim * self.spec.kv_heads as usize;
        for (cache, rows) in [(&mut self.keys, keys), (&mut self.values, values)] {
            for (position, row) in (start..).zip(rows.chunks_exact(cols)) {
                for (head, part) in row.chunks_exact(dim).enumerate() {
                    cache[(head * positions + position) * dim..][..dim].copy_from_slice(part);
                }
            }
        }
    }

    /// What one key head holds: keys and values of the first `positions` positions.
    fn head(&self, head: usize, positions: usize) -> (&[f32], &[f32]) {
        let dim = self.spec.head_dim as usize;
        let start = head * self.spec.positions as usize * dim;
        let range = start..start + positions * dim;
        (&self.keys[range.clone()], &self.values[range])
    }
}

/// Attends with one row of queries, `[heads * head_dim]`, that sees `positions` positions. `scores` is scratch for as
/// many positions of every head that shares a key head.
pub(super) fn attend(
    q: &[f32],
    cache: &Cache,
    shape: Attention,
    positions: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let dim = shape.head_dim as usize;
    let group = (shape.heads / shape.kv_heads) as usize;
    let scores = &mut scores[..group * positions];
    for (head, (q, out)) in q.chunks_exact(group * dim).zip(out.chunks_exact_mut(group * dim)).enumerate() {
        let (keys, values) = cache.head(head, positions);
        let mut first = 0;
        while first < group {
            first += match group - first {
                4.. => score::<4>(q, keys, dim, first, scores),
                3 => score::<3>(q, keys, dim, first, scores),
                2 => score::<2>(q, keys, dim, first, scores),
                _ => score::<1>(q, keys, dim, first, scores),
            };
        }
        for (scores, out) in scores.chunks_exact_mut(positions).zip(out.chunks_exact_mut(dim)) {
            softmax(scores);
            mix(scores, values, out);
        }
    }
}

/// Scores of the `T` heads from `first` on: a key is loaded once for all of them.
#[inline(always)]
fn score<const T: usize>(q: &[f32], keys: &[f32], dim: usize, first: usize, scores: &mut [f32]) -> usize {
    let scale = 1.0 / (dim as f32).sqrt();
    let positions = keys.len() / dim;
    let q: [F32Row<'_>; T] = std::array::from_fn(|t| F32Row(&q[(first + t) * dim..][..dim]));
    for (position, key) in keys.chunks_exact(dim).enumerate() {
        for (t, dot) in dots(q, F32Row(key)).into_iter().enumerate() {
            scores[(first + t) * positions + position] = dot * scale;
        }
    }
    T
}

/// `out = Σ p_i v_i`, added in the order of the positions; four at a time stay in registers.
fn mix(probabilities: &[f32], values: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    let dim = out.len();
    let (quads, rest) = probabilities.as_chunks::<4>();
    let (quad_values, rest_values) = values.split_at(quads.len() * 4 * dim);
    for (p, v) in quads.iter().zip(quad_values.chunks_exact(4 * dim)) {
        let (v01, v23) = v.split_at(2 * dim);
        let ((v0, v1), (v2, v3)) = (v01.split_at(dim), v23.split_at(dim));
        for ((((out, v0), v1), v2), v3) in out.iter_mut().zip(v0).zip(v1).zip(v2).zip(v3) {
            *out = (((*out + p[0] * v0) + p[1] * v1) + p[2] * v2) + p[3] * v3;
        }
    }
    for (p, v) in rest.iter().zip(rest_values.chunks_exact(dim)) {
        for (out, v) in out.iter_mut().zip(v) {
            *out += p * v;
        }
    }
}

//! Attention and its cache.

use cdi_model::compute::{Attention, CacheSpec, Compute};

use super::{Noise, assert_close, assert_same_bits, reference};

/// Query, key and value rows of a sequence.
struct Rows {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Rows {
    fn new(noise: &mut Noise, shape: Attention, count: usize, scale: f32) -> Self {
        let cols = |heads: u32| (heads * shape.head_dim) as usize;
        Self {
            q: noise.values(count * cols(shape.heads), scale),
            k: noise.values(count * cols(shape.kv_heads), scale),
            v: noise.values(count * cols(shape.kv_heads), 1.0),
        }
    }

    /// Attends with the rows `range`, which are also the positions.
    async fn attend<C: Compute>(
        &self,
        c: &mut C,
        cache: &mut C::Cache,
        shape: Attention,
        range: std::ops::Range<usize>,
    ) -> Vec<f32> {
        let mut upload = |values: &[f32], heads: u32| {
            let cols = heads * shape.head_dim;
            c.upload(cols, &values[range.start * cols as usize..range.end * cols as usize]).expect("an upload")
        };
        let (q, k, v) =
            (upload(&self.q, shape.heads), upload(&self.k, shape.kv_heads), upload(&self.v, shape.kv_heads));
        let start = u32::try_from(range.start).expect("a small range");
        let out = c.attention(&q, &k, &v, cache, Attention { start, ..shape }).expect("attention");
        c.read(&out).await.expect("a result")
    }
}

fn cache<C: Compute>(c: &mut C, shape: Attention, positions: usize) -> C::Cache {
    let positions = u32::try_from(positions).expect("a small cache");
    c.new_cache(CacheSpec { kv_heads: shape.kv_heads, head_dim: shape.head_dim, positions }).expect("a cache")
}

fn shape(heads: u32, kv_heads: u32, head_dim: u32) -> Attention {
    Attention { heads, kv_heads, head_dim, start: 0 }
}

/// Every grouping and head size, over a prompt and then position by position; also with scores of some thousands.
pub async fn attention_matches<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(20);
    let shapes = [shape(1, 1, 2), shape(4, 2, 8), shape(6, 2, 6), shape(8, 1, 16), shape(9, 3, 64), shape(2, 2, 128)];
    for shape in shapes {
        for (count, prompt, scale) in [(1, 1, 1.0), (7, 4, 1.0), (37, 33, 2.0), (70, 68, 1.0), (9, 5, 30.0)] {
            let rows = Rows::new(&mut noise, shape, count, scale);
            let mut cache = cache(c, shape, count);
            let mut got = rows.attend(c, &mut cache, shape, 0..prompt).await;
            for position in prompt..count {
                got.extend(rows.attend(c, &mut cache, shape, position..position + 1).await);
            }
            let wide = reference::wide;
            let (want, mut magnitude) = reference::attention(&wide(&rows.q), &wide(&rows.k), &wide(&rows.v), shape);
            // An error of a score is an error of the probabilities: scores reach about scale² sqrt(head_dim).
            let score = 1.0 + f64::from(scale * scale) * f64::from(shape.head_dim).sqrt();
            magnitude.iter_mut().for_each(|m| *m *= score);
            assert_close(&format!("{shape:?}, {count} positions of {scale}"), &got, &want, &magnitude);
        }
    }
}

/// Rows at held positions replace what was there, and later positions are not seen: a rollback needs nothing else.
pub async fn attention_overwrites<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(21);
    let shape = shape(4, 2, 16);
    let (wrong, right) = (Rows::new(&mut noise, shape, 12, 1.0), Rows::new(&mut noise, shape, 12, 1.0));
    let mut clean = cache(c, shape, 12);
    let want = right.attend(c, &mut clean, shape, 0..12).await;
    let mut used = cache(c, shape, 12);
    wrong.attend(c, &mut used, shape, 0..12).await;
    let mut got = right.attend(c, &mut used, shape, 0..5).await;
    got.extend(right.attend(c, &mut used, shape, 5..6).await);
    wrong.attend(c, &mut used, shape, 6..9).await;
    got.extend(right.attend(c, &mut used, shape, 6..12).await);
    assert_same_bits("attention after a rollback", &got, &want);
}

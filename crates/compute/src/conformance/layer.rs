//! A whole transformer layer, and independence of how rows are batched.

use cdi_model::compute::{Attention, CacheSpec, Compute, ComputeError, Rope, WeightFormat};

use super::{Noise, assert_close, assert_same_bits, matrix, reference};

const WIDTH: u32 = 96;
const HIDDEN: u32 = 160;
const SHAPE: Attention = Attention { heads: 6, kv_heads: 2, head_dim: 16, start: 0 };
const KV_WIDTH: u32 = SHAPE.kv_heads * SHAPE.head_dim;
const THETA: f32 = 10_000.0;
const EPS: f32 = 1e-5;

/// Weights of a Llama layer, before loading. Matrices are `[rows, cols]` row by row.
struct Weights {
    norms: [Vec<f32>; 2],
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    o: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    down: Vec<f32>,
}

impl Weights {
    fn new(noise: &mut Noise) -> Self {
        let mut matrix = |rows: u32, cols: u32| noise.values((rows * cols) as usize, 1.7 / (cols as f32).sqrt());
        let (q, k, v, o) =
            (matrix(WIDTH, WIDTH), matrix(KV_WIDTH, WIDTH), matrix(KV_WIDTH, WIDTH), matrix(WIDTH, WIDTH));
        let (gate, up, down) = (matrix(HIDDEN, WIDTH), matrix(HIDDEN, WIDTH), matrix(WIDTH, HIDDEN));
        let mut norm = || noise.values(WIDTH as usize, 0.5).iter().map(|w| 1.0 + w).collect();
        Self { norms: [norm(), norm()], q, k, v, o, gate, up, down }
    }
}

/// A loaded Llama layer.
pub(super) struct Layer<C: Compute> {
    norms: [C::Vector; 2],
    q: C::Matrix,
    k: C::Matrix,
    v: C::Matrix,
    o: C::Matrix,
    gate: C::Matrix,
    up: C::Matrix,
    down: C::Matrix,
}

impl<C: Compute> Layer<C> {
    /// The layer of a seed.
    pub(super) fn seeded(c: &mut C, seed: u64, format: WeightFormat) -> Self {
        Self::load(c, &Weights::new(&mut Noise::new(seed)), format)
    }

    fn load(c: &mut C, weights: &Weights, format: WeightFormat) -> Self {
        let [a, b] = &weights.norms;
        Self {
            norms: [c.new_vector(a).expect("a vector"), c.new_vector(b).expect("a vector")],
            q: matrix(c, WIDTH, &weights.q, format),
            k: matrix(c, WIDTH, &weights.k, format),
            v: matrix(c, WIDTH, &weights.v, format),
            o: matrix(c, WIDTH, &weights.o, format),
            gate: matrix(c, WIDTH, &weights.gate, format),
            up: matrix(c, WIDTH, &weights.up, format),
            down: matrix(c, HIDDEN, &weights.down, format),
        }
    }

    fn forward(&self, c: &mut C, x: &mut C::Tensor, cache: &mut C::Cache, start: u32) -> Result<(), ComputeError> {
        let rope = Rope { head_dim: SHAPE.head_dim, theta: THETA, start };
        let normed = c.rms_norm(x, &self.norms[0], EPS)?;
        let [mut q, mut k, v] = c.qkv(&normed, [&self.q, &self.k, &self.v])?;
        c.rope(&mut q, rope)?;
        c.rope(&mut k, rope)?;
        let mixed = c.attention(&q, &k, &v, cache, Attention { start, ..SHAPE })?;
        let mixed = c.matmul(&mixed, &self.o)?;
        c.add(x, &mixed)?;
        let normed = c.rms_norm(x, &self.norms[1], EPS)?;
        let active = c.swiglu(&normed, &self.gate, &self.up)?;
        let fed = c.matmul(&active, &self.down)?;
        c.add(x, &fed)
    }

    /// Runs rows of a sequence in batches of the given sizes, one after the other.
    pub(super) async fn run(&self, c: &mut C, x: &[f32], batches: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let positions = u32::try_from(x.len()).expect("a short sequence") / WIDTH;
        let spec = CacheSpec { kv_heads: SHAPE.kv_heads, head_dim: SHAPE.head_dim, positions };
        let mut cache = c.new_cache(spec).expect("a cache");
        let mut out = Vec::new();
        for rows in batches {
            let start = out.len();
            let mut x = c.upload(WIDTH, &x[start..][..rows * WIDTH as usize]).expect("an upload");
            let position = u32::try_from(start).expect("a short sequence") / WIDTH;
            self.forward(c, &mut x, &mut cache, position).expect("a layer");
            out.extend(c.read(&x).await.expect("a result"));
        }
        out
    }
}

/// Rows of a sequence.
pub(super) fn sequence(seed: u64, rows: usize) -> Vec<f32> {
    Noise::new(seed).values(rows * WIDTH as usize, 1.0)
}

/// The layer in f64.
fn expected(weights: &Weights, x: &[f32]) -> Vec<f64> {
    let wide = reference::wide;
    let product = |x: &[f64], cols: u32, w: &[f32]| reference::matmul(cols as usize, x, &wide(w)).0;
    let rope = Rope { head_dim: SHAPE.head_dim, theta: THETA, start: 0 };
    let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x + y).collect::<Vec<_>>();
    let x = wide(x);
    let normed = reference::rms_norm(&x, &wide(&weights.norms[0]), f64::from(EPS));
    let q = reference::rope(WIDTH as usize, &product(&normed, WIDTH, &weights.q), rope).0;
    let k = reference::rope(KV_WIDTH as usize, &product(&normed, WIDTH, &weights.k), rope).0;
    let mixed = reference::attention(&q, &k, &product(&normed, WIDTH, &weights.v), SHAPE).0;
    let x = sum(&x, &product(&mixed, WIDTH, &weights.o));
    let normed = reference::rms_norm(&x, &wide(&weights.norms[1]), f64::from(EPS));
    let (gate, up) = (product(&normed, WIDTH, &weights.gate), product(&normed, WIDTH, &weights.up));
    let active: Vec<f64> = gate.iter().zip(&up).map(|(gate, up)| reference::silu(*gate) * up).collect();
    sum(&x, &product(&active, HIDDEN, &weights.down))
}

/// A full layer, attention and feed-forward, matches the reference.
pub async fn layer_matches<C: Compute>(c: &mut C) {
    let weights = Weights::new(&mut Noise::new(30));
    let layer = Layer::load(c, &weights, WeightFormat::F32);
    for rows in [1, 5, 33] {
        let x = sequence(31, rows);
        let want = expected(&weights, &x);
        let got = layer.run(c, &x, [rows]).await;
        // Outputs are of the order of 1, sums of some ten such terms, through seven products.
        assert_close(&format!("a layer of {rows} rows"), &got, &want, &vec![20.0; want.len()]);
    }
}

/// Each row of every operation has the same bits alone and in batches of every size up to 19 and of 70.
pub async fn rows_are_batch_invariant<C: Compute>(c: &mut C) {
    const COLS: u32 = 96;
    let mut noise = Noise::new(32);
    let x = noise.values(70 * COLS as usize, 4.0);
    let w = noise.values(37 * COLS as usize, 1.0);
    let f32s = matrix(c, COLS, &w, WeightFormat::F32);
    let q8s = matrix(c, COLS, &w, WeightFormat::Q8_0);
    let q4s = matrix(c, COLS, &w, WeightFormat::Q4_0);
    let (weight, bias) = (noise.values(COLS as usize, 1.0), noise.values(COLS as usize, 1.0));
    let (weight, bias) = (c.new_vector(&weight).expect("a vector"), c.new_vector(&bias).expect("a vector"));
    let names = ["matmul f32", "matmul Q8_0", "matmul Q4_0", "rms_norm", "layer_norm", "softmax", "gelu", "silu_mul"];
    let mut alone = vec![Vec::new(); names.len()];
    for size in std::iter::once(1).chain(2..=19).chain([70]) {
        let rows: Vec<&[f32]> = x.chunks(COLS as usize * size).collect();
        let mut together = vec![Vec::new(); names.len()];
        for rows in rows {
            let x = c.upload(COLS, rows).expect("an upload");
            let results = [
                c.matmul(&x, &f32s),
                c.matmul(&x, &q8s),
                c.matmul(&x, &q4s),
                c.rms_norm(&x, &weight, EPS),
                c.layer_norm(&x, &weight, &bias, EPS),
                c.softmax(&x),
                c.gelu(&x),
                c.silu_mul(&x, &x),
            ];
            for (together, result) in together.iter_mut().zip(results) {
                together.extend(c.read(&result.expect("an operation")).await.expect("a result"));
            }
        }
        if size == 1 {
            alone = together;
            continue;
        }
        for ((name, alone), together) in names.iter().zip(&alone).zip(&together) {
            assert_same_bits(&format!("{name} in batches of {size}"), together, alone);
        }
    }
}

/// A layer gives the same bits position by position and in batches, in every format.
pub async fn layers_are_batch_invariant<C: Compute>(c: &mut C) {
    let x = sequence(33, 36);
    for format in [WeightFormat::F32, WeightFormat::Q8_0, WeightFormat::Q4_0] {
        let layer = Layer::seeded(c, 34, format);
        let one_by_one = layer.run(c, &x, [1; 36]).await;
        for size in [2, 3, 4, 9, 12, 18, 36] {
            let together = layer.run(c, &x, std::iter::repeat_n(size, 36 / size)).await;
            assert_same_bits(&format!("a {format:?} layer in batches of {size}"), &together, &one_by_one);
        }
    }
}

/// A prompt cut anywhere gives the bits of the whole prompt.
pub async fn prefill_may_be_split<C: Compute>(c: &mut C) {
    let x = sequence(35, 40);
    let layer = Layer::seeded(c, 36, WeightFormat::F32);
    let whole = layer.run(c, &x, [40]).await;
    for cut in [1, 7, 16, 31, 32, 33, 39] {
        let split = layer.run(c, &x, [cut, 40 - cut]).await;
        assert_same_bits(&format!("a prompt cut at {cut}"), &split, &whole);
    }
}

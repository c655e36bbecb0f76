//! The CPU back end: f32 activations, F32 or Q8_0 weights, portable SIMD, one thread.
//!
//! **Same id, same bits**, natively and in a browser: every operation is IEEE f32 or f64 arithmetic in a fixed
//! order (`dot.rs` documents it), elementary functions come from `libm`, and nothing is fused. A change that
//! alters any bit of any result needs a new [`KERNEL_ID`].

mod attention;
mod buffer;
mod dot;
mod matmul;
mod rows;
mod weights;

use cdi_model::compute::{Attention, CacheSpec, Compute, ComputeError, MatrixSpec, Rope};
use cdi_types::manifest::DType;

pub use attention::Cache;
use buffer::{Buffer, Meter};
use rows::Rotations;
pub use weights::Matrix;

/// Names the arithmetic of this back end.
pub const KERNEL_ID: &str = "cpu-f32-v1";

/// The CPU back end.
#[derive(Debug, Default)]
pub struct Cpu {
    meter: Meter,
    rotations: Option<Rotations>,
}

/// A weight vector.
#[derive(Debug)]
pub struct Vector(Buffer<f32>);

/// Activations `[rows, cols]`, row-major.
#[derive(Debug)]
pub struct Tensor {
    cols: u32,
    values: Buffer<f32>,
}

impl Tensor {
    /// `[rows, cols]`.
    pub(crate) fn shape(&self) -> [u32; 2] {
        [self.rows(), self.cols]
    }

    fn cols(&self) -> usize {
        self.cols as usize
    }

    fn rows(&self) -> u32 {
        // At most 2^32 - 1 rows: every constructor takes the count as u32 or checks it.
        u32::try_from(self.values.len() / self.cols()).unwrap_or(u32::MAX)
    }
}

impl Cpu {
    /// A back end that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tensor(&self, rows: u32, cols: u32) -> Result<Tensor, ComputeError> {
        Ok(Tensor { cols, values: self.meter.zeroed(u64::from(rows).saturating_mul(u64::from(cols)))? })
    }

    /// A tensor whose rows `f` writes from the rows of `x`, one by one.
    fn by_rows(&self, x: &Tensor, mut f: impl FnMut(&[f32], &mut [f32])) -> Result<Tensor, ComputeError> {
        let mut out = self.tensor(x.rows(), x.cols)?;
        for (x, out) in x.values.chunks_exact(x.cols()).zip(out.values.chunks_exact_mut(x.cols())) {
            f(x, out);
        }
        Ok(out)
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), ComputeError> {
    if holds { Ok(()) } else { Err(ComputeError::Shape(what())) }
}

impl Compute for Cpu {
    type Matrix = Matrix;
    type Vector = Vector;
    type Tensor = Tensor;
    type Cache = Cache;

    fn kernel_id(&self) -> &str {
        KERNEL_ID
    }

    fn memory_bytes(&self) -> u64 {
        self.meter.bytes()
    }

    fn new_matrix(&mut self, spec: MatrixSpec) -> Result<Matrix, ComputeError> {
        Matrix::new(&self.meter, spec)
    }

    fn write_rows(&mut self, matrix: &mut Matrix, first: u32, dtype: DType, bytes: &[u8]) -> Result<(), ComputeError> {
        matrix.write(first, dtype, bytes)
    }

    fn new_vector(&mut self, values: &[f32]) -> Result<Vector, ComputeError> {
        ensure(!values.is_empty(), || "vector of no elements".to_owned())?;
        Ok(Vector(self.meter.copy(values)?))
    }

    fn new_cache(&mut self, spec: CacheSpec) -> Result<Cache, ComputeError> {
        Cache::new(&self.meter, spec)
    }

    fn upload(&mut self, cols: u32, values: &[f32]) -> Result<Tensor, ComputeError> {
        let whole = cols > 0 && !values.is_empty() && values.len().is_multiple_of(cols as usize);
        let countable = whole && u32::try_from(values.len() / cols as usize).is_ok();
        ensure(countable, || format!("upload of {} elements in rows of {cols}", values.len()))?;
        Ok(Tensor { cols, values: self.meter.copy(values)? })
    }

    fn shape(&self, tensor: &Tensor) -> [u32; 2] {
        tensor.shape()
    }

    fn embed(&mut self, table: &Matrix, ids: &[u32]) -> Result<Tensor, ComputeError> {
        let spec = table.spec;
        ensure(!ids.is_empty() && ids.iter().all(|id| *id < spec.rows), || {
            format!("embed {} ids in a table of {} rows", ids.len(), spec.rows)
        })?;
        let count = u32::try_from(ids.len()).map_err(|_| ComputeError::Shape("embed: too many ids".to_owned()))?;
        let mut out = self.tensor(count, spec.cols)?;
        let rows = table.rows();
        for (out, id) in out.values.chunks_exact_mut(spec.cols as usize).zip(ids) {
            rows.widen(*id as usize, out);
        }
        Ok(out)
    }

    fn matmul(&mut self, x: &Tensor, w: &Matrix) -> Result<Tensor, ComputeError> {
        ensure(x.cols == w.spec.cols, || {
            format!("matmul of [{}, {}] by [{}, {}]", x.rows(), x.cols, w.spec.rows, w.spec.cols)
        })?;
        let mut out = self.tensor(x.rows(), w.spec.rows)?;
        matmul::matmul(&x.values, w, &mut out.values);
        Ok(out)
    }

    fn rms_norm(&mut self, x: &Tensor, weight: &Vector, eps: f32) -> Result<Tensor, ComputeError> {
        ensure(weight.0.len() == x.cols(), || format!("rms_norm of rows of {} by {}", x.cols, weight.0.len()))?;
        self.by_rows(x, |x, out| rows::rms_norm(x, &weight.0, eps, out))
    }

    fn layer_norm(&mut self, x: &Tensor, weight: &Vector, bias: &Vector, eps: f32) -> Result<Tensor, ComputeError> {
        ensure(weight.0.len() == x.cols() && bias.0.len() == x.cols(), || {
            format!("layer_norm of rows of {} by {} and {}", x.cols, weight.0.len(), bias.0.len())
        })?;
        self.by_rows(x, |x, out| rows::layer_norm(x, &weight.0, &bias.0, eps, out))
    }

    fn rope(&mut self, x: &mut Tensor, rope: Rope) -> Result<(), ComputeError> {
        let even = rope.head_dim > 0 && rope.head_dim.is_multiple_of(2);
        ensure(even && x.cols.is_multiple_of(rope.head_dim), || {
            format!("rope of rows of {} in heads of {}", x.cols, rope.head_dim)
        })?;
        let rows = x.rows();
        let held = self.rotations.take().filter(|held| held.fits(rope, rows));
        let rotations = self.rotations.insert(held.unwrap_or_else(|| Rotations::new(rope, rows)));
        let cols = x.cols();
        rotations.apply(&mut x.values, cols);
        Ok(())
    }

    fn attention(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        cache: &mut Cache,
        shape: Attention,
    ) -> Result<Tensor, ComputeError> {
        let Attention { heads, kv_heads, head_dim, start } = shape;
        let rows = q.rows();
        let spec = cache.spec;
        let width = |heads: u32| u64::from(heads) * u64::from(head_dim);
        let grouped = heads > 0 && kv_heads > 0 && heads.is_multiple_of(kv_heads);
        let cached = spec.kv_heads == kv_heads && spec.head_dim == head_dim;
        let fits = u64::from(start) + u64::from(rows) <= u64::from(spec.positions);
        let sized = u64::from(q.cols) == width(heads)
            && u64::from(k.cols) == width(kv_heads)
            && u64::from(v.cols) == width(kv_heads);
        ensure(grouped && cached && fits && sized && k.rows() == rows && v.rows() == rows, || {
            let shapes = [q, k, v].map(|t| self.shape(t));
            format!("attention of q, k, v {shapes:?} as {shape:?} over {spec:?}")
        })?;
        let start = start as usize;
        cache.store(start, &k.values, &v.values);
        let mut out = self.tensor(rows, q.cols)?;
        let mut scores = self.meter.zeroed(start as u64 + u64::from(rows))?;
        let rows = q.values.chunks_exact(q.cols()).zip(out.values.chunks_exact_mut(q.cols()));
        for (i, (q, out)) in rows.enumerate() {
            attention::attend(q, cache, shape, start + i + 1, &mut scores, out);
        }
        Ok(out)
    }

    fn silu_mul(&mut self, gate: &Tensor, up: &Tensor) -> Result<Tensor, ComputeError> {
        ensure(self.shape(gate) == self.shape(up), || {
            format!("silu_mul of {:?} and {:?}", self.shape(gate), self.shape(up))
        })?;
        let mut out = self.tensor(gate.rows(), gate.cols)?;
        for ((out, gate), up) in out.values.iter_mut().zip(&*gate.values).zip(&*up.values) {
            *out = rows::silu(*gate) * up;
        }
        Ok(out)
    }

    fn gelu(&mut self, x: &Tensor) -> Result<Tensor, ComputeError> {
        let mut out = self.tensor(x.rows(), x.cols)?;
        for (out, x) in out.values.iter_mut().zip(&*x.values) {
            *out = rows::gelu(*x);
        }
        Ok(out)
    }

    fn softmax(&mut self, x: &Tensor) -> Result<Tensor, ComputeError> {
        self.by_rows(x, |x, out| {
            out.copy_from_slice(x);
            rows::softmax(out);
        })
    }

    fn add(&mut self, x: &mut Tensor, y: &Tensor) -> Result<(), ComputeError> {
        ensure(self.shape(x) == self.shape(y), || format!("add of {:?} and {:?}", self.shape(x), self.shape(y)))?;
        for (x, y) in x.values.iter_mut().zip(&*y.values) {
            *x += y;
        }
        Ok(())
    }

    fn rows(&mut self, x: &Tensor, first: u32, count: u32) -> Result<Tensor, ComputeError> {
        let within = u64::from(first) + u64::from(count) <= u64::from(x.rows());
        ensure(count > 0 && within, || format!("{count} rows from {first} of {}", x.rows()))?;
        let cols = x.cols();
        let values = &x.values[first as usize * cols..][..count as usize * cols];
        Ok(Tensor { cols: x.cols, values: self.meter.copy(values)? })
    }

    async fn read(&mut self, x: &Tensor) -> Result<Vec<f32>, ComputeError> {
        Ok(x.values.to_vec())
    }
}

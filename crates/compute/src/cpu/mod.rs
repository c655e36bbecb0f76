//! The CPU back end: f32 activations, F32, Q8_0 or Q4_0 weights, SIMD, one thread.
//!
//! **Same id, same bits**, natively and in a browser: every operation is exact integer arithmetic (`int8`) or IEEE
//! f32 or f64 arithmetic in a fixed order (`dot.rs`), elementary functions are computed here or by `libm`, and nothing
//! is fused. So the [`Variant`]s of the kernels differ in speed only and share one id. A change that alters any bit of
//! any result needs a new [`KERNEL_ID`].

mod attention;
mod buffer;
mod dot;
mod exp;
mod int8;
mod matmul;
mod rows;
mod variant;
mod weights;

use cdi_model::compute::{Attention, CacheSpec, Compute, ComputeError, MatrixSpec, Rope};
use cdi_types::manifest::DType;

pub use attention::Cache;
use buffer::{Buffer, Meter, Scratch};
use rows::Rotations;
pub use variant::Variant;
pub use weights::Matrix;

/// Names the arithmetic of this back end.
pub const KERNEL_ID: &str = "cpu-v2";

/// The CPU back end.
#[derive(Debug)]
pub struct Cpu {
    variant: Variant,
    meter: Meter,
    scratch: Scratch,
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

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// A back end that holds nothing, of the variant that is expected to be the fastest.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Variant::available().into_iter().next().unwrap_or(Variant::Portable))
    }

    /// A back end of this variant; `None` where the machine lacks its instructions.
    #[must_use]
    pub fn with(variant: Variant) -> Option<Self> {
        Variant::available().contains(&variant).then(|| Self::of(variant))
    }

    /// The variant is one that the machine has.
    fn of(variant: Variant) -> Self {
        Self { variant, meter: Meter::default(), scratch: Scratch::default(), rotations: None }
    }

    /// The instructions that it uses.
    #[must_use]
    pub const fn variant(&self) -> Variant {
        self.variant
    }

    /// `x · wᵀ` for each matrix.
    fn products<const N: usize>(&mut self, x: &Tensor, w: [&Matrix; N]) -> Result<[Tensor; N], ComputeError> {
        let rows = x.rows();
        for w in w {
            ensure(x.cols == w.spec.cols, || {
                format!("matmul of [{rows}, {}] by [{}, {}]", x.cols, w.spec.rows, w.spec.cols)
            })?;
        }
        let mut out = Vec::with_capacity(N);
        for w in w {
            out.push(self.tensor(rows, w.spec.rows)?);
        }
        let short = |_| ComputeError::Shape("a product for each matrix".to_owned());
        let mut out: [Tensor; N] = out.try_into().map_err(short)?;
        let mut places = out.each_mut().map(|tensor| Some(&mut *tensor.values));
        let products = std::array::from_fn::<_, N, _>(|i| (w[i], places[i].take().unwrap_or_default()));
        matmul::matmul(self.variant, &mut self.scratch, &x.values, x.cols(), products)?;
        Ok(out)
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
        for (out, id) in out.values.chunks_exact_mut(spec.cols as usize).zip(ids) {
            table.widen(*id as usize, out);
        }
        Ok(out)
    }

    fn matmul(&mut self, x: &Tensor, w: &Matrix) -> Result<Tensor, ComputeError> {
        self.products(x, [w]).map(|[out]| out)
    }

    fn qkv(&mut self, x: &Tensor, w: [&Matrix; 3]) -> Result<[Tensor; 3], ComputeError> {
        self.products(x, w)
    }

    fn swiglu(&mut self, x: &Tensor, gate: &Matrix, up: &Matrix) -> Result<Tensor, ComputeError> {
        let [mut gate, up] = self.products(x, [gate, up])?;
        ensure(gate.cols == up.cols, || format!("swiglu of {} and {} columns", gate.cols, up.cols))?;
        rows::silu_mul(&mut gate.values, &up.values);
        Ok(gate)
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
        let group = u64::from(heads / kv_heads);
        let mut scores = self.meter.zeroed(group * (start as u64 + u64::from(rows)))?;
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
        let mut out = Tensor { cols: gate.cols, values: self.meter.copy(&gate.values)? };
        rows::silu_mul(&mut out.values, &up.values);
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

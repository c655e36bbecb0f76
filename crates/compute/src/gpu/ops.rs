//! The operations: shapes are checked here, the arithmetic is in the shaders.

use cdi_model::compute::{Attention, CacheSpec, Compute, ComputeError, MatrixSpec, Rope};
use cdi_types::manifest::DType;

use crate::gpu::kernel::Kernel;
use crate::gpu::recorder::linear_grid;
use crate::gpu::tensor::{Cache, Tensor, Vector};
use crate::gpu::weights::{Matrix, PartData, scale_stride};
use crate::gpu::{Gpu, ensure};

/// Threads of a workgroup in the kernels that take one element a thread.
const THREADS: u32 = 64;
/// Longest head whose query fits the arrays of the attention kernel.
const MAX_HEAD_DIM: u32 = 256;

/// `a * b * 4` bytes.
fn f32_bytes(a: u32, b: u32) -> u64 {
    u64::from(a).saturating_mul(u64::from(b)).saturating_mul(4)
}

impl Gpu {
    /// A tensor for the result of a kernel.
    pub(crate) fn tensor(&mut self, rows: u32, cols: u32) -> Result<Tensor, ComputeError> {
        self.health.check()?;
        Ok(Tensor { rows, cols, values: self.memory.activation(f32_bytes(rows, cols))? })
    }

    /// One thread an element, parameters first the number of elements, then `words`.
    fn elementwise(&mut self, kernel: Kernel, count: u32, words: &[u32], buffers: &[&super::Allocation]) {
        let mut all = vec![count];
        all.extend_from_slice(words);
        self.dispatch(kernel, &all, buffers, linear_grid(count.div_ceil(THREADS)));
    }
}

impl Compute for Gpu {
    type Matrix = Matrix;
    type Vector = Vector;
    type Tensor = Tensor;
    type Cache = Cache;

    fn kernel_id(&self) -> &str {
        &self.kernel_id
    }

    fn memory_bytes(&self) -> u64 {
        self.memory.held_bytes()
    }

    fn health(&self) -> Result<(), ComputeError> {
        self.health.check()
    }

    fn new_matrix(&mut self, spec: MatrixSpec) -> Result<Matrix, ComputeError> {
        self.health.check()?;
        self.flush();
        Matrix::new(&mut self.memory, spec)
    }

    fn write_rows(&mut self, matrix: &mut Matrix, first: u32, dtype: DType, bytes: &[u8]) -> Result<(), ComputeError> {
        self.health.check()?;
        self.flush();
        matrix.write_rows(&self.recorder, first, dtype, bytes)
    }

    fn new_vector(&mut self, values: &[f32]) -> Result<Vector, ComputeError> {
        self.health.check()?;
        let len = u32::try_from(values.len()).unwrap_or(0);
        ensure(len > 0, || format!("vector of {} elements", values.len()))?;
        let held = self.memory.own(f32_bytes(len, 1))?;
        self.recorder.write(&held, 0, bytemuck::cast_slice(values));
        Ok(Vector { len, values: held })
    }

    fn new_cache(&mut self, spec: CacheSpec) -> Result<Cache, ComputeError> {
        self.health.check()?;
        let CacheSpec { kv_heads, head_dim, positions } = spec;
        ensure(kv_heads > 0 && head_dim > 0 && positions > 0, || format!("empty cache {spec:?}"))?;
        let bytes = f32_bytes(kv_heads.saturating_mul(head_dim), positions);
        let cache = Cache { spec, keys: self.memory.own(bytes)?, values: self.memory.own(bytes)? };
        if head_dim > MAX_HEAD_DIM {
            return Err(ComputeError::Unsupported(format!("heads of {head_dim} elements; at most {MAX_HEAD_DIM}")));
        }
        Ok(cache)
    }

    fn upload(&mut self, cols: u32, values: &[f32]) -> Result<Tensor, ComputeError> {
        self.health.check()?;
        let whole = cols > 0 && !values.is_empty() && values.len().is_multiple_of(cols as usize);
        let rows = if whole { u32::try_from(values.len() / cols as usize).unwrap_or(0) } else { 0 };
        ensure(rows > 0, || format!("upload of {} elements in rows of {cols}", values.len()))?;
        let held = self.memory.upload_target(f32_bytes(rows, cols))?;
        self.recorder.write(&held, 0, bytemuck::cast_slice(values));
        Ok(Tensor { rows, cols, values: held })
    }

    fn shape(&self, tensor: &Tensor) -> [u32; 2] {
        tensor.shape()
    }

    fn embed(&mut self, table: &Matrix, ids: &[u32]) -> Result<Tensor, ComputeError> {
        let MatrixSpec { rows, cols, .. } = table.spec;
        let count = u32::try_from(ids.len()).unwrap_or(0);
        ensure(count > 0 && ids.iter().all(|id| *id < rows), || {
            format!("embed {} ids in a table of {rows} rows", ids.len())
        })?;
        let out = self.tensor(count, cols)?;
        let held = self.memory.upload_target(f32_bytes(count, 1))?;
        self.recorder.write(&held, 0, bytemuck::cast_slice(ids));
        for part in &table.parts {
            let words = [cols, part.first, part.rows, scale_stride(cols)];
            match &part.data {
                PartData::F32(w) => {
                    self.elementwise(Kernel::EmbedF32, out.count(), &words[..3], &[&held, w, &out.values]);
                }
                PartData::Q8 { quants, scales } => {
                    self.elementwise(Kernel::EmbedQ8, out.count(), &words, &[&held, quants, scales, &out.values]);
                }
            }
        }
        Ok(out)
    }

    fn matmul(&mut self, x: &Tensor, w: &Matrix) -> Result<Tensor, ComputeError> {
        self.matmul_by(self.paths.choose(x.rows), x, w)
    }

    fn rms_norm(&mut self, x: &Tensor, weight: &Vector, eps: f32) -> Result<Tensor, ComputeError> {
        ensure(weight.len == x.cols, || format!("rms_norm of rows of {} by {}", x.cols, weight.len))?;
        let out = self.tensor(x.rows, x.cols)?;
        let words = [x.rows, x.cols, eps.to_bits()];
        self.dispatch(Kernel::RmsNorm, &words, &[&x.values, &weight.values, &out.values], linear_grid(x.rows));
        Ok(out)
    }

    fn layer_norm(&mut self, x: &Tensor, weight: &Vector, bias: &Vector, eps: f32) -> Result<Tensor, ComputeError> {
        ensure(weight.len == x.cols && bias.len == x.cols, || {
            format!("layer_norm of rows of {} by {} and {}", x.cols, weight.len, bias.len)
        })?;
        let out = self.tensor(x.rows, x.cols)?;
        let words = [x.rows, x.cols, eps.to_bits()];
        let buffers = [&x.values, &weight.values, &bias.values, &out.values];
        self.dispatch(Kernel::LayerNorm, &words, &buffers, linear_grid(x.rows));
        Ok(out)
    }

    fn rope(&mut self, x: &mut Tensor, rope: Rope) -> Result<(), ComputeError> {
        self.health.check()?;
        let even = rope.head_dim > 0 && rope.head_dim.is_multiple_of(2);
        ensure(even && x.cols.is_multiple_of(rope.head_dim), || {
            format!("rope of rows of {} in heads of {}", x.cols, rope.head_dim)
        })?;
        if self.recorder.is_full() {
            self.flush();
        }
        let table = self.rope_tables.get(&mut self.memory, &self.recorder, rope, x.rows)?;
        let count = x.count() / 2;
        let words = [count, x.cols / rope.head_dim, rope.head_dim / 2];
        self.recorder.dispatch(Kernel::Rope, &words, &[table, &x.values], linear_grid(count.div_ceil(THREADS)));
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
        let spec = cache.spec;
        let width = |heads: u32| u64::from(heads) * u64::from(head_dim);
        let grouped = heads > 0 && kv_heads > 0 && heads.is_multiple_of(kv_heads);
        let cached = spec.kv_heads == kv_heads && spec.head_dim == head_dim;
        let fits = u64::from(start) + u64::from(q.rows) <= u64::from(spec.positions);
        let sized = u64::from(q.cols) == width(heads)
            && u64::from(k.cols) == width(kv_heads)
            && u64::from(v.cols) == width(kv_heads);
        ensure(grouped && cached && fits && sized && k.rows == q.rows && v.rows == q.rows, || {
            let shapes = [q, k, v].map(Tensor::shape);
            format!("attention of q, k, v {shapes:?} as {shape:?} over {spec:?}")
        })?;
        let out = self.tensor(q.rows, q.cols)?;
        let buffers = [&k.values, &v.values, &cache.keys, &cache.values];
        self.elementwise(Kernel::KvStore, k.count(), &[start * k.cols], &buffers);
        #[allow(clippy::cast_precision_loss, reason = "head_dim is at most 256")]
        let scale = 1.0 / (head_dim as f32).sqrt();
        let words = [q.rows, heads, kv_heads, head_dim, start, scale.to_bits()];
        let buffers = [&q.values, &cache.keys, &cache.values, &out.values];
        self.dispatch(Kernel::Attention, &words, &buffers, linear_grid(q.rows * heads));
        Ok(out)
    }

    fn silu_mul(&mut self, gate: &Tensor, up: &Tensor) -> Result<Tensor, ComputeError> {
        ensure(gate.shape() == up.shape(), || format!("silu_mul of {:?} and {:?}", gate.shape(), up.shape()))?;
        let out = self.tensor(gate.rows, gate.cols)?;
        self.elementwise(Kernel::SiluMul, gate.count(), &[], &[&gate.values, &up.values, &out.values]);
        Ok(out)
    }

    fn gelu(&mut self, x: &Tensor) -> Result<Tensor, ComputeError> {
        let out = self.tensor(x.rows, x.cols)?;
        self.elementwise(Kernel::Gelu, x.count(), &[], &[&x.values, &out.values]);
        Ok(out)
    }

    fn softmax(&mut self, x: &Tensor) -> Result<Tensor, ComputeError> {
        let out = self.tensor(x.rows, x.cols)?;
        self.dispatch(Kernel::Softmax, &[x.rows, x.cols], &[&x.values, &out.values], linear_grid(x.rows));
        Ok(out)
    }

    fn add(&mut self, x: &mut Tensor, y: &Tensor) -> Result<(), ComputeError> {
        self.health.check()?;
        ensure(x.shape() == y.shape(), || format!("add of {:?} and {:?}", x.shape(), y.shape()))?;
        self.elementwise(Kernel::Add, x.count(), &[], &[&y.values, &x.values]);
        Ok(())
    }

    fn rows(&mut self, x: &Tensor, first: u32, count: u32) -> Result<Tensor, ComputeError> {
        let within = u64::from(first) + u64::from(count) <= u64::from(x.rows);
        ensure(count > 0 && within, || format!("{count} rows from {first} of {}", x.rows))?;
        let out = self.tensor(count, x.cols)?;
        self.elementwise(Kernel::CopyRows, out.count(), &[first * x.cols], &[&x.values, &out.values]);
        Ok(out)
    }

    async fn read(&mut self, x: &Tensor) -> Result<Vec<f32>, ComputeError> {
        self.settle().await?;
        let values = self.recorder.read(&x.values, &self.health).await;
        self.memory.submitted();
        values
    }
}

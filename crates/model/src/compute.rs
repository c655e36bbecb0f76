//! The operations that a transformer layer needs, as one trait that every back end implements.
//!
//! Activations are `[rows, cols]` tensors of f32 in row-major order, one row a position. A back end
//! may record operations and run them later; [`Compute::read`] is the only point where results are
//! waited for, so a whole step can be one submission.
//!
//! **Same bits.** A row of a result does not depend on how many other rows are computed with it: each
//! back end uses one reduction order per [kernel id](Compute::kernel_id). Prefill, decode, replay and
//! the check of a draft then agree bit by bit.

use cdi_types::manifest::DType;

/// Why a back end could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// Operands do not fit together; the text names the operation and the shapes.
    #[error("shape mismatch: {0}")]
    Shape(String),
    /// The device or the process has no room for a buffer of this many bytes.
    #[error("out of memory: could not allocate {bytes} bytes")]
    OutOfMemory {
        /// Size of the failed allocation.
        bytes: u64,
    },
    /// The device went away. Everything loaded into it is gone; rebuild the back end or use another.
    #[error("the compute device was lost: {0}")]
    DeviceLost(String),
    /// The back end cannot run this at all.
    #[error("not supported by this back end: {0}")]
    Unsupported(String),
}

impl ComputeError {
    /// Whether the back end can be used no longer.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::DeviceLost(_))
    }
}

/// Shape and destination format of a weight matrix that is about to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixSpec {
    /// Outputs: rows of the stored matrix.
    pub rows: u32,
    /// Inputs: elements of a row.
    pub cols: u32,
    /// Format to keep in memory.
    pub format: WeightFormat,
}

/// Format of weights in the memory of a back end, which may differ from their storage type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 32-bit floats.
    F32,
    /// Signed bytes with one scale for each 32 elements of a row; needs `cols` divisible by 32.
    Q8_0,
    /// 4 bits with one scale for each 32 elements of a row; needs `cols` divisible by 32.
    Q4_0,
}

impl WeightFormat {
    /// Elements of a row that share a scale; 1 where nothing is quantised.
    #[must_use]
    pub const fn block(self) -> u32 {
        match self {
            Self::F32 => 1,
            Self::Q8_0 | Self::Q4_0 => 32,
        }
    }

    /// The format for a matrix that is stored as `dtype` where this one is asked for: what is stored in fewer bits is
    /// not widened to 8 of them.
    #[must_use]
    pub const fn keeping(self, dtype: DType) -> Self {
        match (self, dtype) {
            (Self::Q8_0, DType::Q4_0) => Self::Q4_0,
            _ => self,
        }
    }
}

/// Rotary position embedding of query or key rows.
///
/// Pairs element `i` with `i + head_dim / 2` of each head (the Hugging Face layout) and rotates by
/// `position * theta^(-2 i / head_dim)`. Source: RoFormer, <https://arxiv.org/abs/2104.09864>.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Elements of a head, even.
    pub head_dim: u32,
    /// Base of the frequencies.
    pub theta: f32,
    /// Position of the first row.
    pub start: u32,
}

/// Causal grouped-query attention over a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; query head `h` reads key head `h / (heads / kv_heads)`.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Position of the first row. Rows are stored at `start ..`, over whatever the cache held there.
    pub start: u32,
}

/// Keys and values of one layer for one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSpec {
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Most positions that it holds.
    pub positions: u32,
}

/// A back end: memory for weights, caches and activations, and the kernels over them.
///
/// Every operation checks its shapes and returns [`ComputeError::Shape`] instead of reading out of bounds.
#[allow(async_fn_in_trait, reason = "used generically inside this workspace; a tab's futures are not Send")]
pub trait Compute {
    /// A weight matrix `[rows, cols]`.
    type Matrix;
    /// A weight vector.
    type Vector;
    /// An activation tensor `[rows, cols]`.
    type Tensor;
    /// Keys and values of one layer for one sequence.
    type Cache;

    /// Names kernels, variant and formats: two back ends with equal ids give equal bits.
    fn kernel_id(&self) -> &str;

    /// Bytes held for weights, caches and activations now.
    fn memory_bytes(&self) -> u64;

    /// Whether the back end can still compute, as far as is known without computing.
    ///
    /// # Errors
    /// [`ComputeError::DeviceLost`].
    fn health(&self) -> Result<(), ComputeError> {
        Ok(())
    }

    /// Allocates a matrix, to be filled by [`Compute::write_rows`].
    fn new_matrix(&mut self, spec: MatrixSpec) -> Result<Self::Matrix, ComputeError>;

    /// Converts whole stored rows (`dtype`, little endian) into the matrix, from row `first` on.
    fn write_rows(
        &mut self,
        matrix: &mut Self::Matrix,
        first: u32,
        dtype: DType,
        bytes: &[u8],
    ) -> Result<(), ComputeError>;

    /// Loads a vector.
    fn new_vector(&mut self, values: &[f32]) -> Result<Self::Vector, ComputeError>;

    /// Allocates a cache.
    fn new_cache(&mut self, spec: CacheSpec) -> Result<Self::Cache, ComputeError>;

    /// Uploads activations: `values` holds whole rows of `cols` elements.
    fn upload(&mut self, cols: u32, values: &[f32]) -> Result<Self::Tensor, ComputeError>;

    /// `[rows, cols]` of a tensor.
    fn shape(&self, tensor: &Self::Tensor) -> [u32; 2];

    /// Rows `ids` of the matrix: `[ids.len(), cols]`.
    fn embed(&mut self, table: &Self::Matrix, ids: &[u32]) -> Result<Self::Tensor, ComputeError>;

    /// `x · wᵀ`: `[n, cols]` by `[rows, cols]` gives `[n, rows]`.
    fn matmul(&mut self, x: &Self::Tensor, w: &Self::Matrix) -> Result<Self::Tensor, ComputeError>;

    /// [`Compute::matmul`] by the query, key and value projections of the same rows.
    fn qkv(&mut self, x: &Self::Tensor, w: [&Self::Matrix; 3]) -> Result<[Self::Tensor; 3], ComputeError> {
        let [q, k, v] = w;
        Ok([self.matmul(x, q)?, self.matmul(x, k)?, self.matmul(x, v)?])
    }

    /// `silu(x · gateᵀ) * (x · upᵀ)`.
    fn swiglu(
        &mut self,
        x: &Self::Tensor,
        gate: &Self::Matrix,
        up: &Self::Matrix,
    ) -> Result<Self::Tensor, ComputeError> {
        let (gate, up) = (self.matmul(x, gate)?, self.matmul(x, up)?);
        self.silu_mul(&gate, &up)
    }

    /// `x / sqrt(mean(x²) + eps) * weight`, row by row. Source: <https://arxiv.org/abs/1910.07467>.
    fn rms_norm(&mut self, x: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Result<Self::Tensor, ComputeError>;

    /// `(x - mean) / sqrt(variance + eps) * weight + bias`, row by row. Source: <https://arxiv.org/abs/1607.06450>.
    fn layer_norm(
        &mut self,
        x: &Self::Tensor,
        weight: &Self::Vector,
        bias: &Self::Vector,
        eps: f32,
    ) -> Result<Self::Tensor, ComputeError>;

    /// Rotates every head of every row in place.
    fn rope(&mut self, x: &mut Self::Tensor, rope: Rope) -> Result<(), ComputeError>;

    /// Stores `k` and `v` (`[n, kv_heads * head_dim]`) and attends with `q` (`[n, heads * head_dim]`):
    /// row `i` sees the positions `0 ..= start + i`.
    fn attention(
        &mut self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        cache: &mut Self::Cache,
        shape: Attention,
    ) -> Result<Self::Tensor, ComputeError>;

    /// `silu(gate) * up`, element by element, with `silu(x) = x / (1 + e^-x)`.
    fn silu_mul(&mut self, gate: &Self::Tensor, up: &Self::Tensor) -> Result<Self::Tensor, ComputeError>;

    /// GELU, tanh approximation: `0.5 x (1 + tanh(sqrt(2/π) (x + 0.044715 x³)))`.
    /// Source: <https://arxiv.org/abs/1606.08415>.
    fn gelu(&mut self, x: &Self::Tensor) -> Result<Self::Tensor, ComputeError>;

    /// Softmax of each row, shifted by its maximum.
    fn softmax(&mut self, x: &Self::Tensor) -> Result<Self::Tensor, ComputeError>;

    /// `x += y`.
    fn add(&mut self, x: &mut Self::Tensor, y: &Self::Tensor) -> Result<(), ComputeError>;

    /// Rows `first .. first + count` as a tensor of their own.
    fn rows(&mut self, x: &Self::Tensor, first: u32, count: u32) -> Result<Self::Tensor, ComputeError>;

    /// Runs whatever was recorded and returns the tensor's elements.
    async fn read(&mut self, x: &Self::Tensor) -> Result<Vec<f32>, ComputeError>;
}

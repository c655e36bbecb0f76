//! The switch between back ends: one type that is whichever back end the machine has.

use cdi_model::compute::{Attention, CacheSpec, Compute, ComputeError, MatrixSpec, Rope};
use cdi_types::manifest::DType;

use crate::cpu::{self, Cpu};

/// A back end chosen at run time.
#[derive(Debug)]
pub enum Backend {
    /// The processor.
    Cpu(Cpu),
}

/// Something that lives in the memory of one back end.
#[derive(Debug)]
pub enum Held<C> {
    /// In the processor's memory.
    Cpu(C),
}

impl Backend {
    /// The back end that every machine has.
    #[must_use]
    pub fn cpu() -> Self {
        Self::Cpu(Cpu::new())
    }
}

/// Calls the back end with operands of its own. The arms are the list of back ends; once there are two, operands of
/// different back ends fall through to the last arm.
macro_rules! on {
    ($backend:expr, ($($operand:ident),*), |$b:ident| $call:expr) => {
        match ($backend, $($operand),*) {
            (Backend::Cpu($b), $(Held::Cpu($operand)),*) => $call,
        }
    };
}

/// As `on!`, for calls whose result lives in the same back end.
macro_rules! held {
    ($backend:expr, ($($operand:ident),*), |$b:ident| $call:expr) => {
        match ($backend, $($operand),*) {
            (Backend::Cpu($b), $(Held::Cpu($operand)),*) => $call.map(Held::Cpu),
        }
    };
}

impl Compute for Backend {
    type Matrix = Held<cpu::Matrix>;
    type Vector = Held<cpu::Vector>;
    type Tensor = Held<cpu::Tensor>;
    type Cache = Held<cpu::Cache>;

    fn kernel_id(&self) -> &str {
        on!(self, (), |b| b.kernel_id())
    }

    fn memory_bytes(&self) -> u64 {
        on!(self, (), |b| b.memory_bytes())
    }

    fn new_matrix(&mut self, spec: MatrixSpec) -> Result<Self::Matrix, ComputeError> {
        held!(self, (), |b| b.new_matrix(spec))
    }

    fn write_rows(
        &mut self,
        matrix: &mut Self::Matrix,
        first: u32,
        dtype: DType,
        bytes: &[u8],
    ) -> Result<(), ComputeError> {
        on!(self, (matrix), |b| b.write_rows(matrix, first, dtype, bytes))
    }

    fn new_vector(&mut self, values: &[f32]) -> Result<Self::Vector, ComputeError> {
        held!(self, (), |b| b.new_vector(values))
    }

    fn new_cache(&mut self, spec: CacheSpec) -> Result<Self::Cache, ComputeError> {
        held!(self, (), |b| b.new_cache(spec))
    }

    fn upload(&mut self, cols: u32, values: &[f32]) -> Result<Self::Tensor, ComputeError> {
        held!(self, (), |b| b.upload(cols, values))
    }

    fn shape(&self, tensor: &Self::Tensor) -> [u32; 2] {
        on!(self, (tensor), |b| b.shape(tensor))
    }

    fn embed(&mut self, table: &Self::Matrix, ids: &[u32]) -> Result<Self::Tensor, ComputeError> {
        held!(self, (table), |b| b.embed(table, ids))
    }

    fn matmul(&mut self, x: &Self::Tensor, w: &Self::Matrix) -> Result<Self::Tensor, ComputeError> {
        held!(self, (x, w), |b| b.matmul(x, w))
    }

    fn rms_norm(&mut self, x: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Result<Self::Tensor, ComputeError> {
        held!(self, (x, weight), |b| b.rms_norm(x, weight, eps))
    }

    fn layer_norm(
        &mut self,
        x: &Self::Tensor,
        weight: &Self::Vector,
        bias: &Self::Vector,
        eps: f32,
    ) -> Result<Self::Tensor, ComputeError> {
        held!(self, (x, weight, bias), |b| b.layer_norm(x, weight, bias, eps))
    }

    fn rope(&mut self, x: &mut Self::Tensor, rope: Rope) -> Result<(), ComputeError> {
        on!(self, (x), |b| b.rope(x, rope))
    }

    fn attention(
        &mut self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        cache: &mut Self::Cache,
        shape: Attention,
    ) -> Result<Self::Tensor, ComputeError> {
        held!(self, (q, k, v, cache), |b| b.attention(q, k, v, cache, shape))
    }

    fn silu_mul(&mut self, gate: &Self::Tensor, up: &Self::Tensor) -> Result<Self::Tensor, ComputeError> {
        held!(self, (gate, up), |b| b.silu_mul(gate, up))
    }

    fn gelu(&mut self, x: &Self::Tensor) -> Result<Self::Tensor, ComputeError> {
        held!(self, (x), |b| b.gelu(x))
    }

    fn softmax(&mut self, x: &Self::Tensor) -> Result<Self::Tensor, ComputeError> {
        held!(self, (x), |b| b.softmax(x))
    }

    fn add(&mut self, x: &mut Self::Tensor, y: &Self::Tensor) -> Result<(), ComputeError> {
        on!(self, (x, y), |b| b.add(x, y))
    }

    fn rows(&mut self, x: &Self::Tensor, first: u32, count: u32) -> Result<Self::Tensor, ComputeError> {
        held!(self, (x), |b| b.rows(x, first, count))
    }

    async fn read(&mut self, x: &Self::Tensor) -> Result<Vec<f32>, ComputeError> {
        on!(self, (x), |b| b.read(x).await)
    }
}

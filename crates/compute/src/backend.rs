//! The switch between back ends: one type that is whichever back end the machine has.
//!
//! The only file of this crate that tells a browser from a native process.

use cdi_model::compute::{Attention, CacheSpec, Compute, ComputeError, MatrixSpec, Rope};
use cdi_types::manifest::DType;

use crate::cpu::{self, Cpu};
use crate::gpu::{self, AdapterReport, Gpu, GpuError};

/// A back end chosen at run time.
#[derive(Debug)]
pub enum Backend {
    /// The processor.
    Cpu(Cpu),
    /// WebGPU.
    Gpu(Box<Gpu>),
}

/// Something that lives in the memory of one back end.
#[derive(Debug)]
pub enum Held<C, G> {
    /// In the processor's memory.
    Cpu(C),
    /// In the memory of the GPU.
    Gpu(G),
}

impl Backend {
    /// The back end that every machine has.
    #[must_use]
    pub fn cpu() -> Self {
        Self::Cpu(Cpu::new())
    }

    /// WebGPU, tested.
    ///
    /// # Errors
    /// Any [`GpuError`]; each means: use the processor.
    pub async fn gpu() -> Result<Self, GpuError> {
        Ok(Self::Gpu(Box::new(Gpu::new().await?)))
    }

    /// The adapter, where this is WebGPU.
    #[must_use]
    pub fn adapter(&self) -> Option<&AdapterReport> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(gpu) => Some(gpu.report()),
        }
    }
}

/// Calls the back end with operands of its own.
macro_rules! on {
    ($backend:expr, ($($operand:ident),*), |$b:ident| $call:expr) => {
        match ($backend, $($operand),*) {
            (Backend::Cpu($b), $(Held::Cpu($operand)),*) => $call,
            (Backend::Gpu($b), $(Held::Gpu($operand)),*) => $call,
            _ => Err(foreign()),
        }
    };
}

/// As `on!`, for calls whose result lives in the same back end.
macro_rules! held {
    ($backend:expr, ($($operand:ident),*), |$b:ident| $call:expr) => {
        match ($backend, $($operand),*) {
            (Backend::Cpu($b), $(Held::Cpu($operand)),*) => $call.map(Held::Cpu),
            (Backend::Gpu($b), $(Held::Gpu($operand)),*) => $call.map(Held::Gpu),
            _ => Err(foreign()),
        }
    };
}

fn foreign() -> ComputeError {
    ComputeError::Unsupported("an operand of another back end".to_owned())
}

impl Compute for Backend {
    type Matrix = Held<cpu::Matrix, gpu::Matrix>;
    type Vector = Held<cpu::Vector, gpu::Vector>;
    type Tensor = Held<cpu::Tensor, gpu::Tensor>;
    type Cache = Held<cpu::Cache, gpu::Cache>;

    fn kernel_id(&self) -> &str {
        match self {
            Self::Cpu(b) => b.kernel_id(),
            Self::Gpu(b) => b.kernel_id(),
        }
    }

    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Cpu(b) => b.memory_bytes(),
            Self::Gpu(b) => b.memory_bytes(),
        }
    }

    fn health(&self) -> Result<(), ComputeError> {
        match self {
            Self::Cpu(b) => b.health(),
            Self::Gpu(b) => b.health(),
        }
    }

    fn new_matrix(&mut self, spec: MatrixSpec) -> Result<Self::Matrix, ComputeError> {
        match self {
            Self::Cpu(b) => b.new_matrix(spec).map(Held::Cpu),
            Self::Gpu(b) => b.new_matrix(spec).map(Held::Gpu),
        }
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
        match self {
            Self::Cpu(b) => b.new_vector(values).map(Held::Cpu),
            Self::Gpu(b) => b.new_vector(values).map(Held::Gpu),
        }
    }

    fn new_cache(&mut self, spec: CacheSpec) -> Result<Self::Cache, ComputeError> {
        match self {
            Self::Cpu(b) => b.new_cache(spec).map(Held::Cpu),
            Self::Gpu(b) => b.new_cache(spec).map(Held::Gpu),
        }
    }

    fn upload(&mut self, cols: u32, values: &[f32]) -> Result<Self::Tensor, ComputeError> {
        match self {
            Self::Cpu(b) => b.upload(cols, values).map(Held::Cpu),
            Self::Gpu(b) => b.upload(cols, values).map(Held::Gpu),
        }
    }

    fn shape(&self, tensor: &Self::Tensor) -> [u32; 2] {
        match tensor {
            Held::Cpu(tensor) => tensor.shape(),
            Held::Gpu(tensor) => tensor.shape(),
        }
    }

    fn embed(&mut self, table: &Self::Matrix, ids: &[u32]) -> Result<Self::Tensor, ComputeError> {
        held!(self, (table), |b| b.embed(table, ids))
    }

    fn matmul(&mut self, x: &Self::Tensor, w: &Self::Matrix) -> Result<Self::Tensor, ComputeError> {
        held!(self, (x, w), |b| b.matmul(x, w))
    }

    fn qkv(&mut self, x: &Self::Tensor, w: [&Self::Matrix; 3]) -> Result<[Self::Tensor; 3], ComputeError> {
        let [q, k, v] = w;
        match (self, x, q, k, v) {
            (Self::Cpu(b), Held::Cpu(x), Held::Cpu(q), Held::Cpu(k), Held::Cpu(v)) => {
                b.qkv(x, [q, k, v]).map(|out| out.map(Held::Cpu))
            }
            (Self::Gpu(b), Held::Gpu(x), Held::Gpu(q), Held::Gpu(k), Held::Gpu(v)) => {
                b.qkv(x, [q, k, v]).map(|out| out.map(Held::Gpu))
            }
            _ => Err(foreign()),
        }
    }

    fn swiglu(
        &mut self,
        x: &Self::Tensor,
        gate: &Self::Matrix,
        up: &Self::Matrix,
    ) -> Result<Self::Tensor, ComputeError> {
        held!(self, (x, gate, up), |b| b.swiglu(x, gate, up))
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

/// Whether this process can ask for WebGPU at all. Natively the question is answered by the list of adapters.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn has_webgpu() -> bool {
    true
}

/// Whether this browser has WebGPU: `navigator.gpu` is absent without it and outside secure contexts.
#[cfg(target_arch = "wasm32")]
pub(crate) fn has_webgpu() -> bool {
    property(&js_sys::global(), "navigator").and_then(|navigator| property(&navigator, "gpu")).is_some()
}

/// Vendor and architecture of the adapter behind a device, which a native driver tells otherwise.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn adapter_family(_device: &wgpu::Device) -> Option<[String; 2]> {
    None
}

/// Vendor and architecture of the adapter behind a device. wgpu does not hand them on, and older browsers have no
/// `GPUDevice.adapterInfo`.
#[cfg(target_arch = "wasm32")]
pub(crate) fn adapter_family(device: &wgpu::Device) -> Option<[String; 2]> {
    let info = property(device.as_webgpu()?.as_ref(), "adapterInfo")?;
    Some(["vendor", "architecture"].map(|name| property(&info, name).and_then(|v| v.as_string()).unwrap_or_default()))
}

#[cfg(target_arch = "wasm32")]
fn property(object: &wasm_bindgen::JsValue, name: &str) -> Option<wasm_bindgen::JsValue> {
    js_sys::Reflect::get(object, &name.into()).ok().filter(|value| !value.is_undefined() && !value.is_null())
}

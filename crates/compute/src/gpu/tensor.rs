//! What the back end hands out besides matrices: activations, vectors and caches.

use cdi_model::compute::CacheSpec;

use crate::gpu::memory::Allocation;

/// An activation tensor `[rows, cols]` on the device.
#[derive(Debug)]
pub struct Tensor {
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    pub(crate) values: Allocation,
}

impl Tensor {
    /// `[rows, cols]`.
    pub(crate) fn shape(&self) -> [u32; 2] {
        [self.rows, self.cols]
    }

    /// Number of elements; fits because a binding holds at most 2^30.
    pub(crate) fn count(&self) -> u32 {
        self.rows * self.cols
    }
}

/// A weight vector on the device.
#[derive(Debug)]
pub struct Vector {
    pub(crate) len: u32,
    pub(crate) values: Allocation,
}

/// Keys and values of one layer for one sequence, each `[positions, kv_heads * head_dim]`.
#[derive(Debug)]
pub struct Cache {
    pub(crate) spec: CacheSpec,
    pub(crate) keys: Allocation,
    pub(crate) values: Allocation,
}

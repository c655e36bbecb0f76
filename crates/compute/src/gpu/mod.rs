//! The WebGPU back end: the kernels of `/shaders`, natively through Vulkan and in a tab through the browser.
//!
//! Operations are recorded into one compute pass; [`Compute::read`] submits it together with the copy of the
//! result, so a step is one submission and one wait. Activations come from a pool, so that steps of the same shape
//! allocate nothing. Accumulation is in f32; each kernel fixes its order of sums (see the shaders).
//!
//! Bits differ between vendors: WGSL leaves the rounding of division, `sqrt` and `exp` and the fusing of products
//! and sums to the driver. So the [kernel id](Compute::kernel_id) names the adapter and carries a hash of the bits
//! that it computes for a fixed input; F32 and Q8_0 weights and f32 activations belong to the version.

mod adapter;
mod health;
mod kernel;
mod matmul;
mod memory;
mod ops;
mod params;
mod recorder;
mod rope;
mod self_test;
mod tensor;
mod weights;

use cdi_model::compute::{Compute, ComputeError};

pub use adapter::{AdapterReport, GpuError, GpuOptions};
use health::Health;
use kernel::Kernel;
use matmul::Paths;
use memory::{Allocation, Memory};
use recorder::{Grid, Recorder};
use rope::RopeTables;
pub use tensor::{Cache, Tensor, Vector};
pub use weights::Matrix;

/// Version of the arithmetic and its formats: to be increased with every change of a kernel that changes bits.
const KERNEL_VERSION: u32 = 1;

/// A device and everything that runs on it.
pub struct Gpu {
    device: wgpu::Device,
    health: Health,
    memory: Memory,
    recorder: Recorder,
    rope_tables: RopeTables,
    report: AdapterReport,
    kernel_id: String,
    paths: Paths,
}

impl Gpu {
    /// Opens the best adapter, compiles the kernels and tests them.
    ///
    /// # Errors
    /// Any [`GpuError`]; each means that the caller should use another back end.
    pub async fn new() -> Result<Self, GpuError> {
        Self::with_options(GpuOptions::default()).await
    }

    /// As [`Gpu::new`], with limits of the caller's.
    ///
    /// # Errors
    /// Any [`GpuError`].
    pub async fn with_options(options: GpuOptions) -> Result<Self, GpuError> {
        let mut gpu = Self::untested(options).await?;
        gpu.test().await?;
        Ok(gpu)
    }

    /// Opens the device without the self-test, which takes seconds on a software adapter: to be measured first, and
    /// [tested](Self::test) before its results count.
    pub(crate) async fn untested(options: GpuOptions) -> Result<Self, GpuError> {
        let opened = adapter::open(options).await?;
        let health = Health::watch(&opened.device);
        let memory = Memory::new(opened.device.clone(), health.clone(), opened.largest_binding);
        let recorder = Recorder::new(opened.device.clone(), opened.queue);
        Ok(Self {
            device: opened.device,
            health,
            memory,
            recorder,
            rope_tables: RopeTables::default(),
            report: opened.report,
            kernel_id: String::new(),
            paths: Paths { vector: false, wide: false },
        })
    }

    /// Runs every kernel against the CPU back end and names the kernel id after the bits of the results.
    ///
    /// # Errors
    /// [`GpuError::SelfTest`] or [`GpuError::Compute`]: the device must not be used.
    pub(crate) async fn test(&mut self) -> Result<(), GpuError> {
        let verdict = self_test::run(self).await?;
        self.paths = verdict.paths;
        self.kernel_id = format!("wgpu-f32-v{KERNEL_VERSION}-{}-{:08x}", self.report.class(), verdict.fingerprint);
        self.trim();
        Ok(())
    }

    /// What the device runs on.
    #[must_use]
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// Waits until the browser has told whether allocations succeeded. [`Compute::read`] does it too; a loader that
    /// calls it after each matrix learns of exhausted memory before it fetches the next.
    ///
    /// # Errors
    /// [`ComputeError::OutOfMemory`] or [`ComputeError::DeviceLost`].
    pub async fn settle(&mut self) -> Result<(), ComputeError> {
        if let Err(error) = self.memory.settle().await {
            // Free buffers and tables may be the ones that are missing.
            self.recorder.discard();
            self.rope_tables.clear();
            self.memory.drop_free();
            return Err(error);
        }
        self.health.check()
    }

    /// Gives back the memory that is kept for the activations of coming steps.
    pub fn trim(&mut self) {
        self.rope_tables.clear();
        self.memory.drop_free();
        self.flush();
    }

    /// Gives up the device and all its memory at once. Every later operation fails with
    /// [`ComputeError::DeviceLost`].
    pub fn release(&mut self) {
        self.device.destroy();
        self.health.report("released".to_owned());
    }

    /// Submits recorded commands ahead of a write to memory that they may read.
    fn flush(&mut self) {
        if self.recorder.has_commands() {
            self.recorder.submit(None);
            self.recorder.sweep(&self.health);
        }
        self.memory.submitted();
    }

    fn dispatch(&mut self, kernel: Kernel, words: &[u32], buffers: &[&Allocation], grid: Grid) {
        if self.recorder.is_full() {
            self.flush();
        }
        self.recorder.dispatch(kernel, words, buffers, grid);
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), ComputeError> {
    if holds { Ok(()) } else { Err(ComputeError::Shape(what())) }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // A browser would otherwise keep the device until its garbage collector comes by.
        self.device.destroy();
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu")
            .field("kernel_id", &self.kernel_id())
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

/// The back end for a unit test, or `None` after a visible line where the machine has no adapter.
#[cfg(test)]
fn open_for_test() -> Option<Gpu> {
    use std::io::Write as _;

    let opened = futures::executor::block_on(Gpu::new());
    if let Err(GpuError::AdapterRefused(_)) = opened {
        // Not eprintln: the harness would keep it for itself.
        writeln!(std::io::stderr(), "SKIPPED gpu unit test: no adapter").expect("standard error");
        return None;
    }
    Some(opened.expect("a working adapter"))
}

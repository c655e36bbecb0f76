//! Which back end to use, by measurement.

use cdi_model::compute::ComputeError;

use crate::backend::Backend;
use crate::cpu::{Cpu, Variant};
use crate::gpu::{AdapterReport, Gpu, GpuError, GpuOptions};
use crate::probe::Probe;

/// The faster back end, and what was found on the way to it.
#[derive(Debug)]
pub struct Choice {
    /// To be used.
    pub backend: Backend,
    /// The processor.
    pub cpu: Probe,
    /// The processor's instructions that were measured to be the fastest.
    pub variant: Variant,
    /// The GPU, or why there is none. It may be there and not be chosen: a software adapter is slower than the
    /// processor that plays it.
    pub gpu: Result<(AdapterReport, Probe), GpuError>,
}

impl Choice {
    /// Opens and measures what this machine has, in about a second. `now_ms` is a steady clock in milliseconds.
    ///
    /// # Errors
    /// [`ComputeError::OutOfMemory`] when not even the processor can be measured.
    pub async fn fastest(now_ms: impl Fn() -> f64) -> Result<Self, ComputeError> {
        let (cpu, cpu_probe) = fastest_cpu(&now_ms).await?;
        let variant = cpu.variant();
        let cpu = Backend::Cpu(cpu);
        match measured_gpu(cpu_probe, &now_ms).await {
            Ok((gpu, report, probe)) => {
                Ok(Self { backend: gpu.unwrap_or(cpu), cpu: cpu_probe, variant, gpu: Ok((report, probe)) })
            }
            Err(error) => Ok(Self { backend: cpu, cpu: cpu_probe, variant, gpu: Err(error) }),
        }
    }
}

/// The fastest variant of the kernels; they all give the same bits.
///
/// # Errors
/// [`ComputeError::OutOfMemory`].
pub async fn fastest_cpu(now_ms: impl Fn() -> f64) -> Result<(Cpu, Probe), ComputeError> {
    let mut fastest = Cpu::new();
    let mut probe = Probe::measure(&mut fastest, &now_ms).await?;
    let others = Variant::candidates().into_iter().filter(|variant| *variant != fastest.variant());
    for mut cpu in others.filter_map(Cpu::with).collect::<Vec<_>>() {
        let other = Probe::measure(&mut cpu, &now_ms).await?;
        if other.matvec_gb_s > probe.matvec_gb_s {
            (fastest, probe) = (cpu, other);
        }
    }
    Ok((fastest, probe))
}

/// The GPU, tested, if it is faster than the processor; a slower one is not worth the test.
async fn measured_gpu(
    cpu: Probe,
    now_ms: impl Fn() -> f64,
) -> Result<(Option<Backend>, AdapterReport, Probe), GpuError> {
    let mut gpu = Gpu::untested(GpuOptions::default()).await?;
    let report = gpu.report().clone();
    let probe = Probe::measure(&mut gpu, now_ms).await?;
    if probe.matvec_gb_s <= cpu.matvec_gb_s {
        return Ok((None, report, probe));
    }
    gpu.test().await?;
    Ok((Some(Backend::Gpu(Box::new(gpu))), report, probe))
}

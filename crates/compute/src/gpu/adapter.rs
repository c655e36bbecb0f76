//! From nothing to a device, with a typed reason for every way that can fail.

use cdi_model::compute::ComputeError;

use crate::backend;

/// Why there is no GPU back end. Each variant means: use another back end; the text is fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The browser has no WebGPU, or the page is not in a secure context.
    #[error("this browser has no WebGPU")]
    Unavailable,
    /// There is WebGPU, but no adapter: no driver, a blocked one, or none allowed.
    #[error("no GPU adapter: {0}")]
    AdapterRefused(String),
    /// The adapter gave no device.
    #[error("the GPU adapter refused a device: {0}")]
    DeviceRefused(String),
    /// The device computes, but wrongly.
    #[error("the GPU failed its self-test: {0}")]
    SelfTest(String),
    /// The device failed before it could be tested.
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

/// What the caller may ask of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuOptions {
    /// Most bytes of one buffer; the adapter's own limit where that is lower. Larger matrices are split by rows.
    pub max_buffer_bytes: u64,
}

impl Default for GpuOptions {
    /// Whatever the adapter allows.
    fn default() -> Self {
        Self { max_buffer_bytes: u64::MAX }
    }
}

/// What a device runs on, for display and for ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterReport {
    /// Name for people, as far as the system tells it.
    pub name: String,
    /// Maker, such as `nvidia`, or the driver natively.
    pub vendor: String,
    /// Family, such as `ampere`, or the device natively.
    pub architecture: String,
    /// Interface: `webgpu` or `vulkan`.
    pub backend: String,
    /// Whether the processor plays the GPU. Slower than the CPU back end on the same cores, by measurement.
    pub is_software: bool,
    /// Most bytes of one buffer.
    pub max_buffer_bytes: u64,
}

impl AdapterReport {
    /// Maker and family in the letters of a [kernel id](cdi_model::compute::Compute::kernel_id).
    pub(crate) fn class(&self) -> String {
        let words = format!("{} {}", self.vendor, self.architecture).to_lowercase();
        let words: Vec<&str> =
            words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let mut class = words.join("-");
        class.truncate(MAX_CLASS_BYTES);
        if class.is_empty() { "unknown".to_owned() } else { class }
    }
}

/// Keeps kernel ids within what an advert carries.
const MAX_CLASS_BYTES: usize = 64;

/// A device and what is known of it.
pub(crate) struct Opened {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) report: AdapterReport,
    pub(crate) largest_binding: u64,
}

pub(crate) async fn open(options: GpuOptions) -> Result<Opened, GpuError> {
    if !backend::has_webgpu() {
        return Err(GpuError::Unavailable);
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance
        .request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        })
        .await
        .map_err(|error| GpuError::AdapterRefused(error.to_string()))?;
    let info = adapter.get_info();
    let offered = adapter.limits();
    // The rest stays at WebGPU's defaults, which every adapter has and the kernels keep to.
    let required_limits = wgpu::Limits {
        max_buffer_size: offered.max_buffer_size,
        max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
        ..wgpu::Limits::default()
    };
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: Some("cdi"),
            required_limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        })
        .await
        .map_err(|error| GpuError::DeviceRefused(error.to_string()))?;
    let [vendor, architecture] =
        backend::adapter_family(&device).unwrap_or_else(|| [info.driver.clone(), info.name.clone()]);
    let largest_binding =
        offered.max_buffer_size.min(offered.max_storage_buffer_binding_size).min(options.max_buffer_bytes) / 4 * 4;
    let report = AdapterReport {
        name: if info.name.is_empty() { format!("{vendor} {architecture}") } else { info.name.clone() },
        is_software: info.device_type == wgpu::DeviceType::Cpu || is_software(&architecture),
        vendor,
        architecture,
        backend: match info.backend {
            wgpu::Backend::BrowserWebGpu => "webgpu".to_owned(),
            other => other.to_string(),
        },
        max_buffer_bytes: largest_binding,
    };
    Ok(Opened { device, queue, report, largest_binding })
}

/// Not every browser marks a software adapter as a fallback.
fn is_software(architecture: &str) -> bool {
    let architecture = architecture.to_lowercase();
    ["swiftshader", "llvmpipe", "lavapipe", "warp", "basic render"].iter().any(|name| architecture.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_short_and_plain() {
        let report = |vendor: &str, architecture: &str| AdapterReport {
            name: String::new(),
            vendor: vendor.to_owned(),
            architecture: architecture.to_owned(),
            backend: "vulkan".to_owned(),
            is_software: false,
            max_buffer_bytes: 0,
        };
        assert_eq!(report("Google", "SwiftShader").class(), "google-swiftshader");
        assert_eq!(
            report("llvmpipe", "llvmpipe (LLVM 15.0.6, 256 bits)").class(),
            "llvmpipe-llvmpipe-llvm-15-0-6-256-bits"
        );
        assert_eq!(report("", "").class(), "unknown");
        assert!(report("ä", &"x".repeat(500)).class().len() <= MAX_CLASS_BYTES);
    }
}

//! The WGSL kernels of `/shaders` and their pipelines.

use std::num::NonZeroU64;

use crate::gpu::params::SLOT_BYTES;

/// Every kernel. The number is its place in [`KERNELS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    MatmulF32,
    MatmulQ8,
    MatmulWideF32,
    MatmulWideQ8,
    MatvecF32,
    MatvecQ8,
    RmsNorm,
    LayerNorm,
    Softmax,
    Attention,
    KvStore,
    SiluMul,
    Gelu,
    Add,
    CopyRows,
    Rope,
    EmbedF32,
    EmbedQ8,
}

/// Source of a kernel and its storage bindings: those it reads come first, then those it writes.
struct Source {
    name: &'static str,
    wgsl: &'static str,
    reads: u32,
    writes: u32,
}

macro_rules! source {
    ($name:literal, $reads:literal, $writes:literal) => {
        Source {
            name: $name,
            wgsl: include_str!(concat!("../../../../shaders/", $name, ".wgsl")),
            reads: $reads,
            writes: $writes,
        }
    };
}

/// In the order of [`Kernel`].
const KERNELS: [Source; 18] = [
    source!("matmul_f32", 2, 1),
    source!("matmul_q8_0", 3, 1),
    source!("matmul_wide_f32", 2, 1),
    source!("matmul_wide_q8_0", 3, 1),
    source!("matvec_f32", 2, 1),
    source!("matvec_q8_0", 3, 1),
    source!("rms_norm", 2, 1),
    source!("layer_norm", 3, 1),
    source!("softmax", 1, 1),
    source!("attention", 3, 1),
    source!("kv_store", 2, 2),
    source!("silu_mul", 2, 1),
    source!("gelu", 1, 1),
    source!("add", 1, 1),
    source!("copy_rows", 1, 1),
    source!("rope", 1, 1),
    source!("embed_f32", 2, 1),
    source!("embed_q8_0", 3, 1),
];

/// A compiled kernel.
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// All kernels, compiled once for a device. Kernels with the same bindings share a layout.
pub(crate) struct Pipelines(Vec<Pipeline>);

impl Pipelines {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        let mut layouts: Vec<((u32, u32), wgpu::BindGroupLayout)> = Vec::new();
        let compiled = KERNELS.iter().map(|source| {
            let bindings = (source.reads, source.writes);
            let known = layouts.iter().find(|(key, _)| *key == bindings).map(|(_, layout)| layout.clone());
            let layout = known.unwrap_or_else(|| {
                let layout = bind_group_layout(device, source.reads, source.writes);
                layouts.push((bindings, layout.clone()));
                layout
            });
            Pipeline { pipeline: compile(device, source, &layout), layout }
        });
        Self(compiled.collect())
    }

    pub(crate) fn get(&self, kernel: Kernel) -> &Pipeline {
        &self.0[kernel as usize]
    }
}

/// Binding 0 is the parameter slot, chosen by a dynamic offset; storage buffers follow.
fn bind_group_layout(device: &wgpu::Device, reads: u32, writes: u32) -> wgpu::BindGroupLayout {
    let entry = |binding, ty, has_dynamic_offset, min_binding_size| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
        count: None,
    };
    let storage = |binding| {
        let read_only = binding <= reads;
        entry(binding, wgpu::BufferBindingType::Storage { read_only }, false, None)
    };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true, NonZeroU64::new(SLOT_BYTES))];
    entries.extend((1..=reads + writes).map(storage));
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn compile(device: &wgpu::Device, source: &Source, layout: &wgpu::BindGroupLayout) -> wgpu::ComputePipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(source.name),
        source: wgpu::ShaderSource::Wgsl(source.wgsl.into()),
    });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(source.name),
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(source.name),
        layout: Some(&layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_the_table() {
        for (kernel, name) in [
            (Kernel::MatmulF32, "matmul_f32"),
            (Kernel::MatvecQ8, "matvec_q8_0"),
            (Kernel::Attention, "attention"),
            (Kernel::Add, "add"),
            (Kernel::EmbedQ8, "embed_q8_0"),
        ] {
            assert_eq!(KERNELS[kernel as usize].name, name);
        }
    }
}

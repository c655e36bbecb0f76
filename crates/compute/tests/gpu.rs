//! The WebGPU back end on the Vulkan adapter of this machine.

use std::io::{self, Write as _};
use std::sync::Once;
use std::time::Instant;

use cdi_compute::backend::Backend;
use cdi_compute::conformance;
use cdi_compute::gpu::{Gpu, GpuError, GpuOptions};
use cdi_compute::probe::Probe;
use cdi_model::compute::{Compute, ComputeError, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;
use futures::executor::block_on;

/// The back end, or `None` after a visible line where the machine has no adapter.
fn open(options: GpuOptions) -> Option<Gpu> {
    let opened = block_on(Gpu::with_options(options));
    if let Err(GpuError::AdapterRefused(_)) = opened {
        // Once, and not by eprintln, whose text the harness would keep for itself.
        static SKIPPED: Once = Once::new();
        SKIPPED.call_once(|| writeln!(io::stderr(), "SKIPPED gpu conformance: no adapter").expect("standard error"));
        return None;
    }
    Some(opened.expect("a working adapter"))
}

macro_rules! cases {
    ($($case:ident,)*) => {$(
        #[test]
        fn $case() {
            if let Some(mut gpu) = open(GpuOptions::default()) {
                block_on(conformance::$case(&mut gpu));
            }
        }
    )*};
}
cdi_compute::conformance_cases!(cases);

#[test]
fn opens_and_measures() {
    let Some(mut gpu) = open(GpuOptions::default()) else { return };
    let clock = Instant::now();
    let probe = block_on(Probe::measure(&mut gpu, || clock.elapsed().as_secs_f64() * 1e3)).expect("probe");
    eprintln!("{gpu:?} {probe:?} in {:?}", clock.elapsed());
    assert!(probe.matvec_gb_s > 0.0 && probe.step_ms > 0.0);
}

#[test]
fn a_split_matrix_computes_the_same() {
    let (rows, cols) = (2500_u32, 256_u32);
    let values: Vec<f32> = (0..rows * cols).map(|i| (i * 7 % 61) as f32 / 61.0 - 0.5).collect();
    let mut results = Vec::new();
    for max_buffer_bytes in [u64::MAX, 1 << 18] {
        let Some(mut gpu) = open(GpuOptions { max_buffer_bytes }) else { return };
        let mut bits = Vec::new();
        for format in [WeightFormat::F32, WeightFormat::Q8_0] {
            let mut w = gpu.new_matrix(MatrixSpec { rows, cols, format }).expect("matrix");
            gpu.write_rows(&mut w, 0, DType::F32, bytemuck::cast_slice(&values)).expect("rows");
            for n in [1, 3, 20] {
                let x = gpu.upload(cols, &values[..(n * cols) as usize]).expect("upload");
                let y = gpu.matmul(&x, &w).expect("matmul");
                bits.extend(block_on(gpu.read(&y)).expect("read").into_iter().map(f32::to_bits));
            }
            let y = gpu.embed(&w, &[0, 255, 256, 1023, 1024, 2499]).expect("embed");
            bits.extend(block_on(gpu.read(&y)).expect("read").into_iter().map(f32::to_bits));
        }
        results.push(bits);
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn the_switch_refuses_operands_of_another_back_end() {
    let Some(gpu) = open(GpuOptions::default()) else { return };
    let (mut gpu, mut cpu) = (Backend::Gpu(Box::new(gpu)), Backend::cpu());
    let x = gpu.upload(4, &[1.0; 4]).expect("upload");
    let y = cpu.upload(4, &[1.0; 4]).expect("upload");
    assert_eq!(gpu.shape(&y), [1, 4]);
    assert!(matches!(gpu.silu_mul(&x, &y), Err(ComputeError::Unsupported(_))));
    assert!(matches!(block_on(cpu.read(&x)), Err(ComputeError::Unsupported(_))));
    assert_eq!(block_on(gpu.read(&x)), Ok(vec![1.0; 4]));
}

#[test]
fn a_released_device_says_so_for_ever() {
    let Some(mut gpu) = open(GpuOptions::default()) else { return };
    let x = gpu.upload(4, &[1.0; 4]).expect("upload");
    gpu.release();
    assert!(matches!(gpu.gelu(&x), Err(ComputeError::DeviceLost(_))));
    assert!(matches!(block_on(gpu.read(&x)), Err(ComputeError::DeviceLost(_))));
    assert!(gpu.upload(4, &[1.0; 4]).expect_err("lost").is_fatal());
}

#[test]
fn steady_state_allocates_nothing() {
    let Some(mut gpu) = open(GpuOptions::default()) else { return };
    let mut step = || {
        let x = gpu.upload(64, &[0.25; 192]).expect("upload");
        let y = gpu.gelu(&x).expect("gelu");
        let z = gpu.silu_mul(&x, &y).expect("silu_mul");
        block_on(gpu.read(&z)).expect("read");
        drop((x, y, z));
        gpu.memory_bytes()
    };
    // An upload cannot take a buffer of the step before it, so two sets of buffers alternate.
    step();
    let held = step();
    assert!((0..10).all(|_| step() == held));
}

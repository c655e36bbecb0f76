//! A small computation at start, because some drivers compute wrongly without saying so.
//!
//! Every operation runs on the device and on the CPU back end. The bits of the device's results become part of the
//! kernel id: vendor and family alone do not fix them, the driver and the browser's shader compiler have a say.

use cdi_model::compute::{Attention, CacheSpec, Compute, ComputeError, MatrixSpec, Rope, WeightFormat};
use cdi_types::manifest::DType;
use half::f16;

use crate::cpu::Cpu;
use crate::gpu::matmul::{Path, Paths};
use crate::gpu::{Gpu, GpuError};

/// Several rounds of the vector kernels, and a Q8_0 row with an odd number of scales.
const INNER: u32 = 17 * 32;
/// More than a tile of the wide kernels, which takes 64.
const OUTPUTS: u32 = 65;
/// Few, because this runs at every start, also on adapters that a processor plays.
const ROWS: u32 = 3;
/// More positions than a tile of the attention kernel.
const HEADS: Attention = Attention { heads: 2, kv_heads: 1, head_dim: 12, start: 0 };
const POSITIONS: u32 = 66;

/// Relative and absolute bound: rounding of 544 products in f32 stays far below, a wrong index far above.
const TOLERANCE: f32 = 1e-3;

/// What the device was found to do.
pub(crate) struct Verdict {
    /// Which kernels give the bits of the tiled ones. WGSL lets a driver reorder and fuse sums, so two kernels of
    /// one order may still differ; then the tiled kernels do all the work.
    pub(crate) paths: Paths,
    /// FNV-1a over the bits of all results.
    pub(crate) fingerprint: u32,
}

/// Tests every kernel of a device.
pub(crate) async fn run(gpu: &mut Gpu) -> Result<Verdict, GpuError> {
    let computed = exercise(gpu, [WeightFormat::F32, WeightFormat::Q8_0]).await?;
    // With weights in 8 bits the CPU rounds activations too; in f32 the same elements give what the device should.
    let expected = exercise(&mut Cpu::new(), [WeightFormat::F32; 2]).await?;
    for ((what, computed), (_, expected)) in computed.iter().zip(&expected) {
        compare(what, computed, expected)?;
    }
    let paths = Paths { vector: agrees(gpu, Path::Vector).await?, wide: agrees(gpu, Path::Wide).await? };
    let bytes = computed.iter().flat_map(|(_, values)| values).flat_map(|value| value.to_bits().to_le_bytes());
    let fingerprint = bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    Ok(Verdict { paths, fingerprint })
}

type Results = Vec<(&'static str, Vec<f32>)>;

/// Runs every operation, products in both formats, and returns names and results.
async fn exercise<C: Compute>(c: &mut C, formats: [WeightFormat; 2]) -> Result<Results, ComputeError> {
    let mut results = Results::new();
    let x = c.upload(INNER, &pattern(ROWS * INNER, 61))?;
    let y = c.upload(INNER, &pattern(ROWS * INNER, 29))?;
    let weight = c.new_vector(&pattern(INNER, 17))?;
    let bias = c.new_vector(&pattern(INNER, 19))?;
    for format in formats {
        let w = load(c, format)?;
        let product = c.matmul(&x, &w)?;
        results.push(("matmul", c.read(&product).await?));
        let rows = c.embed(&w, &[OUTPUTS - 1, 0, 7])?;
        results.push(("embed", c.read(&rows).await?));
    }
    for (what, result) in [
        ("rms_norm", c.rms_norm(&x, &weight, 1e-5)?),
        ("layer_norm", c.layer_norm(&x, &weight, &bias, 1e-5)?),
        ("silu_mul", c.silu_mul(&x, &y)?),
        ("gelu", c.gelu(&x)?),
        ("softmax", c.softmax(&x)?),
        ("rows", c.rows(&x, 1, ROWS - 1)?),
    ] {
        results.push((what, c.read(&result).await?));
    }
    let mut rotated = x;
    c.rope(&mut rotated, Rope { head_dim: 32, theta: 10_000.0, start: 1_000 })?;
    c.add(&mut rotated, &y)?;
    results.push(("rope and add", c.read(&rotated).await?));

    let Attention { heads, kv_heads, head_dim, .. } = HEADS;
    let q = c.upload(heads * head_dim, &pattern(POSITIONS * heads * head_dim, 61))?;
    let k = c.upload(kv_heads * head_dim, &pattern(POSITIONS * kv_heads * head_dim, 29))?;
    let v = c.upload(kv_heads * head_dim, &pattern(POSITIONS * kv_heads * head_dim, 17))?;
    let mut cache = c.new_cache(CacheSpec { kv_heads, head_dim, positions: POSITIONS })?;
    let attended = c.attention(&q, &k, &v, &mut cache, HEADS)?;
    results.push(("attention", c.read(&attended).await?));
    Ok(results)
}

/// Whether a path gives the bits of the tiled kernels.
async fn agrees(gpu: &mut Gpu, path: Path) -> Result<bool, GpuError> {
    let mut agree = true;
    for format in [WeightFormat::F32, WeightFormat::Q8_0] {
        let w = load(gpu, format)?;
        let rows = if path == Path::Vector { 1 } else { ROWS };
        let x = gpu.upload(INNER, &pattern(rows * INNER, 61))?;
        let [tested, tiled] = [gpu.matmul_by(path, &x, &w)?, gpu.matmul_by(Path::Tile, &x, &w)?];
        let (tested, tiled) = (gpu.read(&tested).await?, gpu.read(&tiled).await?);
        compare("matmul", &tested, &tiled)?;
        agree &= tested.iter().zip(&tiled).all(|(a, b)| a.to_bits() == b.to_bits());
    }
    Ok(agree)
}

fn compare(what: &str, computed: &[f32], expected: &[f32]) -> Result<(), GpuError> {
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
    if computed.len() == expected.len() && computed.iter().zip(expected).all(close) {
        return Ok(());
    }
    let first = computed.iter().zip(expected).position(|pair| !close(pair)).unwrap_or(0);
    let (got, wanted) = (computed.get(first), expected.get(first));
    Err(GpuError::SelfTest(format!("{what}: element {first} is {got:?} and should be {wanted:?}")))
}

/// Values between -2 and 2 that are no multiples of powers of two, so that roundings show, and do not repeat with
/// the tiles of a kernel.
fn pattern(count: u32, period: u16) -> Vec<f32> {
    let step = |i: u32| u16::try_from(i * 7 % u32::from(period)).unwrap_or(0);
    (0..count).map(|i| (f32::from(step(i)) / f32::from(period) - 0.5) * 4.0).collect()
}

/// A matrix of blocks with scales of their own, whose elements both formats keep exactly.
fn load<C: Compute>(c: &mut C, format: WeightFormat) -> Result<C::Matrix, ComputeError> {
    let mut stored = Vec::new();
    for (block, scale) in pattern(OUTPUTS * INNER / 32, 37).into_iter().enumerate() {
        stored.extend(f16::from_f32(scale / 256.0).to_le_bytes());
        stored.extend((0..32).map(|i| (block * 32 + i * 5 + i * i).to_le_bytes()[0]));
    }
    let mut matrix = c.new_matrix(MatrixSpec { rows: OUTPUTS, cols: INNER, format })?;
    c.write_rows(&mut matrix, 0, DType::Q8_0, &stored)?;
    Ok(matrix)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::gpu::open_for_test;

    /// Fails where a driver orders the sums of the kernels differently, and then says which adapter it is.
    #[test]
    fn all_kernels_give_the_same_bits_again_and_again() {
        let Some(mut gpu) = open_for_test() else { return };
        assert_eq!(gpu.paths, Paths { vector: true, wide: true }, "{gpu:?}");
        let verdict = block_on(run(&mut gpu)).expect("a second run");
        assert_eq!(verdict.paths, gpu.paths);
        assert!(gpu.kernel_id.ends_with(&format!("-{:08x}", verdict.fingerprint)), "{gpu:?}");
    }

    #[test]
    fn differences_beyond_rounding_are_reported() {
        assert!(compare("x", &[1.0, 1e6], &[1.000_1, 1.000_1e6]).is_ok());
        for wrong in [&[1.0, 1.01][..], &[1.0, f32::NAN], &[1.0]] {
            assert!(matches!(compare("x", wrong, &[1.0, 1.0]), Err(GpuError::SelfTest(_))), "{wrong:?}");
        }
    }
}

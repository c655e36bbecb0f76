//! A small known computation at start: some drivers compute wrongly without saying so.

use cdi_model::compute::{Compute, ComputeError, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;
use half::f16;

use crate::gpu::{Gpu, GpuError, Matrix, Tensor};

/// Several rounds of the matvec kernels, and a Q8_0 row with an odd number of scales.
const INNER: u32 = 33 * 32;
const OUTPUTS: u32 = 21;
const ROWS: u32 = 3;

/// Tests the device. Returns whether the matvec kernels give the bits of the matmul kernels.
///
/// WGSL lets a driver reorder and fuse sums, so two kernels of the same order may still differ on some driver. A row
/// must have the same bits alone and among others, so there the matmul kernels do all the work.
pub(crate) async fn run(gpu: &mut Gpu) -> Result<bool, GpuError> {
    let weights = Weights::new();
    let mut agree = true;
    for format in [WeightFormat::F32, WeightFormat::Q8_0] {
        let w = weights.load(gpu, format)?;
        let x: Vec<f32> = (0..ROWS * INNER).map(|i| pattern(i, 61) / 32.0).collect();
        let tensor = gpu.upload(INNER, &x)?;
        let product = gpu.matmul(&tensor, &w)?;
        let product = gpu.read(&product).await?;
        let expected = x.chunks_exact(INNER as usize).flat_map(|x| weights.product(x));
        compare("matmul", &product, expected)?;

        let row = gpu.rows(&tensor, ROWS - 1, 1)?;
        let alone = row_product(gpu, &row, &w, true).await?;
        let among = row_product(gpu, &row, &w, false).await?;
        compare("matvec", &alone, among.iter().map(|v| f64::from(*v)))?;
        agree &= same_bits(&alone, &among);
        if !same_bits(&among, &product[product.len() - OUTPUTS as usize..]) {
            return Err(GpuError::SelfTest("a row has other bits alone than among others".to_owned()));
        }
    }
    let scores: Vec<f32> = (0..ROWS * OUTPUTS).map(|i| pattern(i, 29)).collect();
    let tensor = gpu.upload(OUTPUTS, &scores)?;
    let softmax = gpu.softmax(&tensor)?;
    let softmax = gpu.read(&softmax).await?;
    let expected = scores.chunks_exact(OUTPUTS as usize).flat_map(|row| {
        let powers: Vec<f64> = row.iter().map(|v| f64::from(*v).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(move |power| power / sum)
    });
    compare("softmax", &softmax, expected)?;
    Ok(agree)
}

async fn row_product(gpu: &mut Gpu, row: &Tensor, w: &Matrix, matvec: bool) -> Result<Vec<f32>, ComputeError> {
    gpu.matvec = matvec;
    let product = gpu.matmul(row, w)?;
    gpu.read(&product).await
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Relative and absolute bound: 1,056 products in f32 stay far below, a wrong index far above.
const TOLERANCE: f64 = 1e-4;

fn compare(what: &str, computed: &[f32], expected: impl Iterator<Item = f64>) -> Result<(), GpuError> {
    let expected: Vec<f64> = expected.collect();
    let close = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() <= TOLERANCE * b.abs().max(1.0);
    if computed.len() == expected.len() && computed.iter().zip(&expected).all(close) {
        return Ok(());
    }
    let first = computed.iter().zip(&expected).position(|pair| !close(pair)).unwrap_or(0);
    let (got, wanted) = (computed.get(first), expected.get(first));
    Err(GpuError::SelfTest(format!("{what}: element {first} is {got:?} and should be {wanted:?}")))
}

/// Whole numbers around zero that do not repeat with the tiles of a kernel.
#[allow(clippy::cast_precision_loss, reason = "small whole numbers")]
fn pattern(i: u32, period: u32) -> f32 {
    (i * 7 % period) as f32 / 4.0 - period as f32 / 8.0
}

/// A Q8_0 matrix and its elements, which the f32 matrix has too.
struct Weights {
    stored: Vec<u8>,
    elements: Vec<f32>,
}

impl Weights {
    fn new() -> Self {
        let mut weights = Self { stored: Vec::new(), elements: Vec::new() };
        for block in 0..OUTPUTS * INNER / 32 {
            let scale = f16::from_f32((pattern(block, 17) + 4.0) / 64.0);
            weights.stored.extend(scale.to_le_bytes());
            for i in 0..32 {
                let quant = i8::try_from((block * 32 + i) * 5 % 251).map_or(-90, |quant| quant - 60);
                weights.stored.push(quant.cast_unsigned());
                weights.elements.push(f32::from(quant) * scale.to_f32());
            }
        }
        weights
    }

    fn load(&self, gpu: &mut Gpu, format: WeightFormat) -> Result<Matrix, ComputeError> {
        let mut matrix = gpu.new_matrix(MatrixSpec { rows: OUTPUTS, cols: INNER, format })?;
        match format {
            WeightFormat::F32 => {
                gpu.write_rows(&mut matrix, 0, DType::F32, bytemuck::cast_slice(&self.elements))?;
            }
            WeightFormat::Q8_0 => gpu.write_rows(&mut matrix, 0, DType::Q8_0, &self.stored)?,
        }
        Ok(matrix)
    }

    fn product(&self, x: &[f32]) -> Vec<f64> {
        let rows = self.elements.chunks_exact(INNER as usize);
        rows.map(|w| w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()).collect()
    }
}

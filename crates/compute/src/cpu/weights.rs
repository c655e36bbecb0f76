//! Weight matrices and their conversion from storage types.

use cdi_model::compute::{ComputeError, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;
use half::f16;

use super::buffer::{Buffer, Meter};
use super::int8::{Block, Q4Block, Q8Block, ROWS};
use crate::stored::{BLOCK, block4, block8, widen};

/// A weight matrix. Rows that were not written yet are zero.
#[derive(Debug)]
pub struct Matrix {
    pub(super) spec: MatrixSpec,
    pub(super) weights: Weights,
}

/// Quantised blocks stand in groups of eight rows, one after the other; each group holds its blocks in the order of
/// the columns, and the last one is filled up with rows of zeros.
#[derive(Debug)]
pub(super) enum Weights {
    F32(Buffer<f32>),
    Q8(Buffer<Q8Block>),
    Q4(Buffer<Q4Block>),
}

impl Matrix {
    pub(super) fn new(meter: &Meter, spec: MatrixSpec) -> Result<Self, ComputeError> {
        if spec.rows == 0 || spec.cols == 0 {
            return Err(ComputeError::Shape(format!("matrix of [{}, {}]", spec.rows, spec.cols)));
        }
        if !spec.cols.is_multiple_of(spec.format.block()) {
            return Err(ComputeError::Shape(format!("{:?} rows of {} elements", spec.format, spec.cols)));
        }
        let [rows, cols] = [spec.rows, spec.cols].map(u64::from);
        let blocks = rows.div_ceil(ROWS as u64) * (cols / BLOCK as u64);
        let weights = match spec.format {
            WeightFormat::F32 => Weights::F32(meter.zeroed(rows.saturating_mul(cols))?),
            WeightFormat::Q8_0 => Weights::Q8(meter.zeroed(blocks)?),
            WeightFormat::Q4_0 => Weights::Q4(meter.zeroed(blocks)?),
        };
        Ok(Self { spec, weights })
    }

    pub(super) fn write(&mut self, first: u32, dtype: DType, bytes: &[u8]) -> Result<(), ComputeError> {
        let range = self.stored_rows(first, dtype, bytes)?;
        let cols = self.spec.cols as usize;
        match &mut self.weights {
            Weights::F32(values) => {
                widen(dtype, bytes, &mut values[range.start * cols..range.end * cols]);
                Ok(())
            }
            Weights::Q8(blocks) => pack(blocks, cols, range, |index| block8(dtype, bytes, index)),
            Weights::Q4(blocks) => pack(blocks, cols, range, |index| block4(dtype, bytes, index)),
        }
    }

    /// The rows that `bytes` holds.
    fn stored_rows(&self, first: u32, dtype: DType, bytes: &[u8]) -> Result<std::ops::Range<usize>, ComputeError> {
        let cols = self.spec.cols;
        let shape =
            |what: &str| ComputeError::Shape(format!("{what}: {} bytes of {dtype:?} into rows of {cols}", bytes.len()));
        let row_bytes = dtype.row_bytes(cols).ok_or_else(|| shape("not whole blocks"))?;
        let length = bytes.len() as u64;
        if length == 0 || !length.is_multiple_of(row_bytes) {
            return Err(shape("not whole rows"));
        }
        let end = u64::from(first).saturating_add(length / row_bytes);
        if end > u64::from(self.spec.rows) {
            return Err(shape("more rows than the matrix has"));
        }
        let end = usize::try_from(end).map_err(|_| shape("too many rows"))?;
        Ok(first as usize..end)
    }

    /// Writes row `row` to `out`, as f32.
    pub(super) fn widen(&self, row: usize, out: &mut [f32]) {
        match &self.weights {
            Weights::F32(values) => out.copy_from_slice(&values[row * out.len()..][..out.len()]),
            Weights::Q8(blocks) => unpack(blocks, row, out),
            Weights::Q4(blocks) => unpack(blocks, row, out),
        }
    }
}

/// Packs the stored blocks of the rows `range`, which `stored` gives by their number.
fn pack<B: Block>(
    blocks: &mut [B],
    cols: usize,
    range: std::ops::Range<usize>,
    stored: impl Fn(usize) -> ([i8; BLOCK], f16),
) -> Result<(), ComputeError> {
    let in_a_row = cols / BLOCK;
    for (i, row) in range.enumerate() {
        let group = &mut blocks[row / ROWS * in_a_row..][..in_a_row];
        for (column, block) in group.iter_mut().enumerate() {
            let (quants, scale) = stored(i * in_a_row + column);
            // Kernels widen scales by shifting, which has no infinities.
            if !scale.is_finite() {
                return Err(ComputeError::Unsupported(format!("row {row} holds a weight that is not finite")));
            }
            block.set(row % ROWS, &quants, scale);
        }
    }
    Ok(())
}

fn unpack<B: Block>(blocks: &[B], row: usize, out: &mut [f32]) {
    let in_a_row = out.len() / BLOCK;
    let group = &blocks[row / ROWS * in_a_row..][..in_a_row];
    for (block, out) in group.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let (quants, scale) = block.get(row % ROWS);
        *out = quants.map(|q| scale * f32::from(q));
    }
}

//! Weight matrices and their conversion from storage types.

use cdi_model::compute::{ComputeError, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;

use super::buffer::{Buffer, Meter};
use super::dot::{CHUNK, F32Row, PackedQuants, Q8Row, pack};
use crate::stored::{BLOCK, stored_block, widen};

/// A weight matrix. Rows that were not written yet are zero.
#[derive(Debug)]
pub struct Matrix {
    pub(super) spec: MatrixSpec,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    F32(Buffer<f32>),
    Q8 { quants: Buffer<PackedQuants>, scales: Buffer<f32> },
}

/// The rows of a matrix in the format that it keeps.
pub(super) enum Rows<'a> {
    F32(&'a [f32]),
    Q8 { quants: &'a [PackedQuants], scales: &'a [f32] },
}

impl Matrix {
    pub(super) fn new(meter: &Meter, spec: MatrixSpec) -> Result<Self, ComputeError> {
        if spec.rows == 0 || spec.cols == 0 {
            return Err(ComputeError::Shape(format!("matrix of [{}, {}]", spec.rows, spec.cols)));
        }
        let elements = u64::from(spec.rows).saturating_mul(u64::from(spec.cols));
        let weights = match spec.format {
            WeightFormat::F32 => Weights::F32(meter.zeroed(elements)?),
            WeightFormat::Q8_0 => {
                if !(spec.cols as usize).is_multiple_of(BLOCK) {
                    return Err(ComputeError::Shape(format!("Q8_0 rows of {} elements", spec.cols)));
                }
                Weights::Q8 {
                    quants: meter.zeroed(elements / CHUNK as u64)?,
                    scales: meter.zeroed(elements / BLOCK as u64)?,
                }
            }
        };
        Ok(Self { spec, weights })
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        match &self.weights {
            Weights::F32(values) => Rows::F32(values),
            Weights::Q8 { quants, scales } => Rows::Q8 { quants, scales },
        }
    }

    pub(super) fn write(&mut self, first: u32, dtype: DType, bytes: &[u8]) -> Result<(), ComputeError> {
        let range = self.stored_rows(first, dtype, bytes)?;
        let cols = self.spec.cols as usize;
        let (start, end) = (range.start * cols, range.end * cols);
        match &mut self.weights {
            Weights::F32(values) => widen(dtype, bytes, &mut values[start..end]),
            Weights::Q8 { quants, scales } => {
                let quants = &mut quants[start / CHUNK..end / CHUNK];
                let scales = &mut scales[start / BLOCK..end / BLOCK];
                for (i, (quants, scale)) in quants.chunks_exact_mut(BLOCK / CHUNK).zip(scales).enumerate() {
                    let (q, d) = stored_block(dtype, bytes, i);
                    *scale = d.to_f32();
                    for (packed, q) in quants.iter_mut().zip(q.as_chunks::<CHUNK>().0) {
                        *packed = pack(q);
                    }
                }
            }
        }
        Ok(())
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
}

impl<'a> Rows<'a> {
    pub(super) fn f32(values: &'a [f32], cols: usize, row: usize) -> F32Row<'a> {
        F32Row(&values[row * cols..][..cols])
    }

    pub(super) fn q8(quants: &'a [PackedQuants], scales: &'a [f32], cols: usize, row: usize) -> Q8Row<'a> {
        let (chunks, blocks) = (cols / CHUNK, cols / BLOCK);
        Q8Row { quants: &quants[row * chunks..][..chunks], scales: &scales[row * blocks..][..blocks] }
    }

    /// Writes row `row` to `out`, as f32.
    pub(super) fn widen(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::F32(values) => out.copy_from_slice(Self::f32(values, out.len(), row).0),
            Self::Q8 { quants, scales } => Self::q8(quants, scales, out.len(), row).widen(out),
        }
    }
}

//! Weight matrices on the device, split by rows where one binding cannot hold them.

use cdi_model::compute::{ComputeError, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;
use half::f16;

use crate::gpu::memory::{Allocation, Memory};
use crate::gpu::recorder::Recorder;
use crate::stored::{BLOCK, block8, widen};

/// Most bindings of one matrix: 32 GiB at WebGPU's smallest limit of 128 MiB each.
const MAX_PARTS: u32 = 256;

/// A weight matrix `[rows, cols]` in the memory of a device.
#[derive(Debug)]
pub struct Matrix {
    pub(crate) spec: MatrixSpec,
    pub(crate) parts: Vec<Part>,
}

/// Consecutive rows of a matrix that fit one binding.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) first: u32,
    pub(crate) rows: u32,
    pub(crate) data: PartData,
}

#[derive(Debug)]
pub(crate) enum PartData {
    /// `[rows, cols]` floats.
    F32(Allocation),
    /// Bytes `[rows, cols]` and f16 scales `[rows, scale_stride * 2]`, apart so that both are word-aligned.
    Q8 { quants: Allocation, scales: Allocation },
}

/// Words that the scales of a row take: two a word, so that no word belongs to two rows.
pub(crate) const fn scale_stride(cols: u32) -> u32 {
    (cols / 32).div_ceil(2)
}

impl Matrix {
    pub(crate) fn new(memory: &mut Memory, spec: MatrixSpec) -> Result<Self, ComputeError> {
        if spec.rows == 0 || spec.cols == 0 {
            return Err(ComputeError::Shape(format!("empty matrix {} x {}", spec.rows, spec.cols)));
        }
        if !spec.cols.is_multiple_of(spec.format.block()) {
            let MatrixSpec { format, cols, .. } = spec;
            return Err(ComputeError::Shape(format!("{format:?} needs columns divisible by {BLOCK}, not {cols}")));
        }
        let row_bytes = match spec.format {
            WeightFormat::F32 => u64::from(spec.cols) * 4,
            // No kernel reads 4 bits yet: they are kept in 8, which changes no value.
            WeightFormat::Q8_0 | WeightFormat::Q4_0 => u64::from(spec.cols),
        };
        let rows_a_part = u32::try_from(memory.largest_binding() / row_bytes).unwrap_or(u32::MAX);
        if rows_a_part == 0 || spec.rows.div_ceil(rows_a_part) > MAX_PARTS {
            return Err(ComputeError::OutOfMemory { bytes: u64::from(spec.rows).saturating_mul(row_bytes) });
        }
        let mut parts = Vec::new();
        let mut first = 0;
        while first < spec.rows {
            let rows = rows_a_part.min(spec.rows - first);
            let data = match spec.format {
                WeightFormat::F32 => PartData::F32(memory.own(u64::from(rows) * row_bytes)?),
                WeightFormat::Q8_0 | WeightFormat::Q4_0 => PartData::Q8 {
                    quants: memory.own(u64::from(rows) * row_bytes)?,
                    scales: memory.own(u64::from(rows) * u64::from(scale_stride(spec.cols)) * 4)?,
                },
            };
            parts.push(Part { first, rows, data });
            first += rows;
        }
        Ok(Self { spec, parts })
    }

    /// Converts stored rows and sends them to the device.
    pub(crate) fn write_rows(
        &mut self,
        recorder: &Recorder,
        first: u32,
        dtype: DType,
        bytes: &[u8],
    ) -> Result<(), ComputeError> {
        let MatrixSpec { rows, cols, .. } = self.spec;
        let misfit = || {
            let length = bytes.len();
            ComputeError::Shape(format!("{length} bytes of {dtype:?} from row {first} on into [{rows}, {cols}]"))
        };
        let row_bytes = dtype.row_bytes(cols).and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(misfit)?;
        let count = u32::try_from(bytes.len() / row_bytes).ok().filter(|count| *count > 0).ok_or_else(misfit)?;
        let end = first.checked_add(count).filter(|end| *end <= rows).ok_or_else(misfit)?;
        if !bytes.len().is_multiple_of(row_bytes) {
            return Err(misfit());
        }
        for part in &self.parts {
            let from = first.max(part.first);
            let to = end.min(part.first + part.rows);
            if from >= to {
                continue;
            }
            let stored = &bytes[(from - first) as usize * row_bytes..(to - first) as usize * row_bytes];
            let row = u64::from(from - part.first);
            match &part.data {
                PartData::F32(target) => {
                    let mut values = vec![0.0; (to - from) as usize * cols as usize];
                    widen(dtype, stored, &mut values);
                    recorder.write(target, row * u64::from(cols) * 4, bytemuck::cast_slice(&values));
                }
                PartData::Q8 { quants, scales } => {
                    let planes = Q8Planes::new(dtype, stored, (to - from) as usize, cols);
                    recorder.write(quants, row * u64::from(cols), bytemuck::cast_slice(&planes.quants));
                    let stride = u64::from(scale_stride(cols)) * 4;
                    recorder.write(scales, row * stride, bytemuck::cast_slice(&planes.scales));
                }
            }
        }
        Ok(())
    }
}

/// Q8_0 rows as the kernels read them.
struct Q8Planes {
    quants: Vec<i8>,
    /// Each row padded to whole words.
    scales: Vec<f16>,
}

impl Q8Planes {
    /// Splits, or quantises, `rows` stored rows.
    fn new(dtype: DType, stored: &[u8], rows: usize, cols: u32) -> Self {
        let blocks = cols as usize / BLOCK;
        let mut planes = Self { quants: Vec::new(), scales: Vec::new() };
        for row in 0..rows {
            for block in 0..blocks {
                let (quants, scale) = block8(dtype, stored, row * blocks + block);
                planes.quants.extend(quants);
                planes.scales.push(scale);
            }
            if blocks % 2 == 1 {
                planes.scales.push(f16::ZERO);
            }
        }
        planes
    }
}

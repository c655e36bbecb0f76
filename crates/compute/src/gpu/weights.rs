//! Weight matrices on the device, split by rows where one binding cannot hold them.

use cdi_model::compute::{ComputeError, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;
use half::{bf16, f16};

use crate::gpu::memory::{Allocation, Memory};
use crate::gpu::recorder::Recorder;

/// Elements that share a scale in Q8_0.
pub(crate) const BLOCK: u32 = 32;

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
    (cols / BLOCK).div_ceil(2)
}

impl Matrix {
    pub(crate) fn new(memory: &mut Memory, spec: MatrixSpec) -> Result<Self, ComputeError> {
        if spec.rows == 0 || spec.cols == 0 {
            return Err(ComputeError::Shape(format!("empty matrix {} x {}", spec.rows, spec.cols)));
        }
        if spec.format == WeightFormat::Q8_0 && !spec.cols.is_multiple_of(BLOCK) {
            return Err(ComputeError::Shape(format!("Q8_0 needs columns divisible by {BLOCK}, not {}", spec.cols)));
        }
        let row_bytes = match spec.format {
            WeightFormat::F32 => u64::from(spec.cols) * 4,
            WeightFormat::Q8_0 => u64::from(spec.cols),
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
                WeightFormat::Q8_0 => PartData::Q8 {
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
        let MatrixSpec { rows, cols, format } = self.spec;
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
                    debug_assert_eq!(format, WeightFormat::F32);
                    let values = to_f32(dtype, stored);
                    recorder.write(target, row * u64::from(cols) * 4, bytemuck::cast_slice(&values));
                }
                PartData::Q8 { quants, scales } => {
                    let planes = to_q8(dtype, stored, cols);
                    recorder.write(quants, row * u64::from(cols), bytemuck::cast_slice(&planes.quants));
                    let stride = u64::from(scale_stride(cols)) * 4;
                    recorder.write(scales, row * stride, bytemuck::cast_slice(&planes.scales));
                }
            }
        }
        Ok(())
    }
}

/// A stored Q8_0 block: an f16 scale and 32 signed bytes.
const Q8_BLOCK_BYTES: usize = 34;

/// Bytes and scales of Q8_0 rows as the kernels read them.
struct Q8Planes {
    quants: Vec<i8>,
    /// Each row padded to whole words.
    scales: Vec<f16>,
}

fn to_f32(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        DType::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        DType::Q8_0 => {
            let mut values = Vec::with_capacity(bytes.len() / Q8_BLOCK_BYTES * BLOCK as usize);
            for block in bytes.chunks_exact(Q8_BLOCK_BYTES) {
                let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                values.extend(block[2..].iter().map(|byte| f32::from(byte.cast_signed()) * scale));
            }
            values
        }
    }
}

fn to_q8(dtype: DType, bytes: &[u8], cols: u32) -> Q8Planes {
    let blocks_a_row = (cols / BLOCK) as usize;
    let mut planes = Q8Planes { quants: Vec::new(), scales: Vec::new() };
    let mut push = |block: usize, scale: f16| {
        planes.scales.push(scale);
        if block % blocks_a_row == blocks_a_row - 1 && blocks_a_row % 2 == 1 {
            planes.scales.push(f16::ZERO);
        }
    };
    if dtype == DType::Q8_0 {
        for (i, block) in bytes.chunks_exact(Q8_BLOCK_BYTES).enumerate() {
            push(i, f16::from_le_bytes([block[0], block[1]]));
            planes.quants.extend(block[2..].iter().map(|byte| byte.cast_signed()));
        }
    } else {
        let values = to_f32(dtype, bytes);
        for (i, block) in values.chunks_exact(BLOCK as usize).enumerate() {
            let (scale, quants) = quantise(block);
            push(i, scale);
            planes.quants.extend_from_slice(&quants);
        }
    }
    planes
}

/// llama.cpp's `quantize_row_q8_0_ref`: the largest magnitude becomes 127.
#[allow(clippy::cast_possible_truncation, reason = "values are scaled into -127 ..= 127")]
fn quantise(block: &[f32]) -> (f16, [i8; BLOCK as usize]) {
    let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut quants = [0; BLOCK as usize];
    for (quant, value) in quants.iter_mut().zip(block) {
        *quant = (value * inverse).round() as i8;
    }
    (f16::from_f32(scale), quants)
}

//! The table of tensors.

use std::collections::BTreeMap;

use cdi_types::manifest::DType;

use super::cursor::Cursor;
use super::{GgufError, MAX_NAME_BYTES};
use crate::range_read::RangeRead;
use crate::tensor_info::TensorInfo;

/// ggml's limit.
const MAX_DIMENSIONS: u32 = 4;

/// Names of ggml's types by their numbers; empty where a number is no longer used.
/// Source: `enum ggml_type`, <https://github.com/ggml-org/llama.cpp/blob/master/ggml/include/ggml.h>.
const TYPES: [&str; 40] = [
    "F32", "F16", "Q4_0", "Q4_1", "", "", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64",
    "F64", "IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "", "", "", "MXFP4",
];

/// Reads the table, which ends the header, and checks each tensor and that no two overlap.
pub(super) fn read<R: RangeRead + ?Sized>(
    cursor: &mut Cursor<'_, R>,
    count: u64,
    alignment: u32,
    file_size: u64,
) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    if !alignment.is_power_of_two() {
        let reason = format!("{alignment} is not a power of two");
        return Err(GgufError::Metadata { key: "general.alignment".to_owned(), reason });
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..count {
        let name = cursor.text("bytes of a tensor's name", MAX_NAME_BYTES)?;
        let info = read_tensor(cursor, &name, alignment)?;
        if tensors.contains_key(&name) {
            return Err(layout(&name, "is listed twice"));
        }
        tensors.insert(name, info);
    }
    // The header is at most 64 MiB long, so this cannot overflow; nor can it hit the end of an empty file's data.
    let data_start = cursor.position().next_multiple_of(alignment.into());
    place(&mut tensors, data_start, file_size)?;
    Ok(tensors)
}

/// Reads an entry; its offset still counts from the start of the data.
fn read_tensor<R: RangeRead + ?Sized>(
    cursor: &mut Cursor<'_, R>,
    name: &str,
    alignment: u32,
) -> Result<TensorInfo, GgufError> {
    let dimensions = cursor.u32()?;
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return Err(layout(name, "has no or more than four dimensions"));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(u32::try_from(cursor.u64()?).map_err(|_| layout(name, "a dimension is 2^32 or more"))?);
    }
    // Stored innermost first.
    let cols = shape[0];
    shape.reverse();
    let dtype = dtype(cursor.u32()?).map_err(|dtype| GgufError::DType { tensor: name.to_owned(), dtype })?;
    let offset = cursor.u64()?;
    if !offset.is_multiple_of(alignment.into()) {
        return Err(layout(name, "is not aligned"));
    }
    let row = dtype.row_bytes(cols).ok_or_else(|| layout(name, "its rows are not whole quantisation blocks"))?;
    let outer = &shape[..shape.len() - 1];
    let bytes = outer.iter().try_fold(row, |bytes, n| bytes.checked_mul(u64::from(*n)));
    let bytes = bytes.filter(|bytes| *bytes > 0).ok_or_else(|| layout(name, "is empty or larger than any file"))?;
    Ok(TensorInfo { dtype, shape, offset, bytes })
}

fn dtype(id: u32) -> Result<DType, String> {
    match TYPES.get(id as usize).copied().unwrap_or_default() {
        "F32" => Ok(DType::F32),
        "F16" => Ok(DType::F16),
        "BF16" => Ok(DType::BF16),
        "Q8_0" => Ok(DType::Q8_0),
        "Q4_0" => Ok(DType::Q4_0),
        "Q4_K" => Ok(DType::Q4K),
        "Q6_K" => Ok(DType::Q6K),
        "" => Err(format!("number {id}")),
        other => Err(other.to_owned()),
    }
}

/// Counts offsets from the start of the file, and checks that tensors in their order neither overlap nor leave it.
fn place(tensors: &mut BTreeMap<String, TensorInfo>, data_start: u64, file_size: u64) -> Result<(), GgufError> {
    let mut sorted: Vec<_> = tensors.iter_mut().collect();
    sorted.sort_by_key(|(_, info)| (info.offset, info.bytes));
    let mut end = data_start;
    for (name, info) in sorted {
        info.offset = info.offset.checked_add(data_start).ok_or_else(|| layout(name, "begins past any file"))?;
        if info.offset < end {
            return Err(layout(name, "overlaps another tensor"));
        }
        end = info.offset.checked_add(info.bytes).ok_or_else(|| layout(name, "ends past any file"))?;
        if end > file_size {
            return Err(layout(name, "ends past the file"));
        }
    }
    Ok(())
}

fn layout(tensor: &str, reason: &'static str) -> GgufError {
    GgufError::Layout { tensor: tensor.to_owned(), reason }
}

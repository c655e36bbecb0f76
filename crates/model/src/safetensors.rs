//! Reader of safetensors files over byte ranges.
//!
//! A file is a little-endian `u64` with the length of a JSON header, the header, and the tensors' bytes.
//! Source: <https://huggingface.co/docs/safetensors/index#format>. Only the header is ever held in memory, so
//! a file may be far larger than the process.

use std::collections::BTreeMap;
use std::fmt;

use cdi_types::manifest::DType;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::range_read::{RangeError, RangeRead};
use crate::tensor_info::TensorInfo;

/// Largest header in bytes; one entry takes about 120, so this is room for some 60,000 tensors a file.
pub const MAX_HEADER_BYTES: u64 = 8 << 20;

const LENGTH_BYTES: u64 = 8;

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SafetensorsError {
    /// The storage failed.
    #[error(transparent)]
    Read(#[from] RangeError),
    /// The file is too short for its header.
    #[error("truncated file: a header of {header} bytes does not fit into {size}")]
    Truncated {
        /// Declared length of the header.
        header: u64,
        /// Length of the file.
        size: u64,
    },
    /// The header is larger than [`MAX_HEADER_BYTES`].
    #[error("header of {0} bytes is over the limit of {MAX_HEADER_BYTES}")]
    HeaderTooLarge(u64),
    /// The header is not JSON of the format; the text says where.
    #[error("invalid header: {0}")]
    Header(String),
    /// An element type that the swarm does not compute with.
    #[error("tensor {tensor:?} has the unsupported type {dtype:?} (supported: F32, F16, BF16)")]
    DType {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// Shape, type and byte range do not fit together or into the file.
    #[error("tensor {tensor:?}: {reason}")]
    Layout {
        /// Name of the tensor.
        tensor: String,
        /// What does not fit.
        reason: &'static str,
    },
}

/// The checked header of a file: tensors lie inside of it, without overlap and without holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Safetensors {
    tensors: BTreeMap<String, TensorInfo>,
}

impl Safetensors {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// Any [`SafetensorsError`].
    pub fn open(file: &(impl RangeRead + ?Sized)) -> Result<Self, SafetensorsError> {
        let size = file.size();
        if size < LENGTH_BYTES {
            return Err(SafetensorsError::Truncated { header: 0, size });
        }
        let mut length = [0; 8];
        file.read_at(0, &mut length)?;
        let header = u64::from_le_bytes(length);
        if header > MAX_HEADER_BYTES {
            return Err(SafetensorsError::HeaderTooLarge(header));
        }
        if header > size - LENGTH_BYTES {
            return Err(SafetensorsError::Truncated { header, size });
        }
        let mut json = vec![0; usize::try_from(header).map_err(|_| SafetensorsError::HeaderTooLarge(header))?];
        file.read_at(LENGTH_BYTES, &mut json)?;
        let entries: Entries = serde_json::from_slice(&json).map_err(|e| SafetensorsError::Header(e.to_string()))?;
        let data_start = LENGTH_BYTES + header;
        let tensors = entries
            .0
            .into_iter()
            .map(|(name, entry)| Ok((name.clone(), entry.check(name, data_start)?)))
            .collect::<Result<BTreeMap<_, _>, SafetensorsError>>()?;
        check_coverage(&tensors, data_start, size)?;
        Ok(Self { tensors })
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }
}

/// Tensors in the order of their bytes must follow each other from the header to the end of the file.
fn check_coverage(tensors: &BTreeMap<String, TensorInfo>, data_start: u64, size: u64) -> Result<(), SafetensorsError> {
    let layout = |tensor: &str, reason| SafetensorsError::Layout { tensor: tensor.to_owned(), reason };
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|(_, info)| (info.offset, info.bytes));
    let mut end = data_start;
    for (name, info) in sorted {
        if info.offset < end {
            return Err(layout(name, "overlaps another tensor"));
        }
        if info.offset > end {
            return Err(layout(name, "leaves a hole before it"));
        }
        end = info.offset.checked_add(info.bytes).ok_or_else(|| layout(name, "ends past any file"))?;
        if end > size {
            return Err(layout(name, "ends past the file"));
        }
    }
    if end < size { Err(layout("", "bytes after the last tensor")) } else { Ok(()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u32>,
    data_offsets: (u64, u64),
}

impl Entry {
    fn check(self, tensor: String, data_start: u64) -> Result<TensorInfo, SafetensorsError> {
        let (dtype, element_bytes) = match self.dtype.as_str() {
            "F32" => (DType::F32, 4),
            "F16" => (DType::F16, 2),
            "BF16" => (DType::BF16, 2),
            _ => return Err(SafetensorsError::DType { tensor, dtype: self.dtype }),
        };
        let expected = self.shape.iter().try_fold(element_bytes, |n: u64, d| n.checked_mul(u64::from(*d)));
        let (begin, end) = self.data_offsets;
        match (expected, end.checked_sub(begin), begin.checked_add(data_start)) {
            (Some(expected), Some(bytes), Some(offset)) if expected == bytes => {
                Ok(TensorInfo { dtype, shape: self.shape, offset, bytes })
            }
            _ => Err(SafetensorsError::Layout { tensor, reason: "shape and byte range disagree" }),
        }
    }
}

/// The header's entries. JSON objects may repeat a key; here that is an error, not a choice of the parser.
struct Entries(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if entries.contains_key(&name) {
                return Err(A::Error::custom(format!("tensor {name:?} is listed twice")));
            }
            let entry = map.next_value()?;
            entries.insert(name, entry);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn open(header: &str, data: usize) -> Result<Safetensors, SafetensorsError> {
        Safetensors::open(file(header, data).as_slice())
    }

    fn layout_error(header: &str, data: usize) -> &'static str {
        match open(header, data) {
            Err(SafetensorsError::Layout { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_file_opens_and_reads() {
        let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[16,22]},
            "a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
        let bytes = file(header, 22);
        let parsed = Safetensors::open(bytes.as_slice()).expect("opens");
        assert_eq!(parsed.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
        let b = parsed.get("b").expect("listed");
        assert_eq!((b.dtype, b.shape.as_slice(), b.bytes), (DType::F16, [3].as_slice(), 6));
        let mut buf = [0; 6];
        b.read_at(bytes.as_slice(), 0, &mut buf).expect("reads");
        assert_eq!(buf, [7; 6]);
        assert!(b.read_at(bytes.as_slice(), 1, &mut buf).is_err());
        assert!(b.read_at(bytes.as_slice(), u64::MAX, &mut buf).is_err());
    }

    #[test]
    fn absurd_lengths_are_refused_before_allocation() {
        for length in [1 << 30, u64::MAX, MAX_HEADER_BYTES + 1] {
            let bytes = length.to_le_bytes();
            assert_eq!(Safetensors::open(bytes.as_slice()), Err(SafetensorsError::HeaderTooLarge(length)));
        }
        let bytes = 100u64.to_le_bytes();
        assert_eq!(Safetensors::open(bytes.as_slice()), Err(SafetensorsError::Truncated { header: 100, size: 8 }));
        assert_eq!(Safetensors::open(&b"1234"[..]), Err(SafetensorsError::Truncated { header: 0, size: 4 }));
    }

    #[test]
    fn offsets_must_tile_the_file() {
        let two = |a: &str, b: &str| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
            )
        };
        assert!(open(&two("[0,4]", "[4,8]"), 8).is_ok());
        assert_eq!(layout_error(&two("[0,4]", "[2,6]"), 8), "overlaps another tensor");
        assert_eq!(layout_error(&two("[0,4]", "[0,4]"), 8), "overlaps another tensor");
        assert_eq!(layout_error(&two("[0,4]", "[8,12]"), 12), "leaves a hole before it");
        assert_eq!(layout_error(&two("[0,4]", "[4,8]"), 4), "ends past the file");
        assert_eq!(layout_error(&two("[0,4]", "[4,8]"), 9), "bytes after the last tensor");
        assert_eq!(layout_error(&two("[4,0]", "[4,8]"), 8), "shape and byte range disagree");
        let far = "[18446744073709551611,18446744073709551615]";
        assert_eq!(layout_error(&two("[0,4]", far), 8), "shape and byte range disagree");
        assert!(matches!(open(&two("[-1,3]", "[4,8]"), 8), Err(SafetensorsError::Header(_))));
    }

    #[test]
    fn shapes_must_match_their_bytes() {
        let one =
            |dtype: &str, shape: &str| format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,8]}}}}"#);
        assert!(open(&one("BF16", "[2,2]"), 8).is_ok());
        assert_eq!(layout_error(&one("F32", "[3]"), 8), "shape and byte range disagree");
        assert_eq!(layout_error(&one("F32", "[4294967295,4294967295,4294967295]"), 8), "shape and byte range disagree");
        assert!(matches!(open(&one("F32", "[4294967296]"), 8), Err(SafetensorsError::Header(_))));
        for dtype in ["F64", "I8", "nonsense", ""] {
            assert!(matches!(open(&one(dtype, "[8]"), 8), Err(SafetensorsError::DType { .. })), "{dtype}");
        }
    }

    #[test]
    fn a_name_listed_twice_is_refused() {
        let entry = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        let Err(SafetensorsError::Header(text)) = open(&format!("{{{entry},{entry}}}"), 4) else {
            panic!("accepted");
        };
        assert!(text.contains("twice"), "{text}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Safetensors::open(bytes.as_slice());
        }

        #[test]
        fn arbitrary_headers_never_panic(header in r#"[{}\[\]":,a-z0-9_]{0,80}"#, data in 0usize..16) {
            let _ = open(&header, data);
        }

        /// A valid file with one byte changed or cut off is refused or describes bytes inside of the file.
        #[test]
        fn damaged_files_stay_in_bounds(at in 0usize..90, value: u8, cut in 0usize..90) {
            let mut bytes = file(r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#, 24);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(bytes.len() - cut % bytes.len());
            if let Ok(parsed) = Safetensors::open(bytes.as_slice()) {
                for (_, info) in parsed.iter() {
                    prop_assert!(info.offset + info.bytes <= bytes.len() as u64);
                }
            }
        }
    }
}

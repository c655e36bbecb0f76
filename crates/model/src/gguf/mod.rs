//! Reader of GGUF files over byte ranges.
//!
//! A file is a header with metadata and a table of tensors, then the tensors' bytes, each aligned. Source:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Only scalars, short texts and the table are held:
//! of an array of the metadata, such as a vocabulary, only its place, so that whoever needs no tokenizer reads none,
//! and a claimed length costs nothing.

mod cursor;
mod hyperparameters;
mod metadata;
mod names;
mod tensors;
mod vocabulary;

use std::collections::BTreeMap;

pub use hyperparameters::model_config;
pub use metadata::{Metadata, Value};
pub(crate) use names::{is_interleaved, stored_name};
pub use vocabulary::{Vocabulary, vocabulary};

use crate::range_read::{RangeError, RangeRead};
use crate::tensor_info::TensorInfo;
use cursor::Cursor;

/// Most bytes before the tensors. A vocabulary of 256,000 tokens with its merges takes about 10 MB.
pub const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Longest text of the metadata in bytes (the largest chat templates have about 20 KB).
pub const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Longest key of the metadata and name of a tensor in bytes. The format allows 65,535 for keys; those in use have 50.
pub const MAX_NAME_BYTES: u64 = 256;
/// Most entries of the metadata; files in use have about 50.
pub const MAX_ENTRIES: u64 = 4_096;
/// Most elements of an array of the metadata: the bound of a vocabulary, see
/// [`Llama::validate`](cdi_types::manifest::Llama::validate).
pub const MAX_ARRAY: u64 = 1 << 21;
/// Most tensors of a file; the largest models have some 2,000.
pub const MAX_TENSORS: u64 = 65_536;

const MAGIC: [u8; 4] = *b"GGUF";
/// Lengths have 64 bits since version 2; version 3 differs only in that it may be big endian, which no file is.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;
const DEFAULT_ALIGNMENT: u32 = 32;

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// The storage failed, or a range outside of a tensor was asked for.
    #[error(transparent)]
    Read(#[from] RangeError),
    /// The file does not begin as a GGUF file does.
    #[error("not a GGUF file")]
    Magic,
    /// A version that is not read: 1 is obsolete, absurdly large ones are big endian.
    #[error("GGUF version {0} is not supported (supported: 2 and 3, little endian)")]
    Version(u32),
    /// The file ends before its header does.
    #[error("truncated file: its header does not end within {0} bytes")]
    Truncated(u64),
    /// The header is larger than [`MAX_HEADER_BYTES`].
    #[error("header is over the limit of {MAX_HEADER_BYTES} bytes")]
    HeaderTooLarge,
    /// A count or length is over its limit; the text names what is counted.
    #[error("{what}: {found} is over the limit of {limit}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// What the file says.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A key, a name or a text is not UTF-8.
    #[error("a text at byte {0} is not UTF-8")]
    NotUtf8(u64),
    /// A metadata entry cannot be read.
    #[error("metadata {key:?}: {reason}")]
    Metadata {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The metadata lack an entry.
    #[error("metadata {0:?} is missing")]
    NoMetadata(String),
    /// An element type that the swarm does not compute with.
    #[error(
        "tensor {tensor:?} has the type {dtype}, which is not supported (supported: F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K)"
    )]
    DType {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// Shape, type and place of a tensor do not fit together or into the file.
    #[error("tensor {tensor:?}: {reason}")]
    Layout {
        /// Name of the tensor.
        tensor: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// The file needs a part that this build does not have.
    #[error("not supported: {0}")]
    Unsupported(String),
}

/// The checked header of a file: every tensor lies inside of it, aligned, without overlap.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    metadata: Metadata,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// Any [`GgufError`] but those about what the metadata mean.
    pub fn open<R: RangeRead + ?Sized>(file: &R) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(file, 0);
        if file.size() < MAGIC.len() as u64 || cursor.bytes()? != MAGIC {
            return Err(GgufError::Magic);
        }
        let version = cursor.u32()?;
        if !VERSIONS.contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = cursor.count("tensors", MAX_TENSORS)?;
        let entry_count = cursor.count("metadata entries", MAX_ENTRIES)?;
        let metadata = Metadata::read(&mut cursor, entry_count)?;
        let alignment = metadata.u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
        let tensors = tensors::read(&mut cursor, tensor_count, alignment, file.size())?;
        Ok(Self { metadata, tensors })
    }

    /// The metadata.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
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

#[cfg(test)]
mod tests;

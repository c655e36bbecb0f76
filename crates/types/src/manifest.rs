//! A model as a DAG of content-addressed blocks.
//!
//! ```text
//! Manifest ── tokenizer, tokenizer_config     raw blocks (files)
//!          ├─ shared ── TensorTable           embedding, final norm, head
//!          └─ layers[i] ── TensorTable        the tensors of layer i
//!                           └─ Tensor.blocks ── raw blocks of whole rows
//! ```
//!
//! A node that hosts layers `a..=b` reads the manifest and `b - a + 1` tables, and fetches nothing else.
//! The model's id is the CID of its manifest.

use serde::{Deserialize, Serialize};

use crate::block::{Cid, MAX_BLOCK_BYTES};
use crate::cbor;

/// Version of this schema.
pub const MANIFEST_VERSION: u32 = 1;
/// Most links in one list; a longer list becomes a tree of [`LinkNode`]s.
pub const MAX_LINKS: usize = 4_096;
/// Most layers a manifest may declare (the largest open models have about 130).
pub const MAX_LAYERS: u32 = 1_024;
/// Most tensors in one table (a 256-expert layer has about 800).
pub const MAX_TENSORS: usize = 4_096;

/// A model's root node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// Name shown to people, e.g. `genesis`.
    pub name: String,
    /// SPDX licence expression of the weights.
    pub license: String,
    /// Shape of the network.
    pub architecture: Architecture,
    /// `tokenizer.json` of the Hugging Face layout.
    pub tokenizer: File,
    /// Jinja chat template, if the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Token ids that end an answer.
    pub end_of_text: Vec<u32>,
    /// Table of the tensors that belong to no layer.
    pub shared: Cid,
    /// Table of each layer's tensors, in order.
    pub layers: Vec<Cid>,
    /// Bytes of all tensors together.
    pub weight_bytes: u64,
}

/// A file stored as a list of raw blocks, concatenated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Length in bytes.
    pub bytes: u64,
    /// Its blocks.
    pub blocks: Links,
}

/// The network family and its hyperparameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Architecture {
    /// Llama: RMSNorm, rotary embeddings, grouped-query attention, SwiGLU.
    Llama(Llama),
}

/// Hyperparameters of a Llama network. Names follow the Hugging Face `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Llama {
    /// Number of token ids.
    pub vocab_size: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Width of the feed-forward network.
    pub intermediate_size: u32,
    /// Number of layers.
    pub num_hidden_layers: u32,
    /// Query heads.
    pub num_attention_heads: u32,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Most positions of a sequence.
    pub max_position_embeddings: u32,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the output head is the embedding matrix.
    pub tie_word_embeddings: bool,
}

/// The tensors of one layer, or the shared ones. Sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorTable {
    /// The tensors.
    pub tensors: Vec<Tensor>,
}

/// One stored tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    /// Name in the Hugging Face layout, without the prefix `model.layers.<i>.` in layer tables.
    pub name: String,
    /// How elements are stored.
    pub dtype: DType,
    /// Outermost dimension first; one or two dimensions.
    pub shape: Vec<u32>,
    /// Rows in every block but the last.
    pub rows_per_block: u32,
    /// Its blocks, in row order.
    pub blocks: Links,
}

/// Storage type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    /// 32-bit IEEE float, little endian.
    F32,
    /// 16-bit IEEE float, little endian.
    F16,
    /// The upper half of a 32-bit float, little endian.
    BF16,
    /// Blocks of 32 signed bytes with one f16 scale: 34 bytes (llama.cpp's `block_q8_0`).
    Q8_0,
    /// Blocks of 32 elements of 4 bits with one f16 scale: 18 bytes (`block_q4_0`).
    Q4_0,
    /// Blocks of 256 elements of 4 bits, with a 6-bit scale and minimum for each 32: 144 bytes (`block_q4_K`).
    Q4K,
    /// Blocks of 256 elements of 6 bits, with an 8-bit scale for each 16: 210 bytes (`block_q6_K`).
    Q6K,
}

/// A list of links, inline while short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Links {
    /// The links themselves, at most [`MAX_LINKS`].
    List(Vec<Cid>),
    /// Root of a tree of [`LinkNode`]s.
    Tree(Cid),
}

/// Inner node of a link tree: each link is a [`LinkNode`] or, at the lowest level, a raw block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkNode {
    /// 0 where the links are raw blocks.
    pub height: u32,
    /// At most [`MAX_LINKS`].
    pub links: Vec<Cid>,
}

/// Why a manifest or a table was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not canonical DAG-CBOR of this schema.
    #[error(transparent)]
    Encoding(#[from] cbor::CborError),
    /// Of a newer schema.
    #[error("manifest version {0} is not supported (this build reads {MANIFEST_VERSION})")]
    Version(u32),
    /// A value that no model can have; the text names it.
    #[error("invalid manifest: {0}")]
    Invalid(String),
}

impl Manifest {
    /// Decodes and validates a manifest block.
    ///
    /// # Errors
    /// Any [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = cbor::decode(bytes)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Checks every value that later code relies on.
    ///
    /// # Errors
    /// [`ManifestError::Version`] or [`ManifestError::Invalid`].
    pub fn validate(&self) -> Result<(), ManifestError> {
        if self.version != MANIFEST_VERSION {
            return Err(ManifestError::Version(self.version));
        }
        let Architecture::Llama(llama) = &self.architecture;
        llama.validate()?;
        ensure(self.layers.len() == llama.num_hidden_layers as usize, "one table for each layer")?;
        ensure(!self.end_of_text.is_empty() && self.end_of_text.len() <= 64, "between 1 and 64 end-of-text ids")?;
        ensure(self.end_of_text.iter().all(|id| *id < llama.vocab_size), "end-of-text ids within the vocabulary")?;
        ensure(self.name.len() <= 256 && self.license.len() <= 256, "name and licence up to 256 bytes")?;
        Ok(())
    }

    /// Number of layers.
    #[must_use]
    pub fn layer_count(&self) -> u32 {
        let Architecture::Llama(llama) = &self.architecture;
        llama.num_hidden_layers
    }
}

impl Llama {
    /// Checks that the shape is one that kernels can run and sizes cannot overflow.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] names the first bad value.
    pub fn validate(&self) -> Result<(), ManifestError> {
        let positive = [
            self.vocab_size,
            self.hidden_size,
            self.intermediate_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.num_key_value_heads,
            self.head_dim,
            self.max_position_embeddings,
        ];
        ensure(positive.iter().all(|v| *v > 0), "every dimension positive")?;
        ensure(self.num_hidden_layers <= MAX_LAYERS, "at most 1024 layers")?;
        ensure(self.vocab_size <= 1 << 21, "vocab_size up to 2^21")?;
        ensure(self.hidden_size <= 1 << 16 && self.intermediate_size <= 1 << 18, "widths within bounds")?;
        ensure(self.max_position_embeddings <= 1 << 22, "context up to 2^22")?;
        ensure(self.head_dim <= 1 << 10 && self.head_dim.is_multiple_of(2), "head_dim even and up to 1024")?;
        ensure(self.num_attention_heads <= 1 << 10, "at most 1024 heads")?;
        ensure(
            self.num_attention_heads.is_multiple_of(self.num_key_value_heads),
            "num_key_value_heads divides num_attention_heads",
        )?;
        ensure(self.rms_norm_eps.is_finite() && self.rms_norm_eps > 0.0, "rms_norm_eps positive")?;
        ensure(self.rope_theta.is_finite() && self.rope_theta > 0.0, "rope_theta positive")
    }
}

impl TensorTable {
    /// Decodes and validates a table block.
    ///
    /// # Errors
    /// Any [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let table: Self = cbor::decode(bytes)?;
        ensure(table.tensors.len() <= MAX_TENSORS, "at most 4096 tensors in a table")?;
        ensure(table.tensors.is_sorted_by(|a, b| a.name < b.name), "tensors sorted by unique names")?;
        table.tensors.iter().try_for_each(Tensor::validate)?;
        Ok(table)
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok().map(|i| &self.tensors[i])
    }
}

impl Tensor {
    fn validate(&self) -> Result<(), ManifestError> {
        ensure(matches!(self.shape.len(), 1 | 2) && self.shape.iter().all(|d| *d > 0), "one or two dimensions")?;
        ensure(self.dtype.row_bytes(self.cols()).is_some(), "whole quantisation blocks in a row")?;
        let block = self.block_bytes().ok_or_else(|| invalid("block size overflows"))?;
        ensure(self.rows_per_block > 0 && block <= MAX_BLOCK_BYTES as u64, "blocks of whole rows up to 1 MiB")?;
        let count = self.rows().div_ceil(self.rows_per_block);
        match &self.blocks {
            Links::List(list) => ensure(list.len() == count as usize && list.len() <= MAX_LINKS, "a link a block"),
            Links::Tree(_) => Ok(()),
        }
    }

    /// Number of rows: the outer dimension, or 1 for a vector.
    #[must_use]
    pub fn rows(&self) -> u32 {
        if self.shape.len() == 2 { self.shape[0] } else { 1 }
    }

    /// Elements in a row.
    #[must_use]
    pub fn cols(&self) -> u32 {
        self.shape.last().copied().unwrap_or(0)
    }

    /// Stored bytes of the whole tensor; `None` on overflow or a broken row.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.dtype.row_bytes(self.cols())?.checked_mul(u64::from(self.rows()))
    }

    fn block_bytes(&self) -> Option<u64> {
        self.dtype.row_bytes(self.cols())?.checked_mul(u64::from(self.rows_per_block.min(self.rows())))
    }
}

impl DType {
    /// Elements and stored bytes of a quantisation block; of one element where nothing is quantised.
    /// Source: <https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h>.
    #[must_use]
    pub const fn block(self) -> (u32, u32) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4K => (256, 144),
            Self::Q6K => (256, 210),
        }
    }

    /// Stored bytes of a row of `cols` elements; `None` when the row is not whole quantisation blocks.
    #[must_use]
    pub fn row_bytes(self, cols: u32) -> Option<u64> {
        let (elements, bytes) = self.block();
        cols.is_multiple_of(elements).then_some(u64::from(cols / elements) * u64::from(bytes))
    }
}

fn invalid(what: &str) -> ManifestError {
    ManifestError::Invalid(what.to_owned())
}

fn ensure(holds: bool, what: &str) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError::Invalid(format!("expected {what}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::raw_cid;

    fn llama() -> Llama {
        Llama {
            vocab_size: 16,
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 4,
            max_position_embeddings: 32,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            version: MANIFEST_VERSION,
            name: "tiny".to_owned(),
            license: "MIT".to_owned(),
            architecture: Architecture::Llama(llama()),
            tokenizer: File { bytes: 1, blocks: Links::List(vec![raw_cid(b"t")]) },
            chat_template: None,
            end_of_text: vec![2],
            shared: raw_cid(b"s"),
            layers: vec![raw_cid(b"l")],
            weight_bytes: 1,
        }
    }

    fn tensor(shape: &[u32], dtype: DType, rows_per_block: u32, blocks: usize) -> Tensor {
        let blocks = Links::List(vec![raw_cid(b"b"); blocks]);
        Tensor { name: "w".to_owned(), dtype, shape: shape.to_vec(), rows_per_block, blocks }
    }

    #[test]
    fn a_manifest_round_trips() {
        let bytes = cbor::encode(&manifest()).expect("encodes");
        assert_eq!(Manifest::decode(&bytes), Ok(manifest()));
    }

    #[test]
    fn absurd_manifests_are_refused() {
        let changed = |change: &dyn Fn(&mut Llama)| {
            let mut manifest = manifest();
            let Architecture::Llama(llama) = &mut manifest.architecture;
            change(llama);
            manifest.validate().is_err()
        };
        assert!(changed(&|l| l.hidden_size = 0));
        assert!(changed(&|l| l.num_hidden_layers = 2));
        assert!(changed(&|l| l.num_hidden_layers = u32::MAX));
        assert!(changed(&|l| l.num_key_value_heads = 3));
        assert!(changed(&|l| l.head_dim = 5));
        assert!(changed(&|l| l.rope_theta = f64::NAN));
        assert!(changed(&|l| l.vocab_size = 2));
        assert_eq!(Manifest { version: 9, ..manifest() }.validate(), Err(ManifestError::Version(9)));
    }

    #[test]
    fn tensors_must_match_their_links() {
        assert!(tensor(&[10, 4], DType::F32, 4, 3).validate().is_ok());
        assert!(tensor(&[10, 4], DType::F32, 4, 2).validate().is_err());
        assert!(tensor(&[10, 4], DType::F32, 0, 0).validate().is_err());
        assert!(tensor(&[10, 33], DType::Q8_0, 10, 1).validate().is_err());
        assert!(tensor(&[10, 32], DType::Q4_0, 10, 1).validate().is_ok());
        assert!(tensor(&[10, 288], DType::Q4K, 10, 1).validate().is_err());
        assert!(tensor(&[10, 512], DType::Q6K, 10, 1).validate().is_ok());
        assert!(tensor(&[u32::MAX, u32::MAX], DType::F32, u32::MAX, 1).validate().is_err());
        assert!(tensor(&[2, 2, 2], DType::F32, 2, 1).validate().is_err());
    }
}

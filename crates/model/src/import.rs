//! From a Hugging Face folder or a GGUF file to a manifest and its blocks.
//!
//! The same files, name and licence give the same model id everywhere. Weights are read block by block, so the
//! importer needs a few MiB whatever the size of the model.

mod sources;

use std::collections::BTreeMap;
use std::fmt;

use cdi_types::block::{MAX_BLOCK_BYTES, dag_cbor_cid, raw_cid};
use cdi_types::cbor::{self, CborError};
use cdi_types::manifest::{Architecture, File, MANIFEST_VERSION, Manifest, ManifestError, Tensor, TensorTable};
use cdi_types::{Cid, LayerRange};

use crate::chat::{ChatError, ChatTemplate, with_special_tokens};
use crate::config::{ConfigError, ModelConfig, TokenizerConfig};
use crate::gguf::{Gguf, GgufError, Vocabulary, model_config, vocabulary};
use crate::links::link;
use crate::quant::all_finite;
use crate::range_read::{RangeError, RangeRead};
use crate::safetensors::SafetensorsError;
use crate::tensors::{Table, TensorSpec, WrongShape, needed};
use crate::tokenizer::{Tokenizer, TokenizerError};
use sources::Source;

/// The files of a model.
pub struct Folder<'a> {
    /// `config.json`.
    pub config: &'a [u8],
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`, for the chat template.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `generation_config.json`, for the ids that end an answer.
    pub generation_config: Option<&'a [u8]>,
    /// `model.safetensors`, or its parts in any order.
    pub weights: Vec<&'a dyn RangeRead>,
}

/// What the files do not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Name shown to people.
    pub name: String,
    /// SPDX licence expression of the weights.
    pub license: String,
}

/// Why a model was not imported.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// A configuration file was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer was refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template was refused.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A weight file was refused.
    #[error(transparent)]
    Weights(#[from] SafetensorsError),
    /// A GGUF file was refused.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Weights could not be read.
    #[error(transparent)]
    Read(#[from] RangeError),
    /// The files lack tensors.
    #[error("missing tensors: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// The files hold tensors that the architecture has not, so something would not be computed.
    #[error("unexpected tensors: {}", .0.join(", "))]
    Unexpected(Vec<String>),
    /// Two files hold the same tensor.
    #[error("tensor {0} is in two files")]
    Duplicate(String),
    /// A tensor does not fit the hyperparameters.
    #[error(transparent)]
    Shape(#[from] WrongShape),
    /// A row does not fit into a block.
    #[error("a row of tensor {0} is larger than a block of {MAX_BLOCK_BYTES} bytes")]
    RowTooLarge(String),
    /// A weight is NaN or infinite.
    #[error("tensor {0} holds NaN or infinity")]
    NotFinite(String),
    /// The manifest or a table is not valid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A node is too large for a block.
    #[error(transparent)]
    Encoding(#[from] CborError),
    /// The receiver of the blocks failed; the text is its own.
    #[error("storing a block failed: {0}")]
    Sink(String),
}

/// A model that was imported.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The model's id: the CID of its manifest.
    pub id: Cid,
    /// Its manifest.
    pub manifest: Manifest,
}

/// Imports a folder. `sink` receives every block once it is complete, the manifest last; the same block may
/// come more than once.
///
/// # Errors
/// Any [`ImportError`]. Everything but the weights' values is checked before the first block is made.
pub fn import<E: fmt::Display>(
    folder: &Folder<'_>,
    label: Label,
    mut sink: impl FnMut(Cid, &[u8]) -> Result<(), E>,
) -> Result<Imported, ImportError> {
    let mut config = ModelConfig::from_json(folder.config)?;
    config.end_of_text = config.end_of_text(folder.generation_config)?;
    let specs = specs(&config)?;
    let parts = Parts {
        sources: sources::in_safetensors(&folder.weights, &specs)?,
        specs,
        config,
        tokenizer: folder.tokenizer,
        chat_template: chat_template(folder.tokenizer_config)?,
    };
    parts.store(label, |cid, bytes| sink(cid, bytes).map_err(|e| ImportError::Sink(e.to_string())))
}

/// Imports a GGUF file of a Llama network, with its tokenizer and chat template; see [`import`]. Quantised weights keep
/// their bits.
///
/// # Errors
/// Any [`ImportError`]. Everything but the weights' values is checked before the first block is made.
pub fn import_gguf<E: fmt::Display>(
    file: &dyn RangeRead,
    label: Label,
    mut sink: impl FnMut(Cid, &[u8]) -> Result<(), E>,
) -> Result<Imported, ImportError> {
    let gguf = Gguf::open(file)?;
    let config = model_config(&gguf)?;
    let specs = specs(&config)?;
    let Vocabulary { tokenizer, chat_template } = vocabulary(&gguf, file, config.llama.vocab_size)?;
    if let Some(template) = &chat_template {
        ChatTemplate::new(Some(template))?;
    }
    let parts = Parts {
        sources: sources::in_gguf(file, &gguf, config.llama.head_dim, &specs)?,
        specs,
        config,
        tokenizer: &tokenizer,
        chat_template,
    };
    parts.store(label, |cid, bytes| sink(cid, bytes).map_err(|e| ImportError::Sink(e.to_string())))
}

fn specs(config: &ModelConfig) -> Result<Vec<TensorSpec>, ImportError> {
    let whole = LayerRange::whole(config.llama.num_hidden_layers)
        .ok_or_else(|| ManifestError::Invalid("a model without layers".to_owned()))?;
    Ok(needed(&config.llama, whole))
}

/// What a manifest is made of, wherever it came from.
struct Parts<'a> {
    config: ModelConfig,
    tokenizer: &'a [u8],
    chat_template: Option<String>,
    specs: Vec<TensorSpec>,
    /// One for each of the specs.
    sources: Vec<Source<'a>>,
}

impl Parts<'_> {
    fn store(
        self,
        label: Label,
        mut sink: impl FnMut(Cid, &[u8]) -> Result<(), ImportError>,
    ) -> Result<Imported, ImportError> {
        Tokenizer::from_json(self.tokenizer)?;
        let tokenizer = store_file(self.tokenizer, &mut sink)?;
        let mut tables: BTreeMap<Table, TensorTable> = BTreeMap::new();
        let mut weight_bytes = 0;
        for (spec, source) in self.specs.iter().zip(&self.sources) {
            weight_bytes += source.info.bytes;
            tables.entry(spec.tensor.table).or_default().tensors.push(store_tensor(spec, source, &mut sink)?);
        }
        let mut roots = Vec::with_capacity(tables.len());
        for mut table in tables.into_values() {
            table.tensors.sort_by(|a, b| a.name.cmp(&b.name));
            roots.push(store_node(&table, &mut sink)?);
        }
        // Shared tensors sort before those of the layers, and every model has some.
        let layers = roots.split_off(1);
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            name: label.name,
            license: label.license,
            architecture: Architecture::Llama(self.config.llama),
            tokenizer,
            chat_template: self.chat_template,
            end_of_text: self.config.end_of_text,
            shared: roots[0],
            layers,
            weight_bytes,
        };
        manifest.validate()?;
        let id = store_node(&manifest, &mut sink)?;
        Ok(Imported { id, manifest })
    }
}

fn chat_template(tokenizer_config: Option<&[u8]>) -> Result<Option<String>, ImportError> {
    let Some(bytes) = tokenizer_config else { return Ok(None) };
    let config = TokenizerConfig::from_json(bytes)?;
    let Some(template) = config.chat_template else { return Ok(None) };
    let template = with_special_tokens(&template, config.bos_token.as_deref(), config.eos_token.as_deref());
    ChatTemplate::new(Some(&template))?;
    Ok(Some(template))
}

fn store_tensor(
    spec: &TensorSpec,
    source: &Source<'_>,
    sink: &mut impl FnMut(Cid, &[u8]) -> Result<(), ImportError>,
) -> Result<Tensor, ImportError> {
    let too_large = || ImportError::RowTooLarge(spec.tensor.to_string());
    let (rows, cols) = spec.shape.rows_cols();
    let info = &source.info;
    let row_bytes = info.dtype.row_bytes(cols).ok_or_else(too_large)?;
    let fitting = u32::try_from(MAX_BLOCK_BYTES as u64 / row_bytes).unwrap_or(u32::MAX);
    let row_len = usize::try_from(row_bytes).map_err(|_| too_large())?;
    if fitting == 0 {
        return Err(too_large());
    }
    let rows_per_block = fitting.min(rows);
    let mut buffer = vec![0; MAX_BLOCK_BYTES.min(usize::try_from(info.bytes).unwrap_or(MAX_BLOCK_BYTES))];
    let mut blocks = Vec::new();
    for first in (0..rows).step_by(rows_per_block as usize) {
        let bytes = row_bytes * u64::from(rows_per_block.min(rows - first));
        let block = usize::try_from(bytes).ok().and_then(|n| buffer.get_mut(..n)).ok_or_else(too_large)?;
        source.read_rows(first, row_len, block)?;
        if !all_finite(info.dtype, block) {
            return Err(ImportError::NotFinite(spec.tensor.to_string()));
        }
        let cid = raw_cid(block);
        sink(cid, block)?;
        blocks.push(cid);
    }
    let blocks = link(blocks, sink)?;
    Ok(Tensor {
        name: spec.tensor.name.to_owned(),
        dtype: info.dtype,
        shape: spec.shape.dims(),
        rows_per_block,
        blocks,
    })
}

fn store_file(bytes: &[u8], sink: &mut impl FnMut(Cid, &[u8]) -> Result<(), ImportError>) -> Result<File, ImportError> {
    let mut blocks = Vec::new();
    for block in bytes.chunks(MAX_BLOCK_BYTES) {
        let cid = raw_cid(block);
        sink(cid, block)?;
        blocks.push(cid);
    }
    Ok(File { bytes: bytes.len() as u64, blocks: link(blocks, sink)? })
}

fn store_node<T: serde::Serialize>(
    node: &T,
    sink: &mut impl FnMut(Cid, &[u8]) -> Result<(), ImportError>,
) -> Result<Cid, ImportError> {
    let bytes = cbor::encode(node)?;
    let cid = dag_cbor_cid(&bytes);
    sink(cid, &bytes)?;
    Ok(cid)
}

//! From a Hugging Face folder to a manifest and its blocks.
//!
//! The same folder, name and licence give the same model id everywhere. Weights are read block by block, so the
//! importer needs a few MiB whatever the size of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cdi_types::block::{MAX_BLOCK_BYTES, dag_cbor_cid, raw_cid};
use cdi_types::cbor::{self, CborError};
use cdi_types::manifest::{Architecture, DType, File, MANIFEST_VERSION, Manifest, ManifestError, Tensor, TensorTable};
use cdi_types::{Cid, LayerRange};
use half::{bf16, f16};

use crate::chat::{ChatError, ChatTemplate, with_special_tokens};
use crate::config::{ConfigError, ModelConfig, TokenizerConfig};
use crate::links::link;
use crate::range_read::RangeRead;
use crate::safetensors::{Safetensors, SafetensorsError, TensorInfo};
use crate::tensors::{HEAD, Table, TensorSpec, WrongShape, needed};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Buffers that old checkpoints store and nobody reads: the rotary frequencies follow from `rope_theta`.
const IGNORED_SUFFIX: &str = ".rotary_emb.inv_freq";

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

/// Why a folder was not imported.
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
    let config = ModelConfig::from_json(folder.config)?;
    let end_of_text = config.end_of_text(folder.generation_config)?;
    let llama = config.llama;
    Tokenizer::from_json(folder.tokenizer)?;
    let chat_template = chat_template(folder.tokenizer_config)?;
    let whole = LayerRange::whole(llama.num_hidden_layers)
        .ok_or_else(|| ManifestError::Invalid("a model without layers".to_owned()))?;
    let specs = needed(&llama, whole);
    let sources = Sources::open(&folder.weights, &specs)?;

    let mut sink = |cid: Cid, bytes: &[u8]| sink(cid, bytes).map_err(|e| ImportError::Sink(e.to_string()));
    let tokenizer = store_file(folder.tokenizer, &mut sink)?;
    let mut tables: BTreeMap<Table, TensorTable> = BTreeMap::new();
    let mut weight_bytes = 0;
    for (spec, source) in specs.iter().zip(&sources.0) {
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
        architecture: Architecture::Llama(llama),
        tokenizer,
        chat_template,
        end_of_text,
        shared: roots[0],
        layers,
        weight_bytes,
    };
    manifest.validate()?;
    let id = store_node(&manifest, &mut sink)?;
    Ok(Imported { id, manifest })
}

fn chat_template(tokenizer_config: Option<&[u8]>) -> Result<Option<String>, ImportError> {
    let Some(bytes) = tokenizer_config else { return Ok(None) };
    let config = TokenizerConfig::from_json(bytes)?;
    let Some(template) = config.chat_template else { return Ok(None) };
    let template = with_special_tokens(&template, config.bos_token.as_deref(), config.eos_token.as_deref());
    ChatTemplate::new(Some(&template))?;
    Ok(Some(template))
}

/// Where the tensors of the model are, in the order of its specs.
struct Sources<'a>(Vec<Source<'a>>);

struct Source<'a> {
    file: &'a dyn RangeRead,
    info: TensorInfo,
}

impl<'a> Sources<'a> {
    fn open(files: &[&'a dyn RangeRead], specs: &[TensorSpec]) -> Result<Self, ImportError> {
        let mut found: BTreeMap<String, Source<'a>> = BTreeMap::new();
        for file in files.iter().copied() {
            for (name, info) in Safetensors::open(file)?.iter() {
                if found.insert(name.to_owned(), Source { file, info: info.clone() }).is_some() {
                    return Err(ImportError::Duplicate(name.to_owned()));
                }
            }
        }
        let names: Vec<String> = specs.iter().map(|spec| spec.tensor.to_string()).collect();
        let expected: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let missing: Vec<String> = names.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
        if !missing.is_empty() {
            return Err(ImportError::Missing(missing));
        }
        // Some checkpoints store a tied head beside the embedding that it repeats; nothing reads it.
        let ignored = |name: &str| name.ends_with(IGNORED_SUFFIX) || name == HEAD;
        let unexpected: Vec<String> =
            found.keys().filter(|name| !expected.contains(name.as_str()) && !ignored(name)).cloned().collect();
        if !unexpected.is_empty() {
            return Err(ImportError::Unexpected(unexpected));
        }
        let mut sources = Vec::with_capacity(specs.len());
        for (spec, name) in specs.iter().zip(&names) {
            let source = found.remove(name).ok_or_else(|| ImportError::Missing(vec![name.clone()]))?;
            spec.check(&source.info.shape)?;
            sources.push(source);
        }
        Ok(Self(sources))
    }
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
    if fitting == 0 {
        return Err(too_large());
    }
    let rows_per_block = fitting.min(rows);
    let mut buffer = vec![0; MAX_BLOCK_BYTES.min(usize::try_from(info.bytes).unwrap_or(MAX_BLOCK_BYTES))];
    let mut blocks = Vec::new();
    for first in (0..rows).step_by(rows_per_block as usize) {
        let bytes = row_bytes * u64::from(rows_per_block.min(rows - first));
        let block = usize::try_from(bytes).ok().and_then(|n| buffer.get_mut(..n)).ok_or_else(too_large)?;
        info.read_at(source.file, u64::from(first) * row_bytes, block)?;
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

/// Whether no stored float is NaN or infinite.
fn all_finite(dtype: DType, bytes: &[u8]) -> bool {
    let halves = || bytes.as_chunks::<2>().0.iter().copied();
    match dtype {
        DType::F32 => bytes.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
        DType::F16 => halves().all(|b| f16::from_le_bytes(b).is_finite()),
        DType::BF16 => halves().all(|b| bf16::from_le_bytes(b).is_finite()),
        // One scale, then 32 bytes that are always finite.
        DType::Q8_0 => bytes.as_chunks::<34>().0.iter().all(|b| f16::from_le_bytes([b[0], b[1]]).is_finite()),
    }
}

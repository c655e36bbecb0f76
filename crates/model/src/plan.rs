//! What a range of layers takes: the blocks to fetch, the bytes to keep.

use std::ops::Range;

use cdi_types::block::MAX_BLOCK_BYTES;
use cdi_types::manifest::{Architecture, DType, Llama, Manifest, ManifestError, Tensor, TensorTable};
use cdi_types::{Cid, LayerRange};

use crate::compute::WeightFormat;
use crate::links::{LinkError, Nodes, resolve};
use crate::tensors::{Shape, Table, TensorRef, TensorSpec, WrongShape, needed};
use crate::tokenizer::MAX_TOKENIZER_BYTES;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// These nodes have to be fetched, verified and added first.
    #[error("{} nodes are missing", .0.len())]
    Missing(Vec<Cid>),
    /// The model has fewer layers.
    #[error("layers {layers} of a model with {count}")]
    Layers {
        /// The layers asked for.
        layers: LayerRange,
        /// The number of layers that there are.
        count: u32,
    },
    /// A table is malformed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A link list is malformed.
    #[error(transparent)]
    Links(LinkError),
    /// A tensor does not fit the hyperparameters.
    #[error(transparent)]
    Shape(#[from] WrongShape),
    /// The tokenizer is larger than [`MAX_TOKENIZER_BYTES`].
    #[error("tokenizer of {0} bytes is over the limit of {MAX_TOKENIZER_BYTES}")]
    TokenizerTooLarge(u64),
    /// A table lacks a tensor.
    #[error("the model has no tensor {0}")]
    NoTensor(TensorRef),
}

impl From<LinkError> for PlanError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Missing(cids) => Self::Missing(cids),
            other => Self::Links(other),
        }
    }
}

/// Everything that a range of layers needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// The layers.
    pub layers: LayerRange,
    /// The tensors, in the order of the builder's needs.
    pub tensors: Vec<PlannedTensor>,
    /// Stored bytes of these tensors.
    pub weight_bytes: u64,
}

/// A stored tensor and its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Which tensor.
    pub tensor: TensorRef,
    /// How its elements are stored.
    pub dtype: DType,
    /// Its blocks, in row order.
    pub blocks: Vec<PlannedBlock>,
}

/// A raw block of whole rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBlock {
    /// Its CID.
    pub cid: Cid,
    /// Its length.
    pub bytes: u64,
    /// The rows that it holds.
    pub rows: Range<u32>,
}

impl StagePlan {
    /// Plans `layers` of the model. `nodes` holds the tables and link nodes that are there already.
    ///
    /// A pure step of a fetch loop: on [`PlanError::Missing`] fetch those nodes, add them and ask again.
    ///
    /// # Errors
    /// Any [`PlanError`].
    pub fn new(manifest: &Manifest, layers: LayerRange, nodes: &Nodes) -> Result<Self, PlanError> {
        let Architecture::Llama(llama) = &manifest.architecture;
        let count = llama.num_hidden_layers;
        if layers.last() >= count {
            return Err(PlanError::Layers { layers, count });
        }
        let specs = needed(llama, layers);
        let stored = stored_tensors(manifest, &specs, nodes)?;
        let mut missing = Vec::new();
        let mut tensors = Vec::with_capacity(specs.len());
        for (spec, tensor) in specs.iter().zip(&stored) {
            spec.check_stored(tensor)?;
            match planned(spec.tensor, tensor, nodes) {
                Ok(tensor) => tensors.push(tensor),
                Err(LinkError::Missing(cids)) => missing.extend(cids),
                Err(other) => return Err(other.into()),
            }
        }
        if !missing.is_empty() {
            return Err(PlanError::Missing(missing));
        }
        let weight_bytes = tensors.iter().flat_map(|t| &t.blocks).map(|b| b.bytes).sum();
        Ok(Self { layers, tensors, weight_bytes })
    }

    /// All blocks with their lengths, in loading order. A block may occur twice where contents repeat.
    pub fn blocks(&self) -> impl Iterator<Item = &PlannedBlock> {
        self.tensors.iter().flat_map(|tensor| &tensor.blocks)
    }
}

/// Bytes of keys and values for one position in `layers`, kept as 32-bit floats.
#[must_use]
pub fn kv_bytes_per_position(llama: &Llama, layers: LayerRange) -> u64 {
    let row = u64::from(llama.num_key_value_heads) * u64::from(llama.head_dim) * 4;
    2 * row * u64::from(layers.count())
}

/// Bytes of the weights of `layers` in the memory of a back end that keeps matrices in `format`.
#[must_use]
pub fn memory_bytes(llama: &Llama, layers: LayerRange, format: WeightFormat) -> u64 {
    needed(llama, layers)
        .iter()
        .map(|spec| match (spec.shape, format) {
            (Shape::Matrix(rows, cols), WeightFormat::Q8_0) => u64::from(rows) * u64::from(cols).div_ceil(32) * 34,
            (Shape::Matrix(rows, cols), WeightFormat::Q4_0) => u64::from(rows) * u64::from(cols).div_ceil(32) * 18,
            (shape, _) => {
                let (rows, cols) = shape.rows_cols();
                u64::from(rows) * u64::from(cols) * 4
            }
        })
        .sum()
}

/// The blocks of `tokenizer.json`, each with its length.
///
/// # Errors
/// [`PlanError::TokenizerTooLarge`] before anything is fetched, [`PlanError::Missing`] as in [`StagePlan::new`], or
/// [`PlanError::Links`].
pub fn tokenizer_blocks(manifest: &Manifest, nodes: &Nodes) -> Result<Vec<(Cid, u64)>, PlanError> {
    let file = &manifest.tokenizer;
    if file.bytes > MAX_TOKENIZER_BYTES as u64 {
        return Err(PlanError::TokenizerTooLarge(file.bytes));
    }
    let block = MAX_BLOCK_BYTES as u64;
    let starts = (0..file.bytes).step_by(MAX_BLOCK_BYTES);
    let cids = resolve(&file.blocks, starts.clone().count(), nodes)?;
    Ok(cids.into_iter().zip(starts).map(|(cid, start)| (cid, block.min(file.bytes - start))).collect())
}

/// The table entry of each spec.
fn stored_tensors(manifest: &Manifest, specs: &[TensorSpec], nodes: &Nodes) -> Result<Vec<Tensor>, PlanError> {
    let table_cid = |table| match table {
        Table::Shared => Some(manifest.shared),
        Table::Layer(layer) => manifest.layers.get(layer as usize).copied(),
    };
    let mut tables: Vec<(Table, Cid)> = Vec::new();
    for table in specs.iter().map(|spec| spec.tensor.table) {
        if tables.last().is_none_or(|(last, _)| *last != table) {
            let cid = table_cid(table).ok_or_else(|| ManifestError::Invalid("a table for each layer".to_owned()))?;
            tables.push((table, cid));
        }
    }
    let missing: Vec<Cid> = tables.iter().map(|(_, cid)| *cid).filter(|cid| !nodes.contains_key(cid)).collect();
    if !missing.is_empty() {
        return Err(PlanError::Missing(missing));
    }
    let mut stored = Vec::with_capacity(specs.len());
    for (table, bytes) in tables.iter().filter_map(|(table, cid)| Some((*table, nodes.get(cid)?))) {
        let parsed = TensorTable::decode(bytes)?;
        for spec in specs.iter().filter(|spec| spec.tensor.table == table) {
            let tensor = parsed.get(spec.tensor.name).ok_or(PlanError::NoTensor(spec.tensor))?;
            stored.push(tensor.clone());
        }
    }
    Ok(stored)
}

fn planned(tensor: TensorRef, stored: &Tensor, nodes: &Nodes) -> Result<PlannedTensor, LinkError> {
    let (rows, step) = (stored.rows(), stored.rows_per_block);
    let row_bytes = stored.dtype.row_bytes(stored.cols()).ok_or(LinkError::Invalid("a broken row"))?;
    let cids = resolve(&stored.blocks, rows.div_ceil(step) as usize, nodes)?;
    let starts = (0..rows).step_by(step as usize);
    let blocks = cids
        .into_iter()
        .zip(starts)
        .map(|(cid, first)| {
            let end = rows.min(first.saturating_add(step));
            PlannedBlock { cid, bytes: row_bytes * u64::from(end - first), rows: first..end }
        })
        .collect();
    Ok(PlannedTensor { tensor, dtype: stored.dtype, blocks })
}

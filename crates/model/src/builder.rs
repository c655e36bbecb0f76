//! Loads the weights of a stage into a back end, block by block.

use std::collections::BTreeMap;

use cdi_types::LayerRange;
use cdi_types::manifest::{DType, Llama};

use crate::compute::{Compute, MatrixSpec, WeightFormat};
use crate::llama::{Head, Layer, LlamaStage, StageError};
use crate::quant::dequantised;
use crate::tensors::{EMBEDDING, FINAL_NORM, HEAD, Shape, Table, TensorRef, TensorSpec, is_first, is_last, needed};

/// A stage whose weights are arriving.
///
/// Rows of one tensor come in order; tensors in any order and interleaved as one likes. A matrix is allocated with
/// its first rows, with the shape that the hyperparameters give it, whatever a table says.
pub struct StageBuilder<C: Compute> {
    llama: Llama,
    layers: LayerRange,
    format: WeightFormat,
    needs: Vec<TensorSpec>,
    loaded: BTreeMap<TensorRef, Loaded<C>>,
}

enum Loaded<C: Compute> {
    Vector(C::Vector),
    Matrix { matrix: C::Matrix, rows_written: u32 },
}

impl<C: Compute> StageBuilder<C> {
    /// Starts a stage of `layers`, its matrices kept in `format` ([`WeightFormat::keeping`]).
    ///
    /// # Errors
    /// [`StageError::Model`] for hyperparameters that no kernel can run, [`StageError::Layers`] for layers that the
    /// model has not, [`StageError::Format`] when a width does not suit the format.
    pub fn new(llama: &Llama, layers: LayerRange, format: WeightFormat) -> Result<Self, StageError> {
        llama.validate()?;
        if layers.last() >= llama.num_hidden_layers {
            return Err(StageError::Layers { layers, count: llama.num_hidden_layers });
        }
        let needs = needed(llama, layers);
        let unsuited = needs
            .iter()
            .find(|spec| matches!(spec.shape, Shape::Matrix(_, cols) if !cols.is_multiple_of(format.block())));
        if let Some(spec) = unsuited {
            return Err(StageError::Format { tensor: spec.tensor, format });
        }
        Ok(Self { llama: llama.clone(), layers, format, needs, loaded: BTreeMap::new() })
    }

    /// The tensors to load, with their shapes.
    #[must_use]
    pub fn needs(&self) -> &[TensorSpec] {
        &self.needs
    }

    /// Takes whole stored rows of a tensor, from row `first` on. A vector is one row.
    ///
    /// # Errors
    /// [`StageError::NotNeeded`], [`StageError::Rows`] for rows out of order or cut, or the back end's error.
    pub fn write_rows(
        &mut self,
        compute: &mut C,
        tensor: TensorRef,
        first: u32,
        dtype: DType,
        bytes: &[u8],
    ) -> Result<(), StageError> {
        let spec = self.needs.iter().find(|spec| spec.tensor == tensor).ok_or(StageError::NotNeeded(tensor))?;
        let (rows, cols) = spec.shape.rows_cols();
        let written = match self.loaded.get(&tensor) {
            None => 0,
            Some(Loaded::Vector(_)) => 1,
            Some(Loaded::Matrix { rows_written, .. }) => *rows_written,
        };
        let count = whole_rows(dtype, cols, bytes).filter(|n| first == written && *n > 0 && *n <= rows - written);
        let count = count.ok_or(StageError::Rows { tensor, first, bytes: bytes.len() })?;
        if let Shape::Vector(_) = spec.shape {
            let values = floats(dtype, bytes).ok_or(StageError::Rows { tensor, first, bytes: bytes.len() })?;
            self.loaded.insert(tensor, Loaded::Vector(compute.new_vector(&values)?));
            return Ok(());
        }
        if written == 0 {
            let matrix = compute.new_matrix(MatrixSpec { rows, cols, format: self.format.keeping(dtype) })?;
            self.loaded.insert(tensor, Loaded::Matrix { matrix, rows_written: 0 });
        }
        if let Some(Loaded::Matrix { matrix, rows_written }) = self.loaded.get_mut(&tensor) {
            compute.write_rows(matrix, first, dtype, bytes)?;
            *rows_written += count;
        }
        Ok(())
    }

    /// The finished stage.
    ///
    /// # Errors
    /// [`StageError::Missing`] names every tensor that is not complete.
    pub fn finish(mut self) -> Result<LlamaStage<C>, StageError> {
        let complete = |spec: &&TensorSpec| match self.loaded.get(&spec.tensor) {
            None => false,
            Some(Loaded::Vector(_)) => true,
            Some(Loaded::Matrix { rows_written, .. }) => *rows_written == spec.shape.rows_cols().0,
        };
        let missing: Vec<TensorRef> =
            self.needs.iter().filter(|spec| !complete(spec)).map(|spec| spec.tensor).collect();
        if !missing.is_empty() {
            return Err(StageError::Missing(missing));
        }
        let layers = self.layers.iter().map(|layer| self.take_layer(layer)).collect::<Result<_, _>>()?;
        let (first, last) = (is_first(self.layers), is_last(&self.llama, self.layers));
        let head_name = if self.llama.tie_word_embeddings { EMBEDDING } else { HEAD };
        let embedding = if first { Some(self.matrix(Table::Shared, EMBEDDING)?) } else { None };
        let head = if last {
            let norm = self.vector(Table::Shared, FINAL_NORM)?;
            let shared = first && self.llama.tie_word_embeddings;
            let matrix = if shared { None } else { Some(self.matrix(Table::Shared, head_name)?) };
            Some(Head { norm, matrix })
        } else {
            None
        };
        Ok(LlamaStage { llama: self.llama, range: self.layers, embedding, layers, head })
    }

    fn take_layer(&mut self, layer: u32) -> Result<Layer<C>, StageError> {
        let table = Table::Layer(layer);
        Ok(Layer {
            input_norm: self.vector(table, "input_layernorm.weight")?,
            query: self.matrix(table, "self_attn.q_proj.weight")?,
            key: self.matrix(table, "self_attn.k_proj.weight")?,
            value: self.matrix(table, "self_attn.v_proj.weight")?,
            output: self.matrix(table, "self_attn.o_proj.weight")?,
            post_norm: self.vector(table, "post_attention_layernorm.weight")?,
            gate: self.matrix(table, "mlp.gate_proj.weight")?,
            up: self.matrix(table, "mlp.up_proj.weight")?,
            down: self.matrix(table, "mlp.down_proj.weight")?,
        })
    }

    fn matrix(&mut self, table: Table, name: &'static str) -> Result<C::Matrix, StageError> {
        let tensor = TensorRef { table, name };
        match self.loaded.remove(&tensor) {
            Some(Loaded::Matrix { matrix, .. }) => Ok(matrix),
            _ => Err(StageError::Missing(vec![tensor])),
        }
    }

    fn vector(&mut self, table: Table, name: &'static str) -> Result<C::Vector, StageError> {
        let tensor = TensorRef { table, name };
        match self.loaded.remove(&tensor) {
            Some(Loaded::Vector(vector)) => Ok(vector),
            _ => Err(StageError::Missing(vec![tensor])),
        }
    }
}

/// Number of rows in `bytes`; `None` when the last one is cut.
fn whole_rows(dtype: DType, cols: u32, bytes: &[u8]) -> Option<u32> {
    let row = dtype.row_bytes(cols)?;
    let len = bytes.len() as u64;
    if len.is_multiple_of(row) { u32::try_from(len / row).ok() } else { None }
}

/// Stored elements as 32-bit floats; `None` for a type that vectors are not stored in.
#[must_use]
pub fn floats(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16).then(|| dequantised(dtype, bytes))
}

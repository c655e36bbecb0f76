//! A contiguous range of layers of a Llama network, as a graph over a [`Compute`] back end.
//!
//! RMSNorm, rotary embeddings, grouped-query attention and SwiGLU. Source: <https://arxiv.org/abs/2307.09288>;
//! names and layout follow the Hugging Face implementation, which the parity tests compare with.

use std::collections::BTreeMap;

use cdi_types::LayerRange;
use cdi_types::manifest::{Llama, ManifestError};

use crate::compute::{Attention, CacheSpec, Compute, ComputeError, Rope, WeightFormat};
use crate::tensors::{TensorRef, is_last};

/// Why a stage was not built or did not run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StageError {
    /// The hyperparameters are out of bounds.
    #[error(transparent)]
    Model(#[from] ManifestError),
    /// The model has fewer layers.
    #[error("layers {layers} of a model with {count}")]
    Layers {
        /// The layers asked for.
        layers: LayerRange,
        /// The number of layers that there are.
        count: u32,
    },
    /// A matrix cannot be kept in the format.
    #[error("tensor {tensor} cannot be kept as {format:?}: its rows are not a multiple of 32")]
    Format {
        /// The matrix.
        tensor: TensorRef,
        /// The format asked for.
        format: WeightFormat,
    },
    /// The stage has no such tensor.
    #[error("this stage has no tensor {0}")]
    NotNeeded(TensorRef),
    /// Rows are cut, out of order or too many.
    #[error("tensor {tensor}: {bytes} bytes are not its next rows from {first} on")]
    Rows {
        /// The tensor.
        tensor: TensorRef,
        /// The first row offered.
        first: u32,
        /// The bytes offered.
        bytes: usize,
    },
    /// Tensors were not loaded, or not to their end.
    #[error("missing tensors: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Missing(Vec<TensorRef>),
    /// Token ids for a stage that takes hidden states, or the other way round.
    #[error("layers {0} take {need}", need = if .0.first() == 0 { "token ids" } else { "hidden states" })]
    Input(LayerRange),
    /// The input has no rows, or a cut one.
    #[error("{0} elements are not whole rows of hidden states")]
    Rank(usize),
    /// A token id is outside of the vocabulary.
    #[error("token id {id} is outside of a vocabulary of {vocab_size}")]
    Token {
        /// The id.
        id: u32,
        /// The number of ids.
        vocab_size: u32,
    },
    /// The rows do not follow what the cache holds.
    #[error("position {start} follows a gap: the cache holds {held} positions")]
    Gap {
        /// The first position of the input.
        start: u32,
        /// Positions that the cache holds.
        held: u32,
    },
    /// The rows do not fit into the cache.
    #[error("{rows} rows from position {start} on do not fit into {positions} positions")]
    Positions {
        /// The first position of the input.
        start: u32,
        /// The rows of the input.
        rows: usize,
        /// Room of the cache, or of the model.
        positions: u32,
    },
    /// Logits were asked for rows that the input has not.
    #[error("logits of row {0} of an input with fewer rows")]
    LogitRows(u32),
    /// The cache is for layers that the stage has not.
    #[error("the cache is for other layers than the stage has")]
    ForeignCache,
    /// The back end failed.
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

impl StageError {
    /// Whether the back end can be used no longer.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Compute(error) if error.is_fatal())
    }
}

/// What goes into a stage: one row a position.
#[derive(Debug, Clone, Copy)]
pub enum StageInput<'a> {
    /// Token ids, for the stage with layer 0.
    Tokens(&'a [u32]),
    /// Hidden states `[rows, hidden_size]` of the stage before, for any other.
    Hidden(&'a [f32]),
}

/// What comes out of a stage.
#[derive(Debug)]
pub enum StageOutput<T> {
    /// Hidden states `[rows, hidden_size]`, from a stage without the last layer.
    Hidden(T),
    /// Logits `[wanted rows, vocab_size]`, from the last stage.
    Logits(T),
    /// The last stage was asked for no logits: the cache is filled, that is all.
    Nothing,
}

/// Rows of the input whose logits the last stage computes; other stages ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitRows {
    /// None: a part of a prompt that more parts follow.
    None,
    /// The last row: the token after the input.
    Last,
    /// This row and those after it: the check of a draft.
    From(u32),
}

/// A loaded stage. Made by [`StageBuilder`](crate::builder::StageBuilder).
pub struct LlamaStage<C: Compute> {
    pub(crate) llama: Llama,
    pub(crate) range: LayerRange,
    pub(crate) embedding: Option<C::Matrix>,
    pub(crate) layers: Vec<Layer<C>>,
    pub(crate) head: Option<Head<C>>,
}

pub(crate) struct Layer<C: Compute> {
    pub(crate) input_norm: C::Vector,
    pub(crate) query: C::Matrix,
    pub(crate) key: C::Matrix,
    pub(crate) value: C::Matrix,
    pub(crate) output: C::Matrix,
    pub(crate) post_norm: C::Vector,
    pub(crate) gate: C::Matrix,
    pub(crate) up: C::Matrix,
    pub(crate) down: C::Matrix,
}

pub(crate) struct Head<C: Compute> {
    pub(crate) norm: C::Vector,
    /// Nothing where the head is the embedding of the same stage.
    pub(crate) matrix: Option<C::Matrix>,
}

/// Keys and values of one sequence in a part of one stage.
pub struct StageCache<C: Compute> {
    part: LayerRange,
    layers: Vec<C::Cache>,
    positions: u32,
    held: u32,
}

impl<C: Compute> StageCache<C> {
    /// The layers that it is for.
    #[must_use]
    pub const fn part(&self) -> LayerRange {
        self.part
    }

    /// Room, in positions.
    #[must_use]
    pub const fn positions(&self) -> u32 {
        self.positions
    }

    /// Positions `0 .. held` are in the cache.
    #[must_use]
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// Forgets the positions from `position` on.
    pub fn truncate(&mut self, position: u32) {
        self.held = self.held.min(position);
    }
}

impl<C: Compute> LlamaStage<C> {
    /// The layers of this stage.
    #[must_use]
    pub const fn layers(&self) -> LayerRange {
        self.range
    }

    /// The hyperparameters of the model.
    #[must_use]
    pub const fn llama(&self) -> &Llama {
        &self.llama
    }

    /// Whether a part of it gives logits: the part with the model's last layer.
    #[must_use]
    pub fn is_last(&self, part: LayerRange) -> bool {
        self.head.is_some() && is_last(&self.llama, part)
    }

    /// Joins the layers of an adjacent or overlapping stage of the same model; layers that both have are kept once.
    ///
    /// # Errors
    /// Gives `other` back when there is a gap between them.
    pub fn join(&mut self, other: Self) -> Result<(), Self> {
        let Some(union) = self.range.union(other.range).filter(|_| self.llama == other.llama) else {
            return Err(other);
        };
        let mut layers: BTreeMap<u32, Layer<C>> = other.range.iter().zip(other.layers).collect();
        layers.extend(self.range.iter().zip(self.layers.drain(..)));
        self.layers = layers.into_values().collect();
        self.range = union;
        self.embedding = self.embedding.take().or(other.embedding);
        self.head = self.head.take().or(other.head);
        Ok(())
    }

    /// Drops every layer outside of `range`; returns whether anything is left. Caches for dropped layers are refused
    /// from then on.
    pub fn keep(&mut self, range: LayerRange) -> bool {
        let Some(kept) = self.range.intersection(range) else { return false };
        let first = self.range.first();
        let mut number = first..;
        self.layers.retain(|_| number.next().is_some_and(|layer| kept.contains(layer)));
        // A tied head without a matrix of its own uses the embedding, which then stays.
        let shared = self.head.as_ref().is_some_and(|head| head.matrix.is_none());
        if !is_last(&self.llama, kept) {
            self.head = None;
        }
        if kept.first() != 0 && !(shared && self.head.is_some()) {
            self.embedding = None;
        }
        self.range = kept;
        true
    }

    /// Room for a sequence of `positions` in all layers of the stage.
    ///
    /// # Errors
    /// See [`Self::new_cache_of`].
    pub fn new_cache(&self, compute: &mut C, positions: u32) -> Result<StageCache<C>, StageError> {
        self.new_cache_of(compute, self.range, positions)
    }

    /// Room for a sequence of `positions` in a part of the stage.
    ///
    /// # Errors
    /// [`StageError::Positions`] for none or more than the model's context, [`StageError::ForeignCache`] for layers
    /// that the stage has not, or the back end's error.
    pub fn new_cache_of(&self, compute: &mut C, part: LayerRange, positions: u32) -> Result<StageCache<C>, StageError> {
        if !self.range.covers(part) {
            return Err(StageError::ForeignCache);
        }
        let most = self.llama.max_position_embeddings;
        if positions == 0 || positions > most {
            return Err(StageError::Positions { start: 0, rows: positions as usize, positions: most });
        }
        let spec = CacheSpec { kv_heads: self.llama.num_key_value_heads, head_dim: self.llama.head_dim, positions };
        let layers = part.iter().map(|_| compute.new_cache(spec)).collect::<Result<_, _>>()?;
        Ok(StageCache { part, layers, positions, held: 0 })
    }

    /// Runs the rows of `input`, the first of which is at position `start`.
    ///
    /// `start` may lie below what the cache holds: the positions from there on are replaced. After an error of the
    /// back end the cache holds what it held below `start`.
    ///
    /// # Errors
    /// Any [`StageError`] about the input, or the back end's error.
    pub fn forward(
        &self,
        compute: &mut C,
        input: StageInput<'_>,
        start: u32,
        cache: &mut StageCache<C>,
        logits: LogitRows,
    ) -> Result<StageOutput<C::Tensor>, StageError> {
        let rows = self.check(input, start, cache)?;
        let first_logit = match logits {
            LogitRows::None => None,
            LogitRows::Last => Some(rows - 1),
            LogitRows::From(row) if row < rows => Some(row),
            LogitRows::From(row) => return Err(StageError::LogitRows(row)),
        };
        cache.truncate(start);
        let mut x = match (input, &self.embedding) {
            (StageInput::Tokens(ids), Some(table)) => compute.embed(table, ids)?,
            (StageInput::Hidden(values), _) => compute.upload(self.llama.hidden_size, values)?,
            (StageInput::Tokens(_), None) => return Err(StageError::Input(cache.part)),
        };
        let before = (cache.part.first() - self.range.first()) as usize;
        for (layer, cache) in self.layers[before..].iter().zip(&mut cache.layers) {
            self.run_layer(compute, layer, &mut x, start, cache)?;
        }
        cache.held = start + rows;
        let head = self.head.as_ref().filter(|_| is_last(&self.llama, cache.part));
        let Some(head) = head else { return Ok(StageOutput::Hidden(x)) };
        let Some(first) = first_logit else { return Ok(StageOutput::Nothing) };
        let Some(matrix) = head.matrix.as_ref().or(self.embedding.as_ref()) else {
            return Err(StageError::Missing(Vec::new()));
        };
        let wanted = if first == 0 { x } else { compute.rows(&x, first, rows - first)? };
        let normed = compute.rms_norm(&wanted, &head.norm, self.eps())?;
        Ok(StageOutput::Logits(compute.matmul(&normed, matrix)?))
    }

    fn run_layer(
        &self,
        compute: &mut C,
        layer: &Layer<C>,
        x: &mut C::Tensor,
        start: u32,
        cache: &mut C::Cache,
    ) -> Result<(), StageError> {
        let llama = &self.llama;
        let rope = Rope { head_dim: llama.head_dim, theta: narrow(llama.rope_theta), start };
        let attention = Attention {
            heads: llama.num_attention_heads,
            kv_heads: llama.num_key_value_heads,
            head_dim: llama.head_dim,
            start,
        };
        let normed = compute.rms_norm(x, &layer.input_norm, self.eps())?;
        let [mut query, mut key, value] = compute.qkv(&normed, [&layer.query, &layer.key, &layer.value])?;
        compute.rope(&mut query, rope)?;
        compute.rope(&mut key, rope)?;
        let mixed = compute.attention(&query, &key, &value, cache, attention)?;
        let attended = compute.matmul(&mixed, &layer.output)?;
        compute.add(x, &attended)?;

        let normed = compute.rms_norm(x, &layer.post_norm, self.eps())?;
        let hidden = compute.swiglu(&normed, &layer.gate, &layer.up)?;
        let fed = compute.matmul(&hidden, &layer.down)?;
        Ok(compute.add(x, &fed)?)
    }

    /// Number of rows of an input that fits the stage, the vocabulary and the cache.
    fn check(&self, input: StageInput<'_>, start: u32, cache: &StageCache<C>) -> Result<u32, StageError> {
        if !self.range.covers(cache.part) {
            return Err(StageError::ForeignCache);
        }
        let first = cache.part.first() == 0;
        let rows = match input {
            StageInput::Tokens(_) if !first => return Err(StageError::Input(cache.part)),
            StageInput::Hidden(_) if first => return Err(StageError::Input(cache.part)),
            StageInput::Tokens(ids) => {
                let vocab_size = self.llama.vocab_size;
                if let Some(id) = ids.iter().copied().find(|id| *id >= vocab_size) {
                    return Err(StageError::Token { id, vocab_size });
                }
                ids.len()
            }
            StageInput::Hidden(values) => {
                let width = self.llama.hidden_size as usize;
                if !values.len().is_multiple_of(width) {
                    return Err(StageError::Rank(values.len()));
                }
                values.len() / width
            }
        };
        if rows == 0 {
            return Err(StageError::Rank(0));
        }
        if start > cache.held {
            return Err(StageError::Gap { start, held: cache.held });
        }
        let positions = cache.positions;
        u32::try_from(rows)
            .ok()
            .filter(|rows| start.checked_add(*rows).is_some_and(|end| end <= positions))
            .ok_or(StageError::Positions { start, rows, positions })
    }

    fn eps(&self) -> f32 {
        narrow(self.llama.rms_norm_eps)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "kernels compute in f32; the manifest keeps what the file says")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

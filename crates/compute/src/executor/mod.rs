//! What the compute worker runs: one back end, the stages loaded into it, and sessions with their caches.
//!
//! It holds no thread, channel or clock of its own. The caller feeds it weights and steps one at a time and gives it
//! a clock; every size that a peer can choose is bounded by [`Limits`] or a constant.

mod metrics;
mod self_test;

use std::collections::BTreeMap;

use cdi_model::builder::StageBuilder;
use cdi_model::compute::{Compute, ComputeError, WeightFormat};
use cdi_model::llama::{LlamaStage, LogitRows, StageCache, StageError, StageInput, StageOutput};
use cdi_model::plan::kv_bytes_per_position;
use cdi_model::sampler::{self, SampleError};
use cdi_model::tensors::{TensorRef, TensorSpec};
use cdi_types::manifest::{DType, Llama};
use cdi_types::sampling::Sampling;
use cdi_types::session::{MAX_FRAME_ROWS, SessionId};
use cdi_types::{Cid, LayerRange};

use metrics::Meter;
pub use metrics::{StageStats, Stats};

/// Most rows of one step. Longer prompts come in parts, which also keeps them from blocking other sessions.
pub const MAX_STEP_ROWS: usize = MAX_FRAME_ROWS as usize;

/// Milliseconds from any fixed origin, never decreasing.
pub type Clock = Box<dyn Fn() -> f64 + Send>;

/// Layers of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StageId {
    /// CID of the manifest.
    pub model: Cid,
    /// The layers.
    pub layers: LayerRange,
}

/// A session at one stage: a node may hold several stages of the same session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    /// The session.
    pub session: SessionId,
    /// The stage.
    pub stage: StageId,
}

/// What sessions may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of keys and values.
    pub kv_bytes: u64,
    /// Number of sessions.
    pub sessions: usize,
}

/// What goes into a step: consecutive positions.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Token ids, for the stage with layer 0.
    Tokens(&'a [u32]),
    /// Rows of hidden states as little-endian f32, for any other.
    Hidden(&'a [u8]),
}

/// What a step shall give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Want {
    /// Hidden states of all rows; of a stage without the last layer.
    Hidden,
    /// The tokens that follow these rows; of the stage with the last layer.
    Tokens(LogitRows, Sampling),
}

/// What a step gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Rows of hidden states as little-endian f32.
    Hidden(Vec<u8>),
    /// A token for each wanted row, in order.
    Tokens(Vec<u32>),
}

/// Why the executor did not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExecutorError {
    /// The stage is loaded or loading already.
    #[error("layers {} are loaded already", .0.layers)]
    StageExists(StageId),
    /// No such stage, or it is not in the state that the call needs.
    #[error("layers {} are not there", .0.layers)]
    NoStage(StageId),
    /// The session is open at this stage already.
    #[error("the session is open already")]
    SessionExists,
    /// No such session at this stage.
    #[error("no such session")]
    NoSession,
    /// As many sessions as allowed are open.
    #[error("all {0} sessions are taken")]
    SessionsFull(usize),
    /// The caches of all sessions together would exceed the budget.
    #[error("no room for {needed} bytes of keys and values, {free} are free")]
    KvFull {
        /// Bytes that the session needs.
        needed: u64,
        /// Bytes of the budget that are free.
        free: u64,
    },
    /// More rows than [`MAX_STEP_ROWS`].
    #[error("{0} rows in one step, at most {MAX_STEP_ROWS}")]
    TooManyRows(usize),
    /// Hidden states that are not whole f32.
    #[error("{0} bytes are not 32-bit floats")]
    CutInput(usize),
    /// Tokens of a stage without the last layer, or hidden states of the last one.
    #[error("layers {} give {gives}", .layers, gives = if *.last { "tokens" } else { "hidden states" })]
    Want {
        /// The layers of the stage.
        layers: LayerRange,
        /// Whether they include the last one.
        last: bool,
    },
    /// The stage refused the input, or its back end failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// No token could be chosen.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The stage's results are wrong: it must not be used.
    #[error("self-test of layers {layers} failed: {what}")]
    SelfTest {
        /// The layers of the stage.
        layers: LayerRange,
        /// What was wrong.
        what: &'static str,
    },
}

impl ExecutorError {
    /// Whether the back end, with everything in it, can be used no longer.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Stage(error) if error.is_fatal())
    }
}

impl From<ComputeError> for ExecutorError {
    fn from(error: ComputeError) -> Self {
        Self::Stage(error.into())
    }
}

/// Runs stages on one back end.
pub struct Executor<C: Compute> {
    compute: C,
    limits: Limits,
    clock: Clock,
    loading: BTreeMap<StageId, Loading<C>>,
    stages: BTreeMap<StageId, Loaded<C>>,
    sessions: BTreeMap<SessionKey, Session<C>>,
}

struct Loading<C: Compute> {
    builder: StageBuilder<C>,
    kernel_id: String,
}

struct Loaded<C: Compute> {
    stage: LlamaStage<C>,
    kernel_id: String,
    meter: Meter,
}

struct Session<C: Compute> {
    cache: StageCache<C>,
    kv_bytes: u64,
}

impl<C: Compute> Executor<C> {
    /// An executor without stages.
    #[must_use]
    pub fn new(compute: C, limits: Limits, clock: Clock) -> Self {
        let (loading, stages, sessions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { compute, limits, clock, loading, stages, sessions }
    }

    /// Starts to load a stage, its matrices kept in `format`, and gives the tensors that it needs.
    ///
    /// # Errors
    /// [`ExecutorError::StageExists`], or [`ExecutorError::Stage`] for layers or a format that cannot be.
    pub fn begin_stage(
        &mut self,
        id: StageId,
        llama: &Llama,
        format: WeightFormat,
    ) -> Result<&[TensorSpec], ExecutorError> {
        if self.covering(id).is_some() || self.loading.contains_key(&id) {
            return Err(ExecutorError::StageExists(id));
        }
        let builder = StageBuilder::new(llama, id.layers, format)?;
        let kernel_id = kernel_id(&self.compute, format);
        Ok(self.loading.entry(id).or_insert(Loading { builder, kernel_id }).builder.needs())
    }

    /// Takes whole stored rows of a tensor, from row `first` on.
    ///
    /// # Errors
    /// [`ExecutorError::NoStage`] when it is not loading, or [`ExecutorError::Stage`].
    pub fn write_rows(
        &mut self,
        id: StageId,
        tensor: TensorRef,
        first: u32,
        dtype: DType,
        bytes: &[u8],
    ) -> Result<(), ExecutorError> {
        let loading = self.loading.get_mut(&id).ok_or(ExecutorError::NoStage(id))?;
        Ok(loading.builder.write_rows(&mut self.compute, tensor, first, dtype, bytes)?)
    }

    /// Makes a completely loaded stage ready and gives its kernel id. It joins adjacent layers of its model, so that
    /// a session can run over all of them. On an error the stage is gone.
    ///
    /// # Errors
    /// [`ExecutorError::NoStage`] when it is not loading, or [`ExecutorError::Stage`] with the missing tensors.
    pub fn finish_stage(&mut self, id: StageId) -> Result<&str, ExecutorError> {
        let Loading { builder, kernel_id } = self.loading.remove(&id).ok_or(ExecutorError::NoStage(id))?;
        let mut stage = builder.finish()?;
        let same = |(other, loaded): (&StageId, &Loaded<C>)| {
            (other.model == id.model && loaded.kernel_id == kernel_id).then_some(*other)
        };
        for other in self.stages.iter().filter_map(same).collect::<Vec<_>>() {
            let Some(loaded) = self.stages.remove(&other) else { continue };
            if let Err(apart) = stage.join(loaded.stage) {
                self.stages.insert(other, Loaded { stage: apart, ..loaded });
            }
        }
        let joined = StageId { layers: stage.layers(), ..id };
        let loaded = Loaded { stage, kernel_id, meter: Meter::default() };
        Ok(&self.stages.entry(joined).or_insert(loaded).kernel_id)
    }

    /// Gives up a stage that is loading.
    pub fn abandon(&mut self, id: StageId) {
        self.loading.remove(&id);
    }

    /// The parts of `layers` that are not loaded, in order.
    #[must_use]
    pub fn missing(&self, model: Cid, layers: LayerRange) -> Vec<LayerRange> {
        let loaded = |layer| self.stages.keys().any(|id| id.model == model && id.layers.contains(layer));
        let mut parts: Vec<LayerRange> = Vec::new();
        for layer in layers.iter().filter(|layer| !loaded(*layer)) {
            let Ok(one) = LayerRange::new(layer, layer) else { continue };
            match parts.last_mut().and_then(|part| Some((part.union(one)?, part))) {
                Some((longer, part)) => *part = longer,
                None => parts.push(one),
            }
        }
        parts
    }

    /// Forgets every layer of a model outside of `range`, or all of them, and closes the sessions that used one;
    /// gives their number.
    pub fn keep(&mut self, model: Cid, range: Option<LayerRange>) -> usize {
        for id in self.stages.keys().filter(|id| id.model == model).copied().collect::<Vec<_>>() {
            let Some(mut loaded) = self.stages.remove(&id) else { continue };
            if range.is_some_and(|range| loaded.stage.keep(range)) {
                self.stages.insert(StageId { model, layers: loaded.stage.layers() }, loaded);
            }
        }
        let before = self.sessions.len();
        let kept = |layers: LayerRange| range.is_some_and(|range| range.covers(layers));
        self.sessions.retain(|key, _| key.stage.model != model || kept(key.stage.layers));
        before - self.sessions.len()
    }

    /// The loaded stage that has all layers of `part`.
    fn covering(&self, part: StageId) -> Option<StageId> {
        self.stages.keys().find(|id| id.model == part.model && id.layers.covers(part.layers)).copied()
    }

    /// Names kernels and format of the weights: together they fix every bit of a stage's results.
    #[must_use]
    pub fn kernel_id(&self, format: WeightFormat) -> String {
        kernel_id(&self.compute, format)
    }

    /// Reserves room for a session of `max_positions`.
    ///
    /// # Errors
    /// [`ExecutorError::NoStage`], [`ExecutorError::SessionExists`], [`ExecutorError::SessionsFull`],
    /// [`ExecutorError::KvFull`], or [`ExecutorError::Stage`] for a length that the model has not.
    pub fn open_session(&mut self, key: SessionKey, max_positions: u32) -> Result<(), ExecutorError> {
        let held = self.covering(key.stage).ok_or(ExecutorError::NoStage(key.stage))?;
        let Loaded { stage, .. } = self.stages.get(&held).ok_or(ExecutorError::NoStage(key.stage))?;
        if self.sessions.contains_key(&key) {
            return Err(ExecutorError::SessionExists);
        }
        if self.sessions.len() >= self.limits.sessions {
            return Err(ExecutorError::SessionsFull(self.limits.sessions));
        }
        let needed = kv_bytes_per_position(stage.llama(), key.stage.layers).saturating_mul(max_positions.into());
        let free = self.limits.kv_bytes.saturating_sub(self.kv_bytes());
        if needed > free {
            return Err(ExecutorError::KvFull { needed, free });
        }
        let cache = stage.new_cache_of(&mut self.compute, key.stage.layers, max_positions)?;
        self.sessions.insert(key, Session { cache, kv_bytes: needed });
        Ok(())
    }

    /// The first position that a session does not hold.
    #[must_use]
    pub fn held(&self, key: SessionKey) -> Option<u32> {
        Some(self.sessions.get(&key)?.cache.held())
    }

    /// Runs consecutive rows, the first at position `start`. Rows at positions already held replace them and all
    /// later ones: a rollback.
    ///
    /// # Errors
    /// [`ExecutorError::NoSession`], an error about the input or the wanted output, before anything is computed;
    /// [`ExecutorError::Stage`] for a gap or missing room, or from the back end; [`ExecutorError::Sample`].
    pub async fn step(
        &mut self,
        key: SessionKey,
        start: u32,
        input: Input<'_>,
        want: Want,
    ) -> Result<Output, ExecutorError> {
        let part = key.stage.layers;
        let held = self.covering(key.stage).ok_or(ExecutorError::NoSession)?;
        let session = self.sessions.get_mut(&key).ok_or(ExecutorError::NoSession)?;
        let Loaded { stage, meter, .. } = self.stages.get_mut(&held).ok_or(ExecutorError::NoStage(key.stage))?;
        let (logits, sampling) = match (want, stage.is_last(part)) {
            (Want::Hidden, false) => (LogitRows::None, None),
            (Want::Tokens(rows, sampling), true) => (rows, Some(sampling)),
            (_, last) => return Err(ExecutorError::Want { layers: part, last }),
        };
        let floats;
        let input = match input {
            Input::Tokens(ids) => StageInput::Tokens(ids),
            Input::Hidden(bytes) => {
                floats = from_le_bytes(bytes)?;
                StageInput::Hidden(&floats)
            }
        };
        let rows = rows_of(input, stage.llama());
        if rows > MAX_STEP_ROWS {
            return Err(ExecutorError::TooManyRows(rows));
        }
        let started = (self.clock)();
        let output = stage.forward(&mut self.compute, input, start, &mut session.cache, logits)?;
        let (values, wanted) = match &output {
            StageOutput::Hidden(x) => (self.compute.read(x).await?, 0),
            StageOutput::Logits(x) => (self.compute.read(x).await?, self.compute.shape(x)[0]),
            StageOutput::Nothing => (Vec::new(), 0),
        };
        meter.record(stage.llama(), part, rows, start, wanted, (self.clock)() - started);
        let Some(sampling) = sampling else { return Ok(Output::Hidden(to_le_bytes(&values))) };
        let first = session.cache.held() - wanted;
        let logits = values.chunks_exact(stage.llama().vocab_size as usize);
        let tokens = logits.zip(first..).map(|(row, position)| sampler::choose(row, &sampling, position));
        Ok(Output::Tokens(tokens.collect::<Result<_, _>>()?))
    }

    /// Forgets the positions of a session from `position` on; gives the first position that it does not hold.
    ///
    /// # Errors
    /// [`ExecutorError::NoSession`].
    pub fn truncate(&mut self, key: SessionKey, position: u32) -> Result<u32, ExecutorError> {
        let session = self.sessions.get_mut(&key).ok_or(ExecutorError::NoSession)?;
        session.cache.truncate(position);
        Ok(session.cache.held())
    }

    /// Frees a session's room; whether it was open.
    pub fn close_session(&mut self, key: SessionKey) -> bool {
        self.sessions.remove(&key).is_some()
    }

    /// Compares a small computation with itself in other batches, bit by bit, and checks that it is finite.
    ///
    /// # Errors
    /// [`ExecutorError::NoStage`], [`ExecutorError::SelfTest`], or [`ExecutorError::Stage`] from the back end.
    pub async fn self_test(&mut self, id: StageId) -> Result<(), ExecutorError> {
        let held = self.covering(id).ok_or(ExecutorError::NoStage(id))?;
        let Loaded { stage, .. } = self.stages.get(&held).ok_or(ExecutorError::NoStage(id))?;
        self_test::run(&mut self.compute, stage, id.layers).await
    }

    /// Milliseconds of one row through the layers: the median of `steps` after the first.
    ///
    /// # Errors
    /// [`ExecutorError::NoStage`], or [`ExecutorError::Stage`] from the back end.
    pub async fn measure(&mut self, id: StageId, steps: u32) -> Result<f64, ExecutorError> {
        let held = self.covering(id).ok_or(ExecutorError::NoStage(id))?;
        let Loaded { stage, .. } = self.stages.get(&held).ok_or(ExecutorError::NoStage(id))?;
        self_test::measure(&mut self.compute, stage, id.layers, steps, &self.clock).await
    }

    /// Whether the back end can still compute, as far as is known without computing.
    ///
    /// # Errors
    /// A fatal one.
    pub fn health(&self) -> Result<(), ExecutorError> {
        Ok(self.compute.health()?)
    }

    /// Memory and speed now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let stages = self.stages.iter().map(|(id, loaded)| loaded.meter.stats(*id, &loaded.kernel_id));
        Stats {
            memory_bytes: self.compute.memory_bytes(),
            kv_bytes: self.kv_bytes(),
            kv_limit_bytes: self.limits.kv_bytes,
            sessions: self.sessions.len(),
            stages: stages.collect(),
        }
    }

    fn kv_bytes(&self) -> u64 {
        self.sessions.values().map(|session| session.kv_bytes).sum()
    }
}

/// The back end's kernel id and the format of the weights: together they fix every bit of a stage's results.
fn kernel_id<C: Compute>(compute: &C, format: WeightFormat) -> String {
    let format = match format {
        WeightFormat::F32 => "f32",
        WeightFormat::Q8_0 => "q8_0",
        WeightFormat::Q4_0 => "q4_0",
    };
    format!("{}/{format}", compute.kernel_id())
}

fn rows_of(input: StageInput<'_>, llama: &Llama) -> usize {
    match input {
        StageInput::Tokens(ids) => ids.len(),
        StageInput::Hidden(values) => values.len() / llama.hidden_size as usize,
    }
}

fn from_le_bytes(bytes: &[u8]) -> Result<Vec<f32>, ExecutorError> {
    match bytes.as_chunks::<4>() {
        (chunks, []) => Ok(chunks.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        _ => Err(ExecutorError::CutInput(bytes.len())),
    }
}

fn to_le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

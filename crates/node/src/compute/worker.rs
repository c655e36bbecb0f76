//! The compute half: answers the requests of [`super::protocol`], many at a time.
//!
//! One thread does everything. Requests run as futures side by side, so that a download does not hold up a
//! session; the executor is behind a lock that is held for one step at a time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use cdi_compute::backend::Backend;
use cdi_compute::executor::{Executor, ExecutorError, Input, Limits, Output, SessionKey, StageId, StageStats, Want};
use cdi_model::llama::LogitRows;
use cdi_platform::Place;
use cdi_platform::port::{Packet, Port, Sender};
use cdi_platform::time::Instant;
use cdi_store::BlockStore;
use cdi_store::blocks::Limits as StoreLimits;
use cdi_store::fetch::{BlockSource, FetchArgs, Fetcher, HttpGateway, Progress};
use cdi_types::sampling::Sampling;
use cdi_types::{Cid, LayerRange, Network};
use futures::lock::Mutex;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, select};

use crate::call::{Request, reply, unpack};
use crate::compute::chooser::{Chosen, choose};
use crate::compute::loader::{LoadError, Loader, Model};
use crate::compute::protocol::{Answer, Ask, Failure, ModelInfo, StageKey, Started, VERSION};
use crate::view::SpeedView;

/// Most sessions at once.
const SESSIONS: usize = crate::serve::MAX_STAGES;
/// Name of the pin set of hosted layers.
const HOSTED: &str = "hosted";
/// Steps that the decode time is measured over.
const MEASURED_STEPS: u32 = 7;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("the page and its worker come from different builds; reload the page")]
    Version,
    #[error("the compute worker has not been started")]
    NotStarted,
    #[error("the model has not been opened")]
    NoModel,
    #[error("no such session")]
    NoSession,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error(transparent)]
    Compute(#[from] cdi_model::compute::ComputeError),
    #[error(transparent)]
    Store(#[from] cdi_store::StoreError),
}

impl WorkError {
    fn kind(&self) -> Failure {
        match self {
            Self::Executor(error) | Self::Load(LoadError::Executor(error)) if error.is_fatal() => Failure::DeviceLost,
            Self::Compute(error) if error.is_fatal() => Failure::DeviceLost,
            Self::Executor(ExecutorError::KvFull { .. } | ExecutorError::SessionsFull(_)) => Failure::Full,
            Self::Load(LoadError::Fetch(_)) => Failure::Unavailable,
            Self::Executor(_) | Self::NoSession => Failure::Invalid,
            _ => Failure::Other,
        }
    }
}

/// Serves `port` until it closes. `place` is where blocks are kept.
pub async fn run(port: Port, place: Place) {
    let (sender, mut receiver) = port.split();
    let worker = Rc::new(Worker {
        sender,
        place,
        started: Instant::now(),
        half: RefCell::default(),
        lost: Cell::new(false),
        without_disk: Cell::new(false),
    });
    let mut running = FuturesUnordered::new();
    loop {
        select! {
            packet = receiver.recv().fuse() => match packet {
                Some(packet) => running.push(worker.clone().serve(packet)),
                None => return,
            },
            () = running.select_next_some() => {}
        }
    }
}

struct Worker {
    sender: Sender,
    place: Place,
    started: Instant,
    half: RefCell<Option<Rc<Half>>>,
    /// Whether the GPU was lost: it is not tried again.
    lost: Cell<bool>,
    /// Whether blocks are kept in memory, because storage was refused.
    without_disk: Cell<bool>,
}

/// What is there after a start.
struct Half {
    loader: Rc<Loader>,
    executor: Mutex<Executor<Backend>>,
    models: RefCell<HashMap<Cid, Rc<Model>>>,
    sessions: RefCell<HashMap<StageKey, SessionKey>>,
}

impl Worker {
    async fn serve(self: Rc<Self>, packet: Packet) {
        let Request { id, ask } = match unpack(&packet) {
            Ok(request) => request,
            Err(error) => return tracing::warn!(%error, "request dropped"),
        };
        let (answer, payload) = match self.answer(id, ask, packet.payload).await {
            Ok(answer) => answer,
            Err(error) => {
                let kind = error.kind();
                self.lost.set(self.lost.get() || kind == Failure::DeviceLost);
                (Answer::Failed { kind, message: error.to_string() }, Vec::new())
            }
        };
        reply(&self.sender, id, answer, payload);
    }

    fn half(&self) -> Result<Rc<Half>, WorkError> {
        self.half.borrow().clone().ok_or(WorkError::NotStarted)
    }

    async fn answer(&self, id: u64, ask: Ask, payload: Vec<u8>) -> Result<(Answer, Vec<u8>), WorkError> {
        let answer = match ask {
            Ask::Start { .. } => self.start(ask).await?,
            Ask::OpenModel { model } => Answer::Model(self.half()?.open_model(model).await?),
            Ask::Load { model, layers, pin } => self.load(id, model, layers, pin).await?,
            Ask::SelfTest { model, layers } => {
                let decode_ms = self.half()?.self_test(StageId { model, layers }).await?;
                Answer::Tested { decode_ms }
            }
            Ask::Unload { model, keep } => {
                let half = self.half()?;
                half.executor.lock().await.keep(model, keep);
                if keep.is_none() {
                    half.loader.store.unpin(HOSTED).await?;
                }
                Answer::Done
            }
            Ask::Tokenizer { model } => {
                let half = self.half()?;
                let model = half.model(model)?;
                let tokenizer = half.loader.tokenizer(&model.manifest).await?;
                return Ok((Answer::Tokenizer { template: model.manifest.chat_template.clone() }, tokenizer));
            }
            Ask::OpenStage { stage, model, layers, positions } => {
                let half = self.half()?;
                let key = SessionKey { session: stage.session, stage: StageId { model, layers } };
                half.executor.lock().await.open_session(key, positions)?;
                half.sessions.borrow_mut().insert(stage, key);
                Answer::Done
            }
            Ask::Step { stage, start, tokens, sample } => {
                return self.half()?.step(stage, start, tokens.as_deref(), &payload, sample).await;
            }
            Ask::Stats => Answer::Stats(self.half()?.stats().await?),
            Ask::CloseStage { stage } => {
                let half = self.half()?;
                let key = half.sessions.borrow_mut().remove(&stage);
                if let Some(key) = key {
                    half.executor.lock().await.close_session(key);
                }
                Answer::Done
            }
        };
        Ok((answer, Vec::new()))
    }

    async fn start(&self, ask: Ask) -> Result<Answer, WorkError> {
        let Ask::Start { version, network, gateways, store_bytes, store, kv_bytes, prefer } = ask else {
            return Err(WorkError::Version);
        };
        if version != VERSION {
            return Err(WorkError::Version);
        }
        let started = self.started;
        let now_ms = move || started.elapsed().as_secs_f64() * 1e3;
        let lost = self.lost.get();
        let prefer = if lost { Some(cdi_types::advert::Tier::Cpu) } else { prefer };
        let Chosen { backend, tier, reason } = choose(prefer, now_ms).await?;
        let reason = if lost { "The GPU was lost, so the CPU computes.".to_owned() } else { reason };
        let earlier = self.half.borrow_mut().take();
        // What was read stays; only what the back end held is gone.
        let (loader, models) = match earlier {
            Some(half) => (half.loader.clone(), half.models.take()),
            None => {
                let limits = StoreLimits { disk_bytes: store_bytes, ..StoreLimits::default() };
                let store = self.open_store(network, limits, store).await?;
                let source = |base: &String| -> Box<dyn BlockSource> { Box::new(HttpGateway::new(base)) };
                let fetcher = Fetcher::new(gateways.iter().map(source).collect(), FetchArgs::default());
                (Rc::new(Loader { store, fetcher }), HashMap::new())
            }
        };
        let executor = Executor::new(backend, Limits { kv_bytes, sessions: SESSIONS }, Box::new(now_ms));
        let kernel_id = executor.kernel_id(cdi_model::compute::WeightFormat::F32);
        let half =
            Half { loader, executor: Mutex::new(executor), models: RefCell::new(models), sessions: RefCell::default() };
        let store = half.loader.store.number();
        *self.half.borrow_mut() = Some(Rc::new(half));
        let lasting = self.place.is_lasting() && !self.without_disk.get();
        Ok(Answer::Started(Started { tier, reason, kernel_id, lasting, store }))
    }

    /// The block store, or one in memory where the browser refuses storage: the page then says so.
    async fn open_store(
        &self,
        network: Network,
        limits: StoreLimits,
        before: Option<u32>,
    ) -> Result<BlockStore, WorkError> {
        match BlockStore::open(&self.place, network, limits, before).await {
            Ok(store) => Ok(store),
            Err(error) => {
                tracing::warn!(%error, "blocks are kept in memory");
                self.without_disk.set(true);
                let limits = StoreLimits { disk_bytes: limits.memory_bytes, ..limits };
                Ok(BlockStore::open(&Place::memory(), network, limits, None).await?)
            }
        }
    }

    async fn load(&self, id: u64, model: Cid, layers: LayerRange, pin: bool) -> Result<Answer, WorkError> {
        let half = self.half()?;
        let model = half.model(model)?;
        if pin {
            let cids = half.loader.cids(&model, layers).await?;
            half.loader.store.pin(HOSTED, cids).await?;
        }
        let sender = self.sender.clone();
        let report = move |progress: Progress| {
            let Progress { done_bytes, fetched_bytes, total_bytes, .. } = progress;
            reply(&sender, id, Answer::Progress { done_bytes, fetched_bytes, total_bytes }, Vec::new());
        };
        let (progress, kernel_id) = half.loader.load(&model, layers, &half.executor, report).await?;
        let sources = half.loader.fetcher.sources();
        let bad_sources = sources.into_iter().filter(|s| s.bad).map(|s| s.name).collect();
        Ok(Answer::Loaded { kept_in_memory: progress.kept_in_memory, bad_sources, kernel_id })
    }
}

impl Half {
    fn model(&self, id: Cid) -> Result<Rc<Model>, WorkError> {
        self.models.borrow().get(&id).cloned().ok_or(WorkError::NoModel)
    }

    async fn open_model(&self, id: Cid) -> Result<ModelInfo, WorkError> {
        let known = self.models.borrow().get(&id).cloned();
        let model = match known {
            Some(model) => model,
            None => Rc::new(self.loader.model(id).await?),
        };
        self.models.borrow_mut().insert(id, model.clone());
        let llama = model.llama();
        Ok(ModelInfo {
            name: model.manifest.name.clone(),
            layers: llama.num_hidden_layers,
            hidden_bytes: llama.hidden_size * 4,
            context: llama.max_position_embeddings,
            end_of_text: model.manifest.end_of_text.clone(),
            weight_bytes: model.manifest.weight_bytes,
            kv_bytes_per_layer: 2 * llama.num_key_value_heads * llama.head_dim * 4,
        })
    }

    async fn step(
        &self,
        stage: StageKey,
        start: u32,
        tokens: Option<&[u32]>,
        rows: &[u8],
        sample: Option<(u32, Sampling)>,
    ) -> Result<(Answer, Vec<u8>), WorkError> {
        let key = self.sessions.borrow().get(&stage).copied().ok_or(WorkError::NoSession)?;
        let input = tokens.map_or(Input::Hidden(rows), Input::Tokens);
        let hidden_bytes = self.model(key.stage.model)?.llama().hidden_size as usize * 4;
        let count = tokens.map_or(rows.len() / hidden_bytes, <[u32]>::len);
        let end = start.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let first_sampled = sample.map_or(end, |(from, _)| from.max(start));
        let want = match sample {
            None => Want::Hidden,
            Some((_, sampling)) if first_sampled < end => {
                Want::Tokens(LogitRows::From(first_sampled - start), sampling)
            }
            Some((_, sampling)) => Want::Tokens(LogitRows::None, sampling),
        };
        match self.executor.lock().await.step(key, start, input, want).await? {
            Output::Hidden(rows) => Ok((Answer::Rows, rows)),
            // The token after a row stands at the next position.
            Output::Tokens(ids) => {
                Ok((Answer::Tokens((first_sampled.saturating_add(1)..).zip(ids).collect()), Vec::new()))
            }
        }
    }

    async fn stats(&self) -> Result<SpeedView, WorkError> {
        let executor = self.executor.lock().await;
        executor.health()?;
        let stats = executor.stats();
        let best = |figure: fn(&StageStats) -> Option<f64>| stats.stages.iter().filter_map(figure).reduce(f64::max);
        let (gflops, decode_ms) = (best(|s| s.gflops), best(|s| s.decode_ms));
        Ok(SpeedView { gflops, decode_ms, memory_bytes: stats.memory_bytes })
    }

    /// Tests a stage and measures one token through it.
    async fn self_test(&self, id: StageId) -> Result<f32, WorkError> {
        let mut executor = self.executor.lock().await;
        executor.self_test(id).await?;
        let decode_ms = executor.measure(id, MEASURED_STEPS).await?;
        #[allow(clippy::cast_possible_truncation, reason = "a measured time for an advert")]
        Ok(decode_ms as f32)
    }
}

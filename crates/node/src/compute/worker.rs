//! The compute half: answers the requests of [`super::protocol`], many at a time.
//!
//! One thread does everything. Requests run as futures side by side, so that a download does not hold up a
//! session; the executor is behind a lock that is held for one step at a time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use cdi_compute::backend::Backend;
use cdi_compute::executor::{self, Executor, ExecutorError, Limits, SessionKey, StageId, StageStats, Want};
use cdi_model::llama::LogitRows;
use cdi_platform::Place;
use cdi_platform::channel::End;
use cdi_platform::port::{Packet, Port, Sender};
use cdi_platform::time::Instant;
use cdi_store::BlockStore;
use cdi_store::blocks::Limits as StoreLimits;
use cdi_store::fetch::{BlockSource, FetchArgs, Fetcher, HttpGateway, Progress};
use cdi_swarm::stage::{Output, Stage, Work, WorkInput};
use cdi_types::sampling::Sampling;
use cdi_types::session::{Open, Refusal};
use cdi_types::{Cid, LayerRange, Network};
use futures::lock::Mutex;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, select};

use crate::call::{Request, reply, unpack};
use crate::compute::channel::{Channel, Place as ChannelPlace};
use crate::compute::chooser::{Chosen, choose};
use crate::compute::loader::{LoadError, Loader, Model};
use crate::compute::protocol::{Answer, Ask, Failure, ModelInfo, StageKey, Started, VERSION, Via};
use crate::compute::stage::{Asked, Inbox, Input, Receipt, Runner, Way};
use crate::view::SpeedView;

/// Most sessions at once.
const SESSIONS: usize = crate::serve::MAX_STAGES;
/// Name of the pin set of hosted layers.
const HOSTED: &str = "hosted";
/// Steps that the decode time is measured over.
const MEASURED_STEPS: u32 = 7;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkError {
    #[error("the page and its worker come from different builds; reload the page")]
    Version,
    #[error("the compute worker has not been started")]
    NotStarted,
    #[error("the model has not been opened")]
    NoModel,
    #[error("no such session")]
    NoSession,
    #[error("the channel is closed, or did not come along")]
    NoChannel,
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
        stages: RefCell::default(),
        channels: RefCell::default(),
        lost: Cell::new(false),
        without_disk: Cell::new(false),
    });
    let mut running = FuturesUnordered::new();
    loop {
        select! {
            packet = receiver.recv().fuse() => match packet {
                Some(packet) => {
                    if let Some(work) = worker.clone().take(packet) {
                        running.push(work);
                    }
                }
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
    /// Where the input of the running stages goes.
    stages: RefCell<HashMap<StageKey, Inbox>>,
    channels: RefCell<HashMap<u64, Rc<Channel>>>,
    /// Whether the GPU was lost: it is not tried again.
    lost: Cell<bool>,
    /// Whether blocks are kept in memory, because storage was refused.
    without_disk: Cell<bool>,
}

/// What is there after a start.
pub(super) struct Half {
    loader: Rc<Loader>,
    executor: Mutex<Executor<Backend>>,
    models: RefCell<HashMap<Cid, Rc<Model>>>,
    sessions: RefCell<HashMap<StageKey, SessionKey>>,
}

impl Worker {
    /// Passes on what is for a stage, at once and in the order in which it comes; returns what takes longer.
    fn take(self: Rc<Self>, packet: Packet) -> Option<impl Future<Output = ()>> {
        let Request { id, ask } = match unpack(&packet) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "request dropped");
                return None;
            }
        };
        let asked = Asked { sender: self.sender.clone(), id };
        let (stage, input) = match ask {
            Ask::Control { stage } => (stage, Input::Control(packet.payload)),
            Ask::Frame { stage, link } => (stage, Input::Frame { link, frame: packet.payload }),
            Ask::Credit { stage, link, have } => (stage, Input::Credit { link, have }),
            Ask::NextLost { stage, link } => (stage, Input::NextLost { link }),
            Ask::EndStage { stage } => (stage, Input::Close),
            Ask::Hello { stage, hello, via } => {
                let place = self.place(stage, via, id, false);
                let way = Way::new(asked, place);
                match self.inbox(stage).filter(|_| via.is_none() || way.has_channel()) {
                    // Dropping it ends the link.
                    Some(inbox) => drop(inbox.put(Input::Hello { link: id, hello, way }, None)),
                    None => way.refuse(),
                }
                return None;
            }
            Ask::Connected { stage, link, welcome, via } => {
                let place = self.place(stage, via, link, true);
                let lost = via.is_some() && place.is_none();
                let way = Way::new(asked, place);
                let input = if lost { Input::NextLost { link } } else { Input::Connected { link, welcome, way } };
                if let Some(inbox) = self.inbox(stage) {
                    inbox.put(input, None);
                }
                return None;
            }
            Ask::CloseChannel { number } => {
                if let Some(channel) = self.channels.borrow().get(&number) {
                    channel.close();
                }
                drop(Receipt(asked));
                return None;
            }
            ask => return Some(self.serve(id, ask, packet.payload, packet.channel)),
        };
        let receipt = Receipt(asked);
        if let Some(inbox) = self.inbox(stage)
            && !inbox.put(input, Some(receipt))
        {
            // The page waits for its input to be taken, so that this is one stage's fault and not a peer's.
            tracing::warn!(?stage, "a stage is too far behind");
            self.stages.borrow_mut().remove(&stage);
        }
        None
    }

    fn inbox(&self, stage: StageKey) -> Option<Inbox> {
        self.stages.borrow().get(&stage).cloned()
    }

    /// A place on a channel for a link of a stage.
    fn place(&self, stage: StageKey, via: Option<Via>, link: u64, to_successor: bool) -> Option<ChannelPlace> {
        let via = via?;
        let channel = self.channels.borrow().get(&via.number).cloned()?;
        channel.join(via.link, self.inbox(stage)?, link, to_successor)
    }

    async fn serve(self: Rc<Self>, id: u64, ask: Ask, payload: Vec<u8>, channel: Option<End>) {
        let (answer, payload) = match self.answer(id, ask, payload, channel).await {
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

    async fn answer(
        &self,
        id: u64,
        ask: Ask,
        payload: Vec<u8>,
        channel: Option<End>,
    ) -> Result<(Answer, Vec<u8>), WorkError> {
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
                let key = SessionKey { session: stage.session, stage: StageId { model, layers } };
                self.half()?.open(stage, key, positions).await?;
                Answer::Done
            }
            Ask::Step { stage, start, tokens, sample } => {
                let input = tokens.map_or(WorkInput::Rows(payload), WorkInput::Tokens);
                let (sample_from, sampling) = sample.unzip();
                let work = Work { start, input, sample_from };
                return match self.half()?.step(stage, work, sampling.unwrap_or(Sampling::GREEDY)).await? {
                    Output::Rows(rows) => Ok((Answer::Rows, rows)),
                    Output::Tokens(tokens) => Ok((Answer::Tokens(tokens), Vec::new())),
                };
            }
            Ask::CloseStage { stage } => {
                self.half()?.close(stage).await;
                Answer::Done
            }
            Ask::RunStage { open, kernel_id } => self.stage(id, *open, kernel_id).await?,
            Ask::Channel { number, offered } => self.channel(id, number, offered, channel).await?,
            Ask::Stats => Answer::Stats(self.half()?.stats().await?),
            // `take` has passed them on.
            Ask::Control { .. } | Ask::Hello { .. } | Ask::Frame { .. } | Ask::Connected { .. } => Answer::Done,
            Ask::Credit { .. } | Ask::NextLost { .. } | Ask::EndStage { .. } | Ask::CloseChannel { .. } => Answer::Done,
        };
        Ok((answer, Vec::new()))
    }

    /// Runs a stage to its end.
    async fn stage(&self, id: u64, open: Open, kernel_id: String) -> Result<Answer, WorkError> {
        let half = self.half()?;
        let llama_context = half.model(open.model)?.llama().max_position_embeddings;
        let hidden_bytes = half.hidden_bytes(open.model)?;
        let stage = StageKey { session: open.session, layer: open.layers.first() };
        let key = SessionKey { session: open.session, stage: StageId { model: open.model, layers: open.layers } };
        let positions = open.max_positions;
        if self.stages.borrow().contains_key(&stage) {
            return Ok(Answer::Refused(Refusal::Full));
        }
        let machine = match Stage::new(open, hidden_bytes, llama_context) {
            Ok(machine) => machine,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        half.open(stage, key, positions).await?;
        let (inbox, queue) = Inbox::new();
        self.stages.borrow_mut().insert(stage, inbox);
        let page = Asked { sender: self.sender.clone(), id };
        let ended = Runner::new(machine, stage, kernel_id, half.clone(), page).run(queue).await;
        self.stages.borrow_mut().remove(&stage);
        half.close(stage).await;
        ended.map(|()| Answer::Done)
    }

    /// Uses a channel until it is closed.
    async fn channel(&self, id: u64, number: u64, offered: bool, end: Option<End>) -> Result<Answer, WorkError> {
        let (writer, reader) = end.and_then(|end| end.open().ok()).ok_or(WorkError::NoChannel)?;
        let channel = Channel::new(offered, writer);
        self.channels.borrow_mut().insert(number, channel.clone());
        let page = Asked { sender: self.sender.clone(), id };
        page.say(Answer::Attached, Vec::new());
        let closed = channel.serve(reader, &page).await;
        self.channels.borrow_mut().remove(&number);
        Ok(closed)
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

    async fn open(&self, stage: StageKey, key: SessionKey, positions: u32) -> Result<(), WorkError> {
        self.executor.lock().await.open_session(key, positions)?;
        self.sessions.borrow_mut().insert(stage, key);
        Ok(())
    }

    async fn close(&self, stage: StageKey) {
        let key = self.sessions.borrow_mut().remove(&stage);
        if let Some(key) = key {
            self.executor.lock().await.close_session(key);
        }
    }

    /// Bytes of a row of activations.
    fn hidden_bytes(&self, model: Cid) -> Result<usize, WorkError> {
        Ok(self.model(model)?.llama().hidden_size as usize * 4)
    }

    /// Computes rows of a stage.
    pub(super) async fn step(&self, stage: StageKey, work: Work, sampling: Sampling) -> Result<Output, WorkError> {
        let key = self.sessions.borrow().get(&stage).copied().ok_or(WorkError::NoSession)?;
        let Work { start, input, sample_from } = work;
        let sample = sample_from.map(|from| (from, sampling));
        let (input, count) = match &input {
            WorkInput::Tokens(ids) => (executor::Input::Tokens(ids), ids.len()),
            WorkInput::Rows(rows) => (executor::Input::Hidden(rows), rows.len() / self.hidden_bytes(key.stage.model)?),
        };
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
            executor::Output::Hidden(rows) => Ok(Output::Rows(rows)),
            // The token after a row stands at the next position.
            executor::Output::Tokens(ids) => Ok(Output::Tokens((first_sampled.saturating_add(1)..).zip(ids).collect())),
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

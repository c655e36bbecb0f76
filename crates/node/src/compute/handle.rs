//! The page's handle of the compute half.

use cdi_platform::channel::End;
use cdi_platform::port::Port;
use cdi_types::advert::Tier;
use cdi_types::{Cid, LayerRange, Network};
use futures::channel::{mpsc, oneshot};
use futures::{Stream, StreamExt as _, future};

use crate::call::{Caller, Gone};
use crate::compute::protocol::{Answer, Ask, Failure, ModelInfo, Started, VERSION};
use crate::view::{Progress, SpeedView};

/// Progress reports that wait for their reader; more are dropped.
const PROGRESS_QUEUE: usize = 8;

/// Why the compute half did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// It answered with a failure.
    #[error("{message}")]
    Failed {
        /// What kind.
        kind: Failure,
        /// For people.
        message: String,
    },
    /// The worker or thread is gone: nothing can be computed until the page is reloaded.
    #[error("the compute worker stopped; reload the page")]
    Gone,
    /// It answered something that does not belong to the request.
    #[error("the compute worker gave an answer that does not fit; reload the page")]
    Mismatch,
}

impl From<Gone> for ComputeError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl ComputeError {
    /// Whether the device was lost: everything must be loaded again after [`Compute::start`].
    #[must_use]
    pub const fn is_device_lost(&self) -> bool {
        matches!(self, Self::Failed { kind: Failure::DeviceLost, .. })
    }
}

/// What a load reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loading {
    /// Whether the store was full and some blocks are kept in memory only.
    pub kept_in_memory: bool,
    /// Sources that sent wrong blocks and are not asked any more.
    pub bad_sources: Vec<String>,
    /// Kernels and weight format: equal ids give equal bits.
    pub kernel_id: String,
}

/// What the compute half is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartArgs {
    /// Network whose store to open.
    pub network: Network,
    /// HTTP gateways that serve blocks, most preferred first.
    pub gateways: Vec<String>,
    /// Most bytes of the block store.
    pub store_bytes: u64,
    /// Number of the block store that this tab had before it was reloaded.
    pub store: Option<u32>,
    /// Most bytes of keys and values of all sessions.
    pub kv_bytes: u64,
    /// What the user wants to compute with; the faster one when nothing is said.
    pub prefer: Option<Tier>,
}

/// What a stage, a link or a channel says, with its payload, until it is over.
pub(crate) type Parts = mpsc::Receiver<(Answer, Vec<u8>)>;
/// Done when the compute half has taken what it was told.
pub(crate) type Taken = oneshot::Receiver<(Answer, Vec<u8>)>;

/// A cheap handle of the compute half.
#[derive(Debug, Clone)]
pub struct Compute(Caller<Ask, Answer>);

impl Compute {
    /// Talks to the compute half behind `port` until every handle is dropped.
    #[must_use]
    pub fn new(port: Port) -> Self {
        Self(Caller::new(port))
    }

    /// Opens the store and chooses a back end; again after the device was lost.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn start(&self, args: StartArgs) -> Result<Started, ComputeError> {
        let StartArgs { network, gateways, store_bytes, store, kv_bytes, prefer } = args;
        let ask = Ask::Start { version: VERSION, network, gateways, store_bytes, store, kv_bytes, prefer };
        match self.call(ask).await? {
            Answer::Started(started) => Ok(started),
            _ => Err(ComputeError::Mismatch),
        }
    }

    /// Reads a model's manifest.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn open_model(&self, model: Cid) -> Result<ModelInfo, ComputeError> {
        match self.call(Ask::OpenModel { model }).await? {
            Answer::Model(info) => Ok(info),
            _ => Err(ComputeError::Mismatch),
        }
    }

    /// Fetches, verifies and loads layers; progress goes to the returned stream meanwhile.
    pub fn load(
        &self,
        model: Cid,
        layers: LayerRange,
        pin: bool,
    ) -> (impl Stream<Item = Progress> + use<>, impl Future<Output = Result<Loading, ComputeError>> + use<>) {
        let (progress, reports) = mpsc::channel(PROGRESS_QUEUE);
        let reports = reports.filter_map(|answer| future::ready(as_progress(&answer)));
        let this = self.clone();
        let done = async move {
            match this.exchange(Ask::Load { model, layers, pin }, Vec::new(), Some(progress)).await?.0 {
                Answer::Loaded { kept_in_memory, bad_sources, kernel_id } => {
                    Ok(Loading { kept_in_memory, bad_sources, kernel_id })
                }
                _ => Err(ComputeError::Mismatch),
            }
        };
        (reports, done)
    }

    /// Checks the loaded layers and returns the milliseconds that one token takes.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn self_test(&self, model: Cid, layers: LayerRange) -> Result<f32, ComputeError> {
        match self.call(Ask::SelfTest { model, layers }).await? {
            Answer::Tested { decode_ms } => Ok(decode_ms),
            _ => Err(ComputeError::Mismatch),
        }
    }

    /// Gives up every loaded layer of the model outside `keep`.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn unload(&self, model: Cid, keep: Option<LayerRange>) -> Result<(), ComputeError> {
        self.call(Ask::Unload { model, keep }).await.and_then(|answer| done(&answer))
    }

    /// A model's chat template, if it has one, and its `tokenizer.json`.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn tokenizer(&self, model: Cid) -> Result<(Option<String>, Vec<u8>), ComputeError> {
        match self.exchange(Ask::Tokenizer { model }, Vec::new(), None).await? {
            (Answer::Tokenizer { template }, tokenizer) => Ok((template, tokenizer)),
            _ => Err(ComputeError::Mismatch),
        }
    }

    /// Begins what has many answers; `room` of them may wait to be read.
    ///
    /// # Errors
    /// [`ComputeError::Gone`].
    pub(crate) async fn converse(&self, ask: Ask, channel: Option<End>, room: usize) -> Result<Parts, ComputeError> {
        Ok(self.0.converse(ask, channel, room).await?)
    }

    /// Passes something on, in order with everything else that it is told.
    ///
    /// # Errors
    /// [`ComputeError::Gone`].
    pub(crate) async fn tell(&self, ask: Ask, payload: Vec<u8>) -> Result<Taken, ComputeError> {
        Ok(self.0.tell(ask, payload).await?)
    }

    /// Memory and speed now.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn stats(&self) -> Result<SpeedView, ComputeError> {
        match self.call(Ask::Stats).await? {
            Answer::Stats(stats) => Ok(stats),
            _ => Err(ComputeError::Mismatch),
        }
    }

    async fn call(&self, ask: Ask) -> Result<Answer, ComputeError> {
        self.exchange(ask, Vec::new(), None).await.map(|(answer, _)| answer)
    }

    async fn exchange(
        &self,
        ask: Ask,
        payload: Vec<u8>,
        progress: Option<mpsc::Sender<Answer>>,
    ) -> Result<(Answer, Vec<u8>), ComputeError> {
        match self.0.call(ask, payload, progress).await? {
            (Answer::Failed { kind, message }, _) => Err(ComputeError::Failed { kind, message }),
            answer => Ok(answer),
        }
    }
}

fn as_progress(answer: &Answer) -> Option<Progress> {
    let Answer::Progress { done_bytes, fetched_bytes, total_bytes } = *answer else { return None };
    Some(Progress { done_bytes, fetched_bytes, total_bytes, bytes_per_s: 0.0 })
}

fn done(answer: &Answer) -> Result<(), ComputeError> {
    if *answer == Answer::Done { Ok(()) } else { Err(ComputeError::Mismatch) }
}

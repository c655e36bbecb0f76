//! What a node tells its user, and what the user can ask of it.
//!
//! The whole of a dashboard is a reduction of the event stream: there is nothing to poll.

use cdi_types::advert::Tier;
use cdi_types::{Cid, LayerRange, PeerId};

/// What a user can ask of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Host layers of the model: fetch, verify, keep, self-test and serve them.
    Host(HostLayers),
    /// Serve no new sessions, keep the layers.
    PauseHosting,
    /// Serve again after [`Command::PauseHosting`].
    ResumeHosting,
    /// Give the layers up. Their blocks stay in the store, unpinned.
    StopHosting,
    /// The user begins to write a question: fetch and start meanwhile what only an asking node needs.
    PrepareToAsk,
    /// Answer a conversation.
    Ask(Ask),
    /// Stop the current answer and free its sessions.
    StopAnswer,
    /// The tab was hidden or shown.
    Visibility {
        /// Whether it is hidden now.
        hidden: bool,
    },
}

/// How much of the model to host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostLayers {
    /// What fits the tab's budget; of models under 100 MB at most a third of the layers, so that small swarms
    /// really split. Takes on more while a session would otherwise die.
    #[default]
    Auto,
    /// At most this many layers, whatever happens.
    Exactly(u32),
}

/// A conversation to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The conversation, oldest first; the last message is the user's.
    pub messages: Vec<Message>,
    /// Where to compute.
    pub route: RouteMode,
    /// How to choose tokens.
    pub sampling: cdi_types::sampling::Sampling,
    /// Most tokens of the answer.
    pub max_tokens: u32,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// Where an answer is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RouteMode {
    /// The route with the lowest expected time.
    #[default]
    Auto,
    /// Hosting peers; this tab computes only what no peer covers.
    Swarm,
    /// This tab alone.
    ThisTab,
}

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// This node's identity.
    Identity {
        /// Its peer id.
        peer: PeerId,
    },
    /// The link to the relay.
    Connection(Connection),
    /// What computes in this node.
    Compute(ComputeView),
    /// How fast this node computes, when that has changed.
    Speed(SpeedView),
    /// The model that the swarm runs.
    Model(ModelView),
    /// Every known node, this one included.
    Peers(Vec<PeerView>),
    /// What this node hosts.
    Hosting(HostingView),
    /// Progress of the current answer.
    Answer(AnswerEvent),
    /// Something that the user should know and that stops nothing.
    Notice(String),
    /// Something that failed; the text says what to do next.
    Error(String),
}

/// The link to the relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Connection {
    /// Being dialled.
    #[default]
    Connecting,
    /// Up.
    Connected {
        /// Transport in plain words, e.g. `WebSocket`.
        link: String,
    },
    /// Down; dialled again after a pause.
    Offline {
        /// Why, in plain words.
        reason: String,
    },
}

/// What computes in this node.
#[derive(Debug, Clone, PartialEq)]
pub struct ComputeView {
    /// The chosen back end.
    pub tier: Tier,
    /// Why it was chosen, with the figures, in one sentence.
    pub reason: String,
    /// Its kernels.
    pub kernel_id: String,
}

/// How fast this node computes: measured over the steps of real sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SpeedView {
    /// 10⁹ arithmetic operations a second, a multiply-add counting as two; `None` before the first session.
    pub gflops: Option<f64>,
    /// Median milliseconds of one token through the held layers; `None` before the first session.
    pub decode_ms: Option<f64>,
    /// Bytes of weights, caches and activations.
    pub memory_bytes: u64,
}

/// The model that the swarm runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelView {
    /// CID of its manifest.
    pub id: Cid,
    /// Its name.
    pub name: String,
    /// Number of layers.
    pub layers: u32,
    /// Most positions of a sequence.
    pub context: u32,
    /// Bytes of its weights.
    pub weight_bytes: u64,
}

/// A known node.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    /// Its peer id.
    pub peer: PeerId,
    /// Whether it is this node.
    pub this: bool,
    /// How it is reached; `None` while not connected.
    pub link: Option<Link>,
    /// Layers of the model that it serves.
    pub layers: Option<LayerRange>,
    /// What it computes with.
    pub tier: Tier,
    /// Whether its tab is in the background.
    pub hidden: bool,
    /// Last measured round trip in milliseconds.
    pub rtt_ms: Option<f32>,
    /// Bytes that its streams brought since it is connected.
    pub received_bytes: u64,
    /// Bytes that went to it.
    pub sent_bytes: u64,
    /// Of both, bytes that went from compute worker to compute worker, past the page; told once a second.
    pub worker_bytes: u64,
    /// Bytes after which a relay ends the link.
    pub limit_bytes: Option<u64>,
}

/// How a peer or a stage is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is this node.
    Local,
    /// A connection of its own.
    Direct,
    /// Through a relay.
    Relayed,
}

impl Link {
    /// The word shown and tested.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
        }
    }
}

/// What this node hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostingView {
    /// Where it stands.
    pub state: HostingState,
    /// The layers held or being fetched.
    pub layers: Option<LayerRange>,
    /// Bytes from the store and the network, while fetching.
    pub progress: Option<Progress>,
    /// What went wrong, or what the user should know (for example: kept in memory, storage is full).
    pub message: Option<String>,
}

/// Where hosting stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostingState {
    /// Not hosting.
    #[default]
    Off,
    /// Reading blocks from the store and the network.
    Fetching,
    /// Comparing the kernels' results with known ones.
    Testing,
    /// Serving.
    Hosting,
    /// Holding layers, serving nobody new.
    Paused,
    /// Failed; the message says why.
    Error,
}

impl HostingState {
    /// The word shown and tested.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Fetching => "fetching",
            Self::Testing => "testing",
            Self::Hosting => "hosting",
            Self::Paused => "paused",
            Self::Error => "error",
        }
    }
}

/// Progress of a download.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Bytes present, from the store or fetched.
    pub done_bytes: u64,
    /// Of these, bytes that came over the network.
    pub fetched_bytes: u64,
    /// Bytes needed.
    pub total_bytes: u64,
    /// Network speed over the last seconds.
    pub bytes_per_s: f64,
}

/// Progress of the current answer.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// The question was read.
    Started {
        /// Its length.
        prompt_tokens: u32,
    },
    /// The route, at the start and whenever it changes.
    Route {
        /// Its stages, first to last.
        stages: Vec<StageView>,
        /// Why this route, in one sentence.
        why: String,
    },
    /// More text.
    Text {
        /// To append.
        text: String,
        /// Tokens of the answer so far.
        tokens: u32,
    },
    /// The answer is complete.
    Done(AnswerStats),
    /// The answer ended early; the text says why and what to do.
    Failed {
        /// For people.
        message: String,
    },
}

/// A stage of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageView {
    /// Who computes it.
    pub peer: PeerId,
    /// What it computes.
    pub layers: LayerRange,
    /// How this node reaches it.
    pub link: Link,
}

/// Figures of a finished answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerStats {
    /// Tokens of the answer.
    pub tokens: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// From the question to the first token, in milliseconds.
    pub first_token_ms: f64,
    /// Tokens a second after the first.
    pub tokens_per_s: f64,
    /// How it ended.
    pub finish: Finish,
    /// Route changes on the way.
    pub failovers: u32,
    /// Guesses at the next tokens that were computed along.
    pub drafts: Drafts,
}

/// How good the guesses at the next tokens were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drafts {
    /// Computed along with known tokens.
    pub offered: u64,
    /// Those that the model then chose.
    pub accepted: u64,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    EndOfText,
    /// The token limit or the end of the context.
    Length,
    /// The user stopped it.
    Stopped,
}

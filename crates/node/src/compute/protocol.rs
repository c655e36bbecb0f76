//! What the page and the compute half say to each other. One version, one enum a direction.
//!
//! Control messages, frames and the bytes of a tokenizer are the payload of their message, which crosses as it is.
//! A stage, each of its links and each channel is one request with many answers, up to its end.

use cdi_types::advert::Tier;
use cdi_types::sampling::Sampling;
use cdi_types::session::{Hello, Open, Refusal, SessionId, Welcome};
use cdi_types::{Cid, LayerRange, Network};
use serde::{Deserialize, Serialize};

use crate::call::Part;
use crate::view::SpeedView;

/// Version of these messages.
pub const VERSION: u32 = 3;

/// Names a stage of a session within a node: one node may run several of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StageKey {
    /// The session.
    #[serde(with = "serde_bytes")]
    pub session: SessionId,
    /// Its first layer.
    pub layer: u32,
}

/// What the page asks of the compute half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Open the store and choose a back end. First of all; answered by [`Answer::Started`].
    Start {
        /// [`VERSION`].
        version: u32,
        /// Network whose store to open.
        network: Network,
        /// HTTP gateways that serve blocks, most preferred first.
        gateways: Vec<String>,
        /// Most bytes of the block store.
        store_bytes: u64,
        /// Number of the block store that this tab had before it was reloaded.
        store: Option<u32>,
        /// Most bytes of keys and values of all sessions.
        kv_bytes: u64,
        /// What the user wants to compute with; the faster one when nothing is said.
        prefer: Option<Tier>,
    },
    /// Read a model's manifest. Answered by [`Answer::Model`].
    OpenModel {
        /// CID of its manifest.
        model: Cid,
    },
    /// Fetch, verify and load layers, keeping what is loaded. Answered by any number of
    /// [`Answer::Progress`] and one [`Answer::Loaded`].
    Load {
        /// CID of the manifest.
        model: Cid,
        /// The layers.
        layers: LayerRange,
        /// Whether their blocks are pinned: the user chose to host them.
        pin: bool,
    },
    /// Compare the kernels' results over the loaded layers with known properties. Answered by
    /// [`Answer::Tested`].
    SelfTest {
        /// CID of the manifest.
        model: Cid,
        /// The layers.
        layers: LayerRange,
    },
    /// Give up every loaded layer of the model outside `keep`.
    Unload {
        /// CID of the manifest.
        model: Cid,
        /// What stays.
        keep: Option<LayerRange>,
    },
    /// Read a model's tokenizer, for the text half. Answered by [`Answer::Tokenizer`].
    Tokenizer {
        /// CID of the manifest.
        model: Cid,
    },
    /// Reserve a KV cache for whoever counts positions itself, as benchmarks do. Answered by [`Answer::Done`].
    OpenStage {
        /// The stage.
        stage: StageKey,
        /// CID of the manifest.
        model: Cid,
        /// Its layers, loaded before.
        layers: LayerRange,
        /// Positions to reserve.
        positions: u32,
    },
    /// Compute rows on such a cache. The input is `tokens` or, without them, the payload. Answered by [`Answer::Rows`] or
    /// [`Answer::Tokens`].
    Step {
        /// The stage.
        stage: StageKey,
        /// Position of the first row.
        start: u32,
        /// Token ids, at the first stage.
        tokens: Option<Vec<u32>>,
        /// At the last stage: first position that is sampled, and how.
        sample: Option<(u32, Sampling)>,
    },
    /// Free such a cache.
    CloseStage {
        /// The stage.
        stage: StageKey,
    },
    /// Run a stage of a session. Answered by [`Answer::Refused`] or [`Answer::Failed`], or else by any number of
    /// [`Answer::Control`] and [`Answer::Connect`] and by [`Answer::Done`] when it is over.
    RunStage {
        /// What the client asks for; its layers were loaded before.
        open: Box<Open>,
        /// What the client is told of the kernels.
        kernel_id: String,
    },
    /// A message of a stage's client: the payload. Answered by [`Answer::Done`] when it was taken, as all that follow.
    Control {
        /// The stage.
        stage: StageKey,
    },
    /// A predecessor opened a link. Answered by [`Answer::Welcome`], any number of [`Answer::Credit`], and
    /// [`Answer::Done`] when another link has taken its place.
    Hello {
        /// The stage.
        stage: StageKey,
        /// What the predecessor said.
        hello: Hello,
        /// Where rows and credit travel, if not by way of the page.
        via: Option<Via>,
    },
    /// A frame of a predecessor's link: the payload.
    Frame {
        /// The stage.
        stage: StageKey,
        /// The number in [`Answer::Welcome`].
        link: u64,
    },
    /// The successor answered. Answered by any number of [`Answer::Frame`], and by [`Answer::Done`] when the link is not
    /// needed any more.
    Connected {
        /// The stage.
        stage: StageKey,
        /// The number in [`Answer::Connect`].
        link: u64,
        /// What the successor said.
        welcome: Welcome,
        /// Where rows and credit travel, if not by way of the page.
        via: Option<Via>,
    },
    /// The successor has computed the rows before `have`.
    Credit {
        /// The stage.
        stage: StageKey,
        /// The number in [`Answer::Connect`].
        link: u64,
        /// First position that is not computed.
        have: u32,
    },
    /// The successor is gone.
    NextLost {
        /// The stage.
        stage: StageKey,
        /// The number in [`Answer::Connect`].
        link: u64,
    },
    /// End a stage that runs, and free its cache.
    EndStage {
        /// The stage.
        stage: StageKey,
    },
    /// Use the channel that comes with this message. Answered by [`Answer::Attached`], [`Answer::Up`], any number of
    /// [`Answer::Figures`], and [`Answer::ChannelClosed`].
    Channel {
        /// Names it from now on.
        number: u64,
        /// Whether this side offered it, and opens the links on it.
        offered: bool,
    },
    /// Close a channel.
    CloseChannel {
        /// The channel.
        number: u64,
    },
    /// Memory and speed now. Answered by [`Answer::Stats`].
    Stats,
}

/// A link on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// The channel.
    pub number: u64,
    /// The link's number on it.
    pub link: u32,
}

/// What a channel carried since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelFigures {
    /// Bytes of messages that came.
    pub received_bytes: u64,
    /// Bytes of messages that went.
    pub sent_bytes: u64,
    /// Of these, bytes of frames of several rows.
    pub bulk_bytes: u64,
    /// The time that these took, in microseconds.
    pub bulk_us: u64,
    /// Messages for links that were over.
    pub stale: u64,
    /// Milliseconds between the last message that came and this report.
    pub silent_ms: u64,
}

/// What the compute half answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Ask::Start`].
    Started(Started),
    /// To [`Ask::OpenModel`].
    Model(ModelInfo),
    /// While loading.
    Progress {
        /// Bytes present, from the store or fetched.
        done_bytes: u64,
        /// Of these, bytes that came over the network.
        fetched_bytes: u64,
        /// Bytes needed.
        total_bytes: u64,
    },
    /// To [`Ask::Load`].
    Loaded {
        /// Whether the store was full and some blocks are kept in memory only.
        kept_in_memory: bool,
        /// Sources that sent wrong blocks and are not asked any more.
        bad_sources: Vec<String>,
        /// Kernels and weight format: equal ids give equal bits.
        kernel_id: String,
    },
    /// To [`Ask::SelfTest`].
    Tested {
        /// Milliseconds of one token through the layers.
        decode_ms: f32,
    },
    /// To [`Ask::Tokenizer`]: the `tokenizer.json` is the payload.
    Tokenizer {
        /// The chat template, if the model chats.
        template: Option<String>,
    },
    /// To [`Ask::Step`] of a stage with a successor: the rows are the payload.
    Rows,
    /// To [`Ask::Step`] of the last stage: `(position, id)` of every sampled row.
    Tokens(Vec<(u32, u32)>),
    /// For the client of a stage: the payload.
    Control,
    /// A stage has rows for its successor.
    Connect {
        /// Names the link, in place of any earlier one of the stage.
        link: u64,
        /// Whom to connect to (libp2p bytes).
        #[serde(with = "serde_bytes")]
        peer: Vec<u8>,
        /// First message.
        hello: Hello,
    },
    /// The stage cannot be run.
    Refused(Refusal),
    /// For the predecessor.
    Welcome {
        /// Names the link.
        link: u64,
        /// The answer to its greeting.
        welcome: Welcome,
    },
    /// For the predecessor: the rows before this position are computed.
    Credit(u32),
    /// For the successor: a frame, which is the payload.
    Frame {
        /// Whether it lets others to the same peer go first.
        bulk: bool,
    },
    /// The channel is listened to.
    Attached,
    /// The other end was heard.
    Up,
    /// Once a second, while they change.
    Figures(ChannelFigures),
    /// The channel is closed.
    ChannelClosed {
        /// What it carried.
        figures: ChannelFigures,
        /// What the other end did that it must not.
        violation: Option<String>,
    },
    /// To [`Ask::Stats`].
    Stats(SpeedView),
    /// It is done.
    Done,
    /// It failed.
    Failed {
        /// What kind of failure.
        kind: Failure,
        /// For people.
        message: String,
    },
}

impl Part for Answer {
    fn is_last(&self) -> bool {
        match self {
            Self::Progress { .. } | Self::Control | Self::Connect { .. } => false,
            Self::Credit(_) | Self::Frame { .. } | Self::Attached | Self::Up | Self::Figures(_) => false,
            Self::Welcome { welcome, .. } => *welcome == Welcome::Refused,
            _ => true,
        }
    }
}

/// What computes, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The chosen back end.
    pub tier: Tier,
    /// Why, with the figures, in one sentence.
    pub reason: String,
    /// Its kernels.
    pub kernel_id: String,
    /// Whether the store outlives the tab.
    pub lasting: bool,
    /// Number of the block store among those of this browser or directory.
    pub store: u32,
}

/// What the page needs to know of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Number of layers.
    pub layers: u32,
    /// Bytes of a row of activations.
    pub hidden_bytes: u32,
    /// Most positions of a sequence.
    pub context: u32,
    /// Ids that end an answer.
    pub end_of_text: Vec<u32>,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Bytes of keys and values of one position in one layer.
    pub kv_bytes_per_layer: u32,
}

/// Kinds of failure that the page treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The request was wrong: nobody could do it.
    Invalid,
    /// No room for it here.
    Full,
    /// The device was lost. The compute half goes on on the CPU; everything loaded must be loaded again.
    DeviceLost,
    /// Blocks could not be fetched.
    Unavailable,
    /// Anything else.
    Other,
}

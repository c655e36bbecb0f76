//! What the page and the compute half say to each other. One version, one enum a direction.
//!
//! The rows of a step and the bytes of a tokenizer are the payload of their message, which crosses as it is.

use cdi_types::advert::Tier;
use cdi_types::sampling::Sampling;
use cdi_types::session::SessionId;
use cdi_types::{Cid, LayerRange, Network};
use serde::{Deserialize, Serialize};

use crate::call::Part;
use crate::view::SpeedView;

/// Version of these messages.
pub const VERSION: u32 = 2;

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
    /// Reserve a KV cache for a stage. Answered by [`Answer::Done`].
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
    /// Compute rows. The input is `tokens` or, without them, the payload. Answered by [`Answer::Rows`] or
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
    /// Memory and speed now. Answered by [`Answer::Stats`].
    Stats,
    /// Free a stage's cache.
    CloseStage {
        /// The stage.
        stage: StageKey,
    },
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
        !matches!(self, Self::Progress { .. })
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

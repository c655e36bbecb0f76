//! Messages of a pipeline session: between the client and each stage, and from stage to stage.
//!
//! Control messages are DAG-CBOR; activation frames have a fixed binary header, because they are on
//! the path of every token. Both travel length-prefixed (unsigned varint) on libp2p streams.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::block::Cid;
use crate::cbor;
use crate::channel::ChannelLink;
use crate::layers::LayerRange;
use crate::sampling::Sampling;

/// Largest control message in bytes.
pub const MAX_CONTROL_BYTES: usize = 64 * 1024;
/// Largest payload of one activation frame in bytes: 64 rows of a 16,384-wide model in f32.
pub const MAX_FRAME_PAYLOAD_BYTES: usize = 4 << 20;
/// Most rows of one frame.
pub const MAX_FRAME_ROWS: u32 = 512;
/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 72;

/// Random identifier of a session, chosen by the client.
pub type SessionId = [u8; 16];

/// Element type of activations on the wire; fixed when a session opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationType {
    /// 32-bit floats, little endian.
    F32,
}

impl ActivationType {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
        }
    }
}

/// Where the sequence goes on differently: what was computed from `position` on in an earlier branch is void, because a
/// draft was wrong. Ordered streams carry it ahead of the rows of the new branch, so it needs no acknowledgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Grows with every fork of a session; 0 before the first.
    pub branch: u32,
    /// First position that is computed again.
    pub position: u32,
}

impl Fork {
    /// Whether nothing was ever taken back.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.branch == 0
    }
}

/// A request to run one stage of a session, or to take a route change into account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The session.
    #[serde(with = "serde_bytes")]
    pub session: SessionId,
    /// Grows with every route change; older frames are dropped.
    pub attempt: u32,
    /// CID of the model's manifest.
    pub model: Cid,
    /// The layers that this stage computes.
    pub layers: LayerRange,
    /// Where this stage's output goes: a peer id (libp2p bytes), or nothing for the client itself.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_bytes")]
    pub next: Option<Vec<u8>>,
    /// Positions of KV cache to reserve.
    pub max_positions: u32,
    /// Length of the prompt: tokens are sampled from position `prompt_len - 1` on.
    pub prompt_len: u32,
    /// First position of which the client does not know the token yet; a new last stage samples from here.
    pub client_have: u32,
    /// How the last stage chooses tokens.
    pub sampling: Sampling,
    /// Element type of activations.
    pub activations: ActivationType,
    /// The current branch, and the first position that may be wrong where an earlier one is still held.
    #[serde(default, skip_serializing_if = "Fork::is_none")]
    pub fork: Fork,
}

/// What travels on the control stream, in either direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Client to stage: run this part, or change the route of a part already running.
    Open(Box<Open>),
    /// Stage to client: KV room is reserved.
    Granted {
        /// The attempt this answers.
        attempt: u32,
        /// First position whose keys and values the stage does not hold.
        have: u32,
        /// Kernels that compute it.
        kernel_id: String,
        /// Whether it takes back rows of drafts that were wrong.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        drafts: bool,
    },
    /// Stage to client: not now, and why.
    Refused {
        /// The attempt this answers.
        attempt: u32,
        /// For people and logs.
        reason: Refusal,
    },
    /// Client to first stage: token ids from `position` on.
    Tokens {
        /// The attempt they belong to.
        attempt: u32,
        /// Position of the first id.
        position: u32,
        /// The ids: accepted ones, then drafts.
        ids: Vec<u32>,
        /// The branch they belong to.
        #[serde(default, skip_serializing_if = "Fork::is_none")]
        fork: Fork,
    },
    /// Last stage to client: the token chosen for `position`.
    Token {
        /// The attempt it belongs to.
        attempt: u32,
        /// Its position in the sequence.
        position: u32,
        /// The id.
        id: u32,
        /// The branch it was chosen in: it counts if the client fed the right ids there.
        #[serde(default, skip_serializing_if = "is_zero")]
        branch: u32,
    },
    /// Stage to client: still fetching the layers it was asked to take on.
    Preparing {
        /// Bytes present.
        done_bytes: u64,
        /// Bytes needed.
        total_bytes: u64,
    },
    /// Client to stage: how far are you? Asked when an answer is late.
    Query,
    /// Stage to client: the answer to a [`Control::Query`].
    Held {
        /// First position whose keys and values the stage does not hold.
        have: u32,
    },
    /// Stage to client: the next stage cannot be reached.
    NextLost {
        /// The attempt in which it was lost.
        attempt: u32,
    },
    /// Stage to client: the session is over at this stage, because of an error.
    Failed {
        /// What went wrong, for people.
        message: String,
        /// Whether another node may do better (a lost device), or nobody can (malformed input).
        retriable: bool,
    },
    /// Client to stage: the session is over.
    Close,
}

/// First message on an activation stream, from a stage to its successor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session.
    #[serde(with = "serde_bytes")]
    pub session: SessionId,
    /// The sender's attempt; a stream of an older attempt than the receiver's current one is refused.
    pub attempt: u32,
    /// First layer of the receiving stage: one node may run several stages of a session.
    pub layer: u32,
    /// The sender's branch: the receiver voids what it holds of earlier ones.
    #[serde(default, skip_serializing_if = "Fork::is_none")]
    pub fork: Fork,
    /// The channel on which rows and credit will travel, in place of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelLink>,
}

/// The receiver's answer to a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Welcome {
    /// Send rows from this position on.
    Have(u32),
    /// No such session here, or the attempt is stale.
    Refused,
}

/// Why a stage does not take a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It does not hold these layers and has no room for them.
    NotHeld,
    /// Its KV budget or session limit is used up.
    Full,
    /// A value of the request is out of bounds.
    Invalid(String),
}

impl Control {
    /// Encodes the message.
    ///
    /// # Errors
    /// Above [`MAX_CONTROL_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, cbor::CborError> {
        let bytes = cbor::encode(self)?;
        if bytes.len() > MAX_CONTROL_BYTES { Err(cbor::CborError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// Oversize or malformed input.
    pub fn decode(bytes: &[u8]) -> Result<Self, cbor::CborError> {
        if bytes.len() > MAX_CONTROL_BYTES {
            return Err(cbor::CborError::TooLarge(bytes.len()));
        }
        cbor::decode(bytes)
    }
}

/// Consecutive rows of activations, from one stage to the next.
///
/// ```text
/// offset  0  magic "CDIA"        offset 28  rows      u32
///         4  session  16 bytes          32  row_bytes u32
///        20  attempt  u32               36  branch    u32
///        24  position u32               40  transcript, 32 bytes
///        72  payload, rows * row_bytes; integers little endian
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The session.
    pub session: SessionId,
    /// The route it was sent on.
    pub attempt: u32,
    /// The branch it belongs to; the first row of a new branch voids what was held at its position and after it.
    pub branch: u32,
    /// Position of the first row.
    pub position: u32,
    /// Number of rows.
    pub rows: u32,
    /// Running hash of the edge up to and including the last row, see [`Transcript`].
    pub transcript: [u8; 32],
    /// The rows, `rows * row_bytes` bytes.
    pub payload: Vec<u8>,
}

/// Why bytes are not an acceptable frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header, or not starting with the magic.
    #[error("not an activation frame")]
    Header,
    /// No rows, too many rows, or a payload above the limit.
    #[error("activation frame of {rows} rows of {row_bytes} bytes is out of bounds")]
    Bounds {
        /// Declared rows.
        rows: u32,
        /// Declared bytes of a row.
        row_bytes: u32,
    },
    /// The payload is not as long as the header says.
    #[error("activation frame has {got} payload bytes, its header says {expected}")]
    Length {
        /// By the header.
        expected: usize,
        /// What came.
        got: usize,
    },
}

const FRAME_MAGIC: [u8; 4] = *b"CDIA";

impl Frame {
    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.payload.len() / (self.rows.max(1) as usize)
    }

    /// The position after the last row.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.position.saturating_add(self.rows)
    }

    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + self.payload.len());
        self.encode_into(&mut bytes);
        bytes
    }

    /// Appends the bytes that travel.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        let row_bytes = u32::try_from(self.row_bytes()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&FRAME_MAGIC);
        bytes.extend_from_slice(&self.session);
        for word in [self.attempt, self.position, self.rows, row_bytes, self.branch] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.transcript);
        bytes.extend_from_slice(&self.payload);
    }

    /// Decodes and bounds a frame. Session, attempt, position and row length are the receiver's to check.
    ///
    /// # Errors
    /// Any [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let (header, payload) = bytes.split_at_checked(FRAME_HEADER_BYTES).ok_or(FrameError::Header)?;
        if header[..4] != FRAME_MAGIC {
            return Err(FrameError::Header);
        }
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (attempt, position, rows, row_bytes, branch) = (word(20), word(24), word(28), word(32), word(36));
        let bounds = FrameError::Bounds { rows, row_bytes };
        let expected = (rows as usize).checked_mul(row_bytes as usize).ok_or(bounds.clone())?;
        let in_bounds = (1..=MAX_FRAME_ROWS).contains(&rows) && row_bytes > 0 && expected <= MAX_FRAME_PAYLOAD_BYTES;
        if !in_bounds || position.checked_add(rows).is_none() {
            return Err(bounds);
        }
        if payload.len() != expected {
            return Err(FrameError::Length { expected, got: payload.len() });
        }
        let mut session = SessionId::default();
        session.copy_from_slice(&header[4..20]);
        let mut transcript = [0; 32];
        transcript.copy_from_slice(&header[40..72]);
        Ok(Self { session, attempt, branch, position, rows, transcript, payload: payload.to_vec() })
    }
}

/// Running hash of one edge: `h_p = SHA-256(h_{p-1} ‖ p ‖ row_p)`, from 32 zero bytes.
///
/// It covers the payload of each position and nothing of its framing, so both ends get the same value
/// however the rows were cut into frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transcript([u8; 32]);

impl Transcript {
    /// Takes in `rows` rows of `payload`, the first at `position`.
    pub fn push(&mut self, position: u32, rows: u32, payload: &[u8]) {
        let row_bytes = payload.len() / (rows.max(1) as usize);
        if row_bytes == 0 {
            return;
        }
        for (p, row) in (position..).zip(payload.chunks_exact(row_bytes)) {
            let mut hash = Sha256::new();
            hash.update(self.0);
            hash.update(p.to_le_bytes());
            hash.update(row);
            self.0 = hash.finalize().into();
        }
    }

    /// The hash so far.
    #[must_use]
    pub const fn value(&self) -> [u8; 32] {
        self.0
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(crate) const fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// `Option<Vec<u8>>` as an optional CBOR byte string.
mod optional_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "the signature that serde calls")]
    pub fn serialize<S: Serializer>(value: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => serializer.serialize_bytes(bytes),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<serde_bytes::ByteBuf>::deserialize(deserializer)?.map(serde_bytes::ByteBuf::into_vec))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::raw_cid;

    fn frame(rows: u32, row_bytes: usize) -> Frame {
        Frame {
            session: [9; 16],
            attempt: 2,
            branch: 3,
            position: 5,
            rows,
            transcript: [3; 32],
            payload: (0..rows as usize * row_bytes).map(|i| u8::try_from(i % 251).expect("below 251")).collect(),
        }
    }

    #[test]
    fn frames_round_trip() {
        for frame in [frame(1, 4), frame(3, 768), frame(MAX_FRAME_ROWS, 8)] {
            assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }
    }

    #[test]
    fn hostile_frames_are_typed_errors() {
        let good = frame(2, 8).encode();
        assert_eq!(Frame::decode(&good[..71]), Err(FrameError::Header));
        assert_eq!(Frame::decode(b"CDIB"), Err(FrameError::Header));
        assert_eq!(Frame::decode(&good[..good.len() - 1]), Err(FrameError::Length { expected: 16, got: 15 }));
        let with_word = |at: usize, word: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            Frame::decode(&bytes)
        };
        for (at, word) in [(28, 0), (28, u32::MAX), (32, 0), (32, u32::MAX), (24, u32::MAX)] {
            assert!(matches!(with_word(at, word), Err(FrameError::Bounds { .. })), "{at} {word}");
        }
    }

    #[test]
    fn transcripts_do_not_depend_on_framing() {
        let frame = frame(6, 16);
        let mut whole = Transcript::default();
        whole.push(frame.position, frame.rows, &frame.payload);
        let mut parts = Transcript::default();
        parts.push(5, 2, &frame.payload[..32]);
        parts.push(7, 4, &frame.payload[32..]);
        assert_eq!(whole, parts);
        let mut other = Transcript::default();
        other.push(6, 6, &frame.payload);
        assert_ne!(whole, other);
    }

    #[test]
    fn control_messages_round_trip() {
        let open = Open {
            session: [1; 16],
            attempt: 0,
            model: raw_cid(b"m"),
            layers: LayerRange::new(0, 3).expect("a range"),
            next: Some(vec![0, 36, 8]),
            max_positions: 512,
            prompt_len: 7,
            client_have: 7,
            sampling: Sampling::GREEDY,
            activations: ActivationType::F32,
            fork: Fork::default(),
        };
        let fork = Fork { branch: 2, position: 9 };
        for message in [
            Control::Open(Box::new(open.clone())),
            Control::Open(Box::new(Open { next: None, fork, ..open })),
            Control::Granted { attempt: 1, have: 0, kernel_id: "cpu".to_owned(), drafts: true },
            Control::Refused { attempt: 0, reason: Refusal::Invalid("context".to_owned()) },
            Control::Tokens { attempt: 0, position: 0, ids: vec![1, 2, 3], fork },
            Control::Token { attempt: 0, position: 9, id: 4, branch: 2 },
            Control::NextLost { attempt: 3 },
            Control::Preparing { done_bytes: 1, total_bytes: 2 },
            Control::Query,
            Control::Held { have: 8 },
            Control::Failed { message: "no".to_owned(), retriable: true },
            Control::Close,
        ] {
            assert_eq!(Control::decode(&message.encode().expect("encodes")), Ok(message));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Frame::decode(&bytes);
            let _ = Control::decode(&bytes);
        }
    }
}

//! The worker path: how two nodes agree on a message channel beside their streams, and what travels on it.
//!
//! A stage offers its successor a channel on a stream `/cdi/<network>/1/worker-channel`, one [`Offer`] and one
//! [`Consent`], each length-prefixed DAG-CBOR; the stream stays open as long as the channel. Whoever offered it opens
//! links on it, each of which is named in the [`Hello`](crate::session::Hello) of an activation stream; rows go one way,
//! credit the other.

use serde::{Deserialize, Serialize};

use crate::PeerId;
use crate::session::{FRAME_HEADER_BYTES, Frame};

/// Largest message of the agreement in bytes.
pub const MAX_AGREEMENT_BYTES: usize = 512;
/// Longest name of a connection in bytes (RFC 8839 allows 256 for a `ice-ufrag`).
pub const MAX_CONNECTION_NAME_BYTES: usize = 256;
/// Largest message on a channel in bytes: what browsers carry in one piece, with room to spare.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// Largest row that travels on a channel; a link with larger ones stays on its stream.
pub const MAX_ROW_BYTES: usize = MAX_MESSAGE_BYTES - HEADER_BYTES - FRAME_HEADER_BYTES;

/// Ids of data channels that are agreed upon, of Chromium's 1,024. Those of streams begin at 0, and there are 256 of each
/// side at most.
const IDS: std::ops::Range<u16> = 960..1_016;
/// Bytes before the frame of a message.
const HEADER_BYTES: usize = 5;

/// A stage wants to send rows over a channel of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The connection that it is to be on: the `ice-ufrag` of the offering side, which both know.
    pub connection: String,
    /// The id that both sides make it with.
    pub id: u16,
}

impl Offer {
    /// Whether `from` may offer this to `to`.
    #[must_use]
    pub fn is_valid(&self, from: &PeerId, to: &PeerId) -> bool {
        let length = self.connection.len();
        (1..=MAX_CONNECTION_NAME_BYTES).contains(&length) && ids(from, to).any(|id| id == self.id)
    }
}

/// The answer to an [`Offer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// The channel exists here and is listened to.
    Given,
    /// Not here, or not now.
    Refused,
}

/// The ids that `from` may offer to `to`. Both may offer at the same time: the even ones are for the smaller peer id.
pub fn ids(from: &PeerId, to: &PeerId) -> impl Iterator<Item = u16> + use<> {
    let odd = u16::from(from > to);
    IDS.filter(move |id| id % 2 == odd)
}

/// A link on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelLink {
    /// The channel: its id on the connection.
    pub id: u16,
    /// The link, by a number that whoever offered the channel has not used on it before.
    pub link: u32,
}

/// A message on a channel: a byte that says what it is, the link (`u32`, little endian), and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// The channel works this far. First of all, from each side; whoever offered it begins.
    Greeting,
    /// Rows for the successor, as [`Frame::encode`] writes them.
    Rows {
        /// The link.
        link: u32,
        /// The frame.
        frame: &'a [u8],
    },
    /// The successor has computed the rows before `have`.
    Credit {
        /// The link.
        link: u32,
        /// First position that is not computed.
        have: u32,
    },
}

/// Not a message of the worker path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of the worker path")]
pub struct MessageError;

const GREETING: u8 = 1;
const ROWS: u8 = 2;
const CREDIT: u8 = 3;

impl<'a> Message<'a> {
    /// Reads a message. What is in a frame is the stage's to check.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MessageError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(MessageError);
        }
        let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(MessageError)?;
        let [kind, link @ ..] = *head;
        let link = u32::from_le_bytes(link);
        match (kind, rest) {
            (GREETING, []) if link == 0 => Ok(Self::Greeting),
            (ROWS, frame) if frame.len() > FRAME_HEADER_BYTES => Ok(Self::Rows { link, frame }),
            (CREDIT, &[a, b, c, d]) => Ok(Self::Credit { link, have: u32::from_le_bytes([a, b, c, d]) }),
            _ => Err(MessageError),
        }
    }

    /// The bytes that travel.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::Greeting => head(GREETING, 0, 0),
            Self::Rows { link, frame } => {
                let mut bytes = head(ROWS, link, frame.len());
                bytes.extend_from_slice(frame);
                bytes
            }
            Self::Credit { link, have } => {
                let mut bytes = head(CREDIT, link, 4);
                bytes.extend_from_slice(&have.to_le_bytes());
                bytes
            }
        }
    }
}

/// The message that carries `frame`: one copy of its rows, as they are on the path of every token.
#[must_use]
pub fn rows(link: u32, frame: &Frame) -> Vec<u8> {
    let mut bytes = head(ROWS, link, FRAME_HEADER_BYTES + frame.payload.len());
    frame.encode_into(&mut bytes);
    bytes
}

fn head(kind: u8, link: u32, rest: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + rest);
    bytes.push(kind);
    bytes.extend_from_slice(&link.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(seed: u8) -> PeerId {
        crate::Keypair::from_seed(&[seed; 32]).public().peer_id()
    }

    #[test]
    fn two_peers_never_offer_the_same_id() {
        let (a, b) = (peer(1), peer(2));
        let (mine, theirs): (Vec<_>, Vec<_>) = (ids(&a, &b).collect(), ids(&b, &a).collect());
        assert!(mine.len() >= 16 && mine.iter().all(|id| !theirs.contains(id)));
        let offer = |connection: &str, id| Offer { connection: connection.to_owned(), id };
        assert!(offer("x", mine[0]).is_valid(&a, &b));
        assert!(!offer("x", theirs[0]).is_valid(&a, &b), "an id of the other side");
        assert!(!offer("x", 0).is_valid(&a, &b), "an id of a stream");
        assert!(!offer("", mine[0]).is_valid(&a, &b));
        assert!(!offer(&"x".repeat(257), mine[0]).is_valid(&a, &b));
    }

    #[test]
    fn messages_have_one_form() {
        assert_eq!(Message::Greeting.encode(), [1, 0, 0, 0, 0]);
        assert_eq!(Message::Credit { link: 7, have: 258 }.encode(), [3, 7, 0, 0, 0, 2, 1, 0, 0]);
        let frame = Frame {
            session: [9; 16],
            attempt: 2,
            position: 5,
            rows: 1,
            transcript: [3; 32],
            payload: vec![1, 2, 3, 4],
        };
        let (bytes, encoded) = (rows(4, &frame), frame.encode());
        assert_eq!(Message::decode(&bytes), Ok(Message::Rows { link: 4, frame: &encoded }));
        assert_eq!(Message::Rows { link: 4, frame: &encoded }.encode(), bytes);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let long = [&[ROWS, 0, 0, 0, 0][..], &vec![0; MAX_MESSAGE_BYTES]].concat();
        let headless = [&[ROWS, 0, 0, 0, 0][..], &[0; FRAME_HEADER_BYTES]].concat();
        let bad: [&[u8]; 7] =
            [&[], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0], &[1, 1, 0, 0, 0], &[3, 0, 0, 0, 0, 1], &long, &headless];
        for bytes in bad {
            assert_eq!(Message::decode(bytes), Err(MessageError), "{:?}", bytes.get(..5));
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..5) {
            let bytes = [vec![kind], bytes].concat();
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}

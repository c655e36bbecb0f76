//! `/webrtc-signaling/0.0.1`: how two peers exchange offer, answer and ICE candidates.
//!
//! [`SignalCodec`] reads and writes the messages within fixed limits; [`Signalling`] says what each
//! side does with them. The machine touches no browser: its [`Action`]s are carried out in order by
//! whoever owns the `RTCPeerConnection`.

use asynchronous_codec::{Decoder, Encoder};
use bytes::{Buf as _, BytesMut};
use prost::Message as _;
use serde::{Deserialize, Serialize};

/// The protocol name.
pub const PROTOCOL: &str = "/webrtc-signaling/0.0.1";

/// The label of the channel that makes an offer contain a data section. It carries nothing; js-libp2p expects it.
pub const INIT_LABEL: &str = "init";

/// Longest session description, in bytes. One for data channels only has less than 1 KiB; a
/// dozen candidates inside it add about 100 bytes each.
pub const MAX_SDP_BYTES: usize = 16 * 1024;

/// Longest candidate as JSON, in bytes. Typical is 200 to 300.
pub const MAX_CANDIDATE_BYTES: usize = 2 * 1024;

/// Candidates taken from, and sent to, a peer in one handshake. A host with several interfaces and
/// two STUN servers has about a dozen.
pub const MAX_CANDIDATES: usize = 64;

/// Longest message body: the longest description and the protobuf around it.
const MAX_MESSAGE_BYTES: usize = MAX_SDP_BYTES + 16;

/// Longest length prefix of a message within [`MAX_MESSAGE_BYTES`]: three bytes hold 21 bits.
const MAX_PREFIX_BYTES: usize = 3;

/// The protobuf message on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Envelope {
    #[prost(enumeration = "SignalType", optional, tag = "1")]
    kind: Option<i32>,
    #[prost(string, optional, tag = "2")]
    data: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum SignalType {
    SdpOffer = 0,
    SdpAnswer = 1,
    IceCandidate = 2,
}

/// An `RTCIceCandidateInit`, as browsers write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IceCandidate {
    /// The candidate line; never empty here.
    pub candidate: String,
    /// The media section it belongs to, by name.
    #[serde(default)]
    pub sdp_mid: Option<String>,
    /// The media section it belongs to, by position.
    #[serde(default, rename = "sdpMLineIndex")]
    pub sdp_m_line_index: Option<u16>,
    /// The ICE generation it belongs to.
    #[serde(default)]
    pub username_fragment: Option<String>,
}

/// One message of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The initiator's session description.
    Offer(String),
    /// The responder's session description.
    Answer(String),
    /// A candidate of the sender.
    Candidate(IceCandidate),
    /// The sender has no more candidates. We accept it and never send it: js-libp2p parses every
    /// payload as JSON, and earlier versions fail on an empty one.
    EndOfCandidates,
}

/// Why a signalling stream has to be given up.
#[derive(Debug, thiserror::Error)]
pub enum SignallingError {
    /// The stream failed.
    #[error("signalling stream: {0}")]
    Io(#[from] std::io::Error),
    /// A message, description or candidate longer than its limit.
    #[error("signalling message too long")]
    TooLong,
    /// Not a message of the protocol.
    #[error("malformed signalling message: {0}")]
    Malformed(String),
    /// A message that its sender may not send now.
    #[error("{0} out of turn")]
    OutOfTurn(&'static str),
    /// More than [`MAX_CANDIDATES`] candidates.
    #[error("more than {MAX_CANDIDATES} candidates")]
    TooManyCandidates,
}

/// Length-prefixed [`Signal`]s on a stream, for [`asynchronous_codec::Framed`].
#[derive(Debug, Default)]
pub struct SignalCodec;

impl Encoder for SignalCodec {
    type Item<'a> = Signal;
    type Error = SignallingError;

    fn encode(&mut self, signal: Signal, buffer: &mut BytesMut) -> Result<(), SignallingError> {
        let (kind, data, limit) = match signal {
            Signal::Offer(sdp) => (SignalType::SdpOffer, sdp, MAX_SDP_BYTES),
            Signal::Answer(sdp) => (SignalType::SdpAnswer, sdp, MAX_SDP_BYTES),
            Signal::Candidate(candidate) => {
                let json = serde_json::to_string(&candidate).map_err(|e| SignallingError::Malformed(e.to_string()))?;
                (SignalType::IceCandidate, json, MAX_CANDIDATE_BYTES)
            }
            Signal::EndOfCandidates => return Ok(()),
        };
        if data.len() > limit {
            return Err(SignallingError::TooLong);
        }
        let envelope = Envelope { kind: Some(kind.into()), data: Some(data) };
        buffer.extend_from_slice(&envelope.encode_length_delimited_to_vec());
        Ok(())
    }
}

impl Decoder for SignalCodec {
    type Item = Signal;
    type Error = SignallingError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Signal>, SignallingError> {
        let mut length = 0_usize;
        for (index, byte) in buffer.iter().take(MAX_PREFIX_BYTES).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 != 0 {
                continue;
            }
            let prefix = index + 1;
            if length > MAX_MESSAGE_BYTES {
                return Err(SignallingError::TooLong);
            }
            if buffer.len() < prefix + length {
                return Ok(None);
            }
            buffer.advance(prefix);
            return decode_body(&buffer.split_to(length)).map(Some);
        }
        if buffer.len() < MAX_PREFIX_BYTES { Ok(None) } else { Err(SignallingError::TooLong) }
    }
}

fn decode_body(body: &[u8]) -> Result<Signal, SignallingError> {
    let envelope = Envelope::decode(body).map_err(|e| SignallingError::Malformed(e.to_string()))?;
    let data = envelope.data.unwrap_or_default();
    let kind = envelope.kind.ok_or_else(|| SignallingError::Malformed("no type".to_owned()))?;
    match SignalType::try_from(kind) {
        Ok(SignalType::SdpOffer) => bounded(data, MAX_SDP_BYTES).map(Signal::Offer),
        Ok(SignalType::SdpAnswer) => bounded(data, MAX_SDP_BYTES).map(Signal::Answer),
        Ok(SignalType::IceCandidate) => parse_candidate(&bounded(data, MAX_CANDIDATE_BYTES)?),
        Err(_) => Err(SignallingError::Malformed(format!("unknown type {kind}"))),
    }
}

fn bounded(data: String, limit: usize) -> Result<String, SignallingError> {
    if data.len() > limit { Err(SignallingError::TooLong) } else { Ok(data) }
}

/// End-of-candidates comes as nothing, `null`, `""` or an init with an empty candidate, depending
/// on who wrote the peer.
fn parse_candidate(json: &str) -> Result<Signal, SignallingError> {
    if matches!(json.trim(), "" | "null" | "\"\"") {
        return Ok(Signal::EndOfCandidates);
    }
    let candidate: IceCandidate = serde_json::from_str(json).map_err(|e| SignallingError::Malformed(e.to_string()))?;
    Ok(if candidate.candidate.is_empty() { Signal::EndOfCandidates } else { Signal::Candidate(candidate) })
}

/// What the owner of the peer connection has to do next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this to the peer.
    Send(Signal),
    /// `setRemoteDescription` with this offer, then create and set the answer and hand it to
    /// [`Signalling::local_description`].
    AcceptOffer(String),
    /// `setRemoteDescription` with this answer.
    AcceptAnswer(String),
    /// `addIceCandidate`; the remote description has been set by an earlier action.
    AddCandidate(IceCandidate),
}

/// Which side of the handshake we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We opened the signalling stream and make the offer.
    Initiator,
    /// We answer.
    Responder,
}

/// One side of one handshake.
#[derive(Debug)]
pub struct Signalling {
    role: Role,
    is_description_sent: bool,
    is_description_received: bool,
    /// Our candidates, held back until our description has been sent.
    local: Vec<IceCandidate>,
    /// The peer's candidates, held back until its description has been set: browsers refuse them before.
    remote: Vec<IceCandidate>,
    sent_candidates: usize,
    received_candidates: usize,
}

impl Signalling {
    /// A handshake in which we have the given role.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            role,
            is_description_sent: false,
            is_description_received: false,
            local: Vec::new(),
            remote: Vec::new(),
            sent_candidates: 0,
            received_candidates: 0,
        }
    }

    /// Our offer or answer has been created and set.
    ///
    /// # Errors
    /// [`SignallingError::OutOfTurn`] for a second description, or an answer before the offer;
    /// [`SignallingError::TooLong`].
    pub fn local_description(&mut self, sdp: String) -> Result<Vec<Action>, SignallingError> {
        let sdp = bounded(sdp, MAX_SDP_BYTES)?;
        let signal = match self.role {
            _ if self.is_description_sent => return Err(SignallingError::OutOfTurn("second local description")),
            Role::Responder if !self.is_description_received => return Err(SignallingError::OutOfTurn("answer")),
            Role::Initiator => Signal::Offer(sdp),
            Role::Responder => Signal::Answer(sdp),
        };
        self.is_description_sent = true;
        let mut actions = vec![Action::Send(signal)];
        actions.extend(self.local.drain(..).map(|candidate| Action::Send(Signal::Candidate(candidate))));
        Ok(actions)
    }

    /// The browser found a candidate of ours. Empty ones (end-of-candidates), overlong ones and
    /// those beyond [`MAX_CANDIDATES`] are dropped: the peer can connect with the others.
    pub fn local_candidate(&mut self, candidate: IceCandidate) -> Vec<Action> {
        let is_legal = (1..=MAX_CANDIDATE_BYTES / 2).contains(&candidate.candidate.len());
        if !is_legal || self.sent_candidates >= MAX_CANDIDATES {
            return Vec::new();
        }
        self.sent_candidates += 1;
        if self.is_description_sent {
            return vec![Action::Send(Signal::Candidate(candidate))];
        }
        self.local.push(candidate);
        Vec::new()
    }

    /// The peer sent this.
    ///
    /// # Errors
    /// [`SignallingError::OutOfTurn`] or [`SignallingError::TooManyCandidates`]; the handshake has failed.
    pub fn received(&mut self, signal: Signal) -> Result<Vec<Action>, SignallingError> {
        match (signal, self.role) {
            (Signal::Offer(sdp), Role::Responder) if !self.is_description_received => {
                self.is_description_received = true;
                Ok(self.accept(Action::AcceptOffer(sdp)))
            }
            (Signal::Answer(sdp), Role::Initiator) if self.is_description_sent && !self.is_description_received => {
                self.is_description_received = true;
                Ok(self.accept(Action::AcceptAnswer(sdp)))
            }
            (Signal::Offer(_), _) => Err(SignallingError::OutOfTurn("offer")),
            (Signal::Answer(_), _) => Err(SignallingError::OutOfTurn("answer")),
            // The end is announced once a generation, not once for all: only its count is of interest.
            (Signal::EndOfCandidates, _) => self.count_candidate().map(|()| Vec::new()),
            (Signal::Candidate(candidate), _) => {
                self.count_candidate()?;
                if self.is_description_received {
                    return Ok(vec![Action::AddCandidate(candidate)]);
                }
                self.remote.push(candidate);
                Ok(Vec::new())
            }
        }
    }

    fn count_candidate(&mut self) -> Result<(), SignallingError> {
        if self.received_candidates >= MAX_CANDIDATES {
            return Err(SignallingError::TooManyCandidates);
        }
        self.received_candidates += 1;
        Ok(())
    }

    fn accept(&mut self, description: Action) -> Vec<Action> {
        let mut actions = vec![description];
        actions.extend(self.remote.drain(..).map(Action::AddCandidate));
        actions
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests;

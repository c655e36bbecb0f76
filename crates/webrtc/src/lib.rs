//! libp2p `/webrtc` between browser tabs (libp2p specs, `webrtc/webrtc.md`).
//!
//! Two tabs meet over a relay, exchange an offer, an answer and ICE candidates on a relayed
//! stream, and then talk directly. The parts that think are plain state machines, tested natively:
//! [`framing`] and [`half_close`] (streams over data channels), [`substream`] (their byte streams),
//! [`signalling`] (offer, answer, candidates), [`admission`] (how many handshakes at a time) and
//! [`address`]. The parts that touch `RTCPeerConnection` are in `browser` and exist for wasm32
//! only: there is no native `/webrtc` here.

pub mod address;
pub mod admission;
pub mod framing;
pub mod half_close;
pub mod signalling;
pub mod substream;

#[cfg(target_arch = "wasm32")]
pub mod browser;

//! libp2p WebRTC: `/webrtc` between browser tabs and `/webrtc-direct` to servers (libp2p specs, `webrtc/`).
//!
//! Two tabs meet over a relay, exchange an offer, an answer and ICE candidates on a relayed
//! stream, and then talk directly. A server is dialled at its UDP port and the hash of its
//! certificate, and nothing is exchanged beforehand. The parts that think are plain state machines,
//! tested natively: [`framing`], [`frame_size`] and [`half_close`] (streams over data channels), [`substream`] (their
//! byte streams), [`signalling`] (offer, answer, candidates), [`admission`] (how many handshakes at a
//! time), [`direct`], [`fingerprint`] and [`authenticate`] (what a client and a server agree on), and
//! [`address`]. The parts that touch `RTCPeerConnection` are in `browser` and exist for wasm32 only;
//! server and client without a browser are in `native`. There is no native `/webrtc` here.

pub mod address;
pub mod admission;
pub mod authenticate;
pub mod direct;
pub mod fingerprint;
pub mod frame_size;
pub mod framing;
pub mod half_close;
pub mod signalling;
pub mod substream;

#[cfg(target_arch = "wasm32")]
pub mod browser;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;

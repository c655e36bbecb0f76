//! libp2p WebRTC: `/webrtc` between tabs and native nodes and `/webrtc-direct` to servers (libp2p specs, `webrtc/`).
//!
//! Two nodes meet over a relay, exchange an offer, an answer and ICE candidates on a relayed
//! stream, and then talk directly. A server is dialled at its UDP port and the hash of its
//! certificate, and nothing is exchanged beforehand. The parts that think are plain state machines,
//! tested natively: [`framing`], [`frame_size`] and [`half_close`] (streams over data channels), [`substream`] (their
//! byte streams), [`signalling`] (offer, answer, candidates), [`admission`] (how many handshakes at a
//! time), [`direct`], [`fingerprint`] and [`authenticate`] (what a client and a server agree on), and
//! [`address`]. [`signalled`] is transport and behaviour of `/webrtc` for all targets. The parts that touch
//! `RTCPeerConnection` are in `browser` and exist for wasm32 only; those without a browser are in `native`.

pub mod address;
pub mod admission;
pub mod authenticate;
pub mod direct;
pub mod fingerprint;
pub mod frame_size;
pub mod framing;
pub mod half_close;
pub mod sdp;
pub mod signalled;
pub mod signalling;
pub mod substream;

#[cfg(target_arch = "wasm32")]
pub mod browser;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;

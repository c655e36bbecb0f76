//! WebRTC without a browser, on `str0m`: the `/webrtc-direct` server and client, and connections for `/webrtc`.
//!
//! `str0m` is sans-IO: it is given datagrams and the time, and says what to send. [`driver`] runs one
//! connection in a task of its own; [`listener`] is the one UDP socket that all clients of a server share, and
//! [`table`] says whose datagram is whose; [`attempt`] makes a connection for `/webrtc` out of an offer and an answer, over the sockets and from
//! the addresses that [`gather`] finds. Streams are those of the browser side: the same framing, the same
//! half-close, the same limits.

mod attempt;
mod certificate;
mod channel;
mod connection;
mod counters;
mod dial;
mod driver;
mod gather;
mod link;
mod listener;
mod pause;
mod places;
mod rate;
mod session;
mod streams;
mod stun;
mod table;
mod transport;
mod udp;

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

pub(crate) use self::attempt::Attempt;
pub use self::certificate::{Certificate, CertificateError};
pub use self::channel::NativeChannel;
pub use self::connection::Connection;
pub use self::counters::{Counters, Figures};
pub use self::transport::DirectTransport;
use crate::direct::AddressError;

/// Streams of one connection that one side has opened and that are not over yet.
pub const MAX_STREAMS_PER_SIDE: usize = 256;

/// What the `/webrtc` connections of a swarm share.
pub(crate) type Connections = Counters;

/// A future as libp2p wants it.
pub(crate) fn boxed<T>(future: impl Future<Output = T> + Send + 'static) -> BoxFuture<'static, T> {
    future.boxed()
}

/// Limits of [`DirectTransport`].
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a handshake may take: ICE, DTLS and Noise together.
    pub handshake_timeout: Duration,
    /// A connection from which nothing has come for this time is lost. Browsers send a check every few seconds.
    pub silence_timeout: Duration,
    /// Connections that are not authenticated yet, in all.
    pub max_handshakes: usize,
    /// Of these, from one address. A school or a company has one.
    pub max_handshakes_per_ip: usize,
    /// Connections of one listener.
    pub max_connections: usize,
    /// Connections that one address may ask for at once, and then one every [`Config::rate_interval`].
    pub rate_burst: u32,
    /// See [`Config::rate_burst`].
    pub rate_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(20),
            silence_timeout: Duration::from_secs(30),
            max_handshakes: 128,
            max_handshakes_per_ip: 32,
            max_connections: 1024,
            rate_burst: 128,
            rate_interval: Duration::from_millis(250),
        }
    }
}

/// Why a connection could not be made, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be dialled.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The socket could not be opened or bound.
    #[error("UDP socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The WebRTC stack refused an operation, or the peer violated one of its protocols.
    #[error("WebRTC: {0}")]
    Stack(String),
    /// The peer wants something else than data channels.
    #[error(transparent)]
    NotData(#[from] crate::sdp::NotData),
    /// The peer did not prove who it is.
    #[error("authentication: {0}")]
    Noise(#[from] libp2p_noise::Error),
    /// Somebody else than the address promised.
    #[error("another peer answered")]
    WrongPeer,
    /// The handshake took longer than [`Config::handshake_timeout`].
    #[error("the WebRTC handshake timed out")]
    Timeout,
    /// The peer, or the network between, has gone.
    #[error("connection lost")]
    Lost,
    /// This side closed the connection.
    #[error("connection closed")]
    Closed,
}

impl From<CertificateError> for Error {
    fn from(error: CertificateError) -> Self {
        Self::Stack(error.to_string())
    }
}

impl From<str0m::RtcError> for Error {
    fn from(error: str0m::RtcError) -> Self {
        Self::Stack(error.to_string())
    }
}

#[cfg(test)]
mod tests;

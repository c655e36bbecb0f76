//! WebRTC in a browser window: what `RTCPeerConnection` does for `/webrtc` and `/webrtc-direct`.
//!
//! `RTCPeerConnection` exists on windows only; in a worker every dial fails with [`Error::Js`].
//! Everything here lives on the page's one thread: JavaScript objects are kept in `SendWrapper`s,
//! which satisfies libp2p's `Send` bounds and panics if that ever became untrue.

mod attempt;
mod channel;
mod connection;
mod direct;
mod negotiated;
mod peer_connection;
mod teardown;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use send_wrapper::SendWrapper;

pub(crate) use self::attempt::Attempt;
pub use self::connection::Connection;
pub use self::direct::DirectTransport;
pub use self::negotiated::ConnectionName;
pub use self::teardown::{OpenConnections, PageHideGuard};
pub use crate::signalled::{
    Behaviour, Config, DEFAULT_HANDSHAKE_TIMEOUT, IceServer, RelayedAfterDirect, Transport, new,
};

/// What the connections of a swarm share.
pub(crate) type Connections = OpenConnections;

/// A future that stays on this thread, as libp2p wants it.
pub(crate) fn boxed<T>(future: impl Future<Output = T> + 'static) -> BoxFuture<'static, T>
where
    T: 'static,
{
    SendWrapper::new(future).boxed()
}

/// Why a connection could not be made, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address names `/webrtc-direct` but cannot be dialled.
    #[error(transparent)]
    DirectAddress(#[from] crate::direct::AddressError),
    /// The server did not prove who it is.
    #[error("authentication: {0}")]
    Noise(#[from] libp2p_noise::Error),
    /// Somebody else than the address promised.
    #[error("another peer answered")]
    WrongPeer,
    /// The handshake took too long.
    #[error("the WebRTC handshake timed out")]
    Timeout,
    /// The browser refused an operation.
    #[error("browser: {0}")]
    Js(String),
    /// The peer, or the network between, has gone.
    #[error("connection lost")]
    Lost,
    /// This side closed the connection.
    #[error("connection closed")]
    Closed,
}

impl From<wasm_bindgen::JsValue> for Error {
    fn from(value: wasm_bindgen::JsValue) -> Self {
        Self::Js(format!("{value:?}"))
    }
}

//! `/webrtc` in a browser window: the paired transport and behaviour over `RTCPeerConnection`.
//!
//! `RTCPeerConnection` exists on windows only; in a worker every dial fails with [`Error::Js`].
//! Everything here lives on the page's one thread: JavaScript objects are kept in `SendWrapper`s,
//! which satisfies libp2p's `Send` bounds and panics if that ever became untrue.
//!
//! ```ignore
//! let (webrtc, webrtc_behaviour) = cdi_webrtc::browser::new(peer_id, Config::default());
//! let (relay, relay_behaviour) = libp2p::relay::client::new(peer_id);
//! // Before the relay transport, which takes the same addresses for plain relayed ones:
//! let transport = webrtc.or_transport(upgraded(relay)).or_transport(websocket)…
//! swarm.listen_on("/webrtc".parse()?)?; // accept direct connections
//! ```

mod behaviour;
mod channel;
mod connection;
mod direct;
mod handler;
mod negotiated;
mod negotiation;
mod peer_connection;
mod teardown;
mod transport;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_swarm::Stream;

pub use self::behaviour::Behaviour;
pub use self::connection::Connection;
pub use self::direct::DirectTransport;
pub use self::negotiated::ConnectionName;
pub use self::teardown::{OpenConnections, PageHideGuard};
pub use self::transport::Transport;
use crate::address::AddressError;
use crate::admission::{Admission, AdmissionError};
use crate::signalling::SignallingError;

/// How long a handshake may take, from the dial to the open connection, if not configured
/// otherwise. On loopback it takes 60 to 330 ms; a phone on a bad network with a relay on another
/// continent needs seconds.
pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// A STUN or TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:` and `turn:` URLs of the server.
    pub urls: Vec<String>,
    /// User name for TURN.
    pub username: Option<String>,
    /// Password for TURN.
    pub credential: Option<String>,
}

/// What the dialler does with its relayed connections to a peer once a direct one is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayedAfterDirect {
    /// Close them as soon as no handshake with the peer needs them: they eat the relay's limits,
    /// and protocols that pick any connection to the peer might pick the slow one.
    #[default]
    Close,
    /// Leave them to the swarm's idle timeout.
    Keep,
}

/// Settings of [`new`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Servers that tell a tab its public address or relay for it, to begin with; see
    /// [`Behaviour::set_ice_servers`]. Without any, peers are found on the same machine or network only
    /// (by mDNS candidates), or where one side has a public address.
    pub ice_servers: Vec<IceServer>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// What becomes of relayed connections.
    pub relayed_after_direct: RelayedAfterDirect,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ice_servers: Vec::new(),
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            relayed_after_direct: RelayedAfterDirect::default(),
        }
    }
}

/// Why a direct connection could not be made, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address names `/webrtc` but cannot be dialled.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The address names `/webrtc-direct` but cannot be dialled.
    #[error(transparent)]
    DirectAddress(#[from] crate::direct::AddressError),
    /// The server did not prove who it is.
    #[error("authentication: {0}")]
    Noise(#[from] libp2p_noise::Error),
    /// Somebody else than the address promised.
    #[error("another peer answered")]
    WrongPeer,
    /// Too many handshakes are in progress.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// Offer, answer or candidates could not be exchanged.
    #[error(transparent)]
    Signalling(#[from] SignallingError),
    /// The relayed connection for the signalling could not be opened.
    #[error("relayed connection: {0}")]
    RelayedDial(String),
    /// The peer does not speak the signalling protocol, or the stream for it could not be opened.
    #[error("signalling stream: {0}")]
    SignallingStream(String),
    /// The handshake took longer than [`Config::handshake_timeout`].
    #[error("the WebRTC handshake timed out")]
    Timeout,
    /// A second listener; one is enough for all relays.
    #[error("listening on /webrtc already")]
    AlreadyListening,
    /// The browser refused an operation.
    #[error("browser: {0}")]
    Js(String),
    /// The peer, or the network between, has gone.
    #[error("connection lost")]
    Lost,
    /// This side closed the connection.
    #[error("connection closed")]
    Closed,
    /// The swarm is shutting down: the other half of the pair has been dropped.
    #[error("the swarm is shutting down")]
    ShuttingDown,
}

impl From<wasm_bindgen::JsValue> for Error {
    fn from(value: wasm_bindgen::JsValue) -> Self {
        Self::Js(format!("{value:?}"))
    }
}

/// A dial that needs a signalling stream from the behaviour.
#[derive(Debug)]
struct StreamRequest {
    peer: PeerId,
    relayed: libp2p_core::Multiaddr,
    reply: Reply,
}

/// Where a signalling stream is awaited.
type Reply = futures::channel::oneshot::Sender<Result<Stream, Error>>;

/// What transport and behaviour share.
#[derive(Debug, Clone)]
struct Shared {
    local_peer: PeerId,
    config: Config,
    /// What new connections use; it changes with the relays.
    ice_servers: Arc<Mutex<Vec<IceServer>>>,
    admission: Admission,
    connections: OpenConnections,
}

impl Shared {
    fn ice_servers(&self) -> MutexGuard<'_, Vec<IceServer>> {
        // Whole between any two statements.
        self.ice_servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the transport and the behaviour of `local_peer`; one swarm must get both.
#[must_use]
pub fn new(local_peer: PeerId, config: Config) -> (Transport, Behaviour) {
    let shared = Shared {
        local_peer,
        ice_servers: Arc::new(Mutex::new(config.ice_servers.clone())),
        config,
        admission: Admission::default(),
        connections: OpenConnections::default(),
    };
    transport::pair(shared)
}

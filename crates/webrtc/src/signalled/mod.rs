//! `/webrtc` between two peers that a relay introduces: the paired transport and behaviour.
//!
//! A dial of `<relay>/p2p-circuit/webrtc/p2p/<peer>` opens a circuit to the peer and a signalling stream on it, makes a
//! connection of its own with what is exchanged there, and needs the circuit no more. All of it is the same in a browser
//! and without one; what differs is the `Attempt`, which is an `RTCPeerConnection` or one of `str0m`.
//!
//! ```ignore
//! let (webrtc, webrtc_behaviour) = cdi_webrtc::signalled::new(peer_id, Config::default());
//! let (relay, relay_behaviour) = libp2p::relay::client::new(peer_id);
//! // Before the relay transport, which takes the same addresses for plain relayed ones:
//! let transport = webrtc.or_transport(upgraded(relay)).or_transport(websocket)…
//! swarm.listen_on("/webrtc".parse()?)?; // accept direct connections
//! ```

mod behaviour;
mod handler;
mod negotiation;
mod transport;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_swarm::Stream;

pub use self::behaviour::Behaviour;
#[cfg(target_arch = "wasm32")]
pub(crate) use self::negotiation::within;
pub use self::transport::Transport;
use crate::address::AddressError;
use crate::admission::{Admission, AdmissionError};
#[cfg(target_arch = "wasm32")]
use crate::browser as backend;
#[cfg(not(target_arch = "wasm32"))]
use crate::native as backend;
use crate::signalling::SignallingError;

/// How long a handshake may take, from the dial to the open connection, if not configured
/// otherwise. On loopback it takes 60 to 330 ms; a phone on a bad network with a relay on another
/// continent needs seconds.
pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// A STUN or TURN server. Only browsers use TURN.
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
    /// Leave them to their owner and to the swarm's idle timeout.
    Keep,
}

/// Settings of [`new`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Servers that tell a node its public address or relay for it, to begin with; see
    /// [`Behaviour::set_ice_servers`]. Without any, peers are found on the same machine or network only,
    /// or where one side has a public address.
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

/// Why a direct connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address names `/webrtc` but cannot be dialled.
    #[error(transparent)]
    Address(#[from] AddressError),
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
    /// The WebRTC stack refused an operation, or the connection failed.
    #[error(transparent)]
    Connection(#[from] backend::Error),
    /// The relayed connection went away during the handshake.
    #[error("the relayed connection was lost")]
    Lost,
    /// The swarm is shutting down: the other half of the pair has been dropped.
    #[error("the swarm is shutting down")]
    ShuttingDown,
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
    connections: backend::Connections,
}

impl Shared {
    fn ice_servers(&self) -> MutexGuard<'_, Vec<IceServer>> {
        // Whole between any two statements.
        self.ice_servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the transport and the behaviour of `local_peer`; one swarm must get both. Without a browser they must be used
/// inside a tokio runtime.
#[must_use]
pub fn new(local_peer: PeerId, config: Config) -> (Transport, Behaviour) {
    let shared = Shared {
        local_peer,
        ice_servers: Arc::new(Mutex::new(config.ice_servers.clone())),
        config,
        admission: Admission::default(),
        connections: backend::Connections::default(),
    };
    transport::pair(shared)
}

//! What can go wrong between this node and the others.

use cdi_types::PeerId;

use crate::Address;

/// Why the network refused or failed something.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The swarm could not be built: no resolver, or no runtime to run it.
    #[error("the network could not be started: {0}")]
    Start(String),
    /// An address to listen on was refused, e.g. because its port is taken.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address that was asked for.
        address: Address,
        /// What the transport said.
        reason: String,
    },
    /// The actor has stopped; start a new one.
    #[error("the network has stopped")]
    Stopped,
    /// There is no connection to the peer.
    #[error("not connected to {0}")]
    NotConnected(PeerId),
    /// The peer could not be reached, directly or through a relay.
    #[error("{peer} cannot be reached: {reason}")]
    Dial {
        /// Who was dialled.
        peer: PeerId,
        /// What the last attempt said.
        reason: String,
    },
    /// The address could not be reached.
    #[error("{address} cannot be reached: {reason}")]
    DialAddress {
        /// What was dialled.
        address: Address,
        /// What the attempt said.
        reason: String,
    },
    /// Too many dials are in progress.
    #[error("too many dials are in progress")]
    Busy,
    /// A protocol name must be short and begin with a slash.
    #[error("{0:?} is not a protocol name")]
    ProtocolName(String),
    /// Somebody accepts this protocol already.
    #[error("{0} is accepted already")]
    ProtocolTaken(String),
    /// The peer does not speak the protocol.
    #[error("{peer} does not speak {protocol}")]
    Unsupported {
        /// The peer.
        peer: PeerId,
        /// What it was asked for.
        protocol: String,
    },
    /// The connection was lost while the stream was being opened.
    #[error("no stream to {peer}: {reason}")]
    Stream {
        /// The peer.
        peer: PeerId,
        /// What the connection said.
        reason: String,
    },
    /// The link to the peer has no channels beside its streams, or the peer wants none.
    #[error("no channel with {0} for a worker")]
    NoChannel(PeerId),
    /// The message is larger than the swarm carries.
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is carried.
        limit: usize,
    },
    /// The message could not be published.
    #[error("not published: {0}")]
    Publish(String),
}

impl NetError {
    /// Whether nothing can succeed any more on this handle.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Listen { .. } | Self::Stopped)
    }
}

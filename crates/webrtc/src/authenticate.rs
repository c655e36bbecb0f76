//! Who is at the other end of a `/webrtc-direct` connection: a Noise handshake on its first channel.
//!
//! DTLS proves nothing here: neither certificate is known to the other side beforehand by anything but a hash
//! in an address that a stranger may have written. The prologue ties the handshake to both certificates.

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _, future};
use libp2p_core::UpgradeInfo as _;
use libp2p_core::upgrade::{InboundConnectionUpgrade as _, OutboundConnectionUpgrade as _};
use libp2p_identity::{Keypair, PeerId};
use libp2p_noise::{Config, Error};

use crate::fingerprint::{Fingerprint, noise_prologue};

/// Where in the connection we stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We dialled: Noise responder.
    Client,
    /// We were dialled: Noise initiator, because the server can send first.
    Server,
}

/// The two certificates of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificates {
    /// That of the side that dialled.
    pub client: Fingerprint,
    /// That of the side that was dialled.
    pub server: Fingerprint,
}

/// Runs the handshake on `stream`; returns the peer's identity. The stream is closed on our side.
///
/// # Errors
/// [`libp2p_noise::Error`]: the peer could not prove who it is, or sees other certificates than we do.
pub async fn authenticate<S>(
    identity: &Keypair,
    stream: S,
    side: Side,
    certificates: Certificates,
) -> Result<PeerId, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let prologue = noise_prologue(certificates.client, certificates.server);
    let config = Config::new(identity)?.with_prologue(prologue);
    let info = config.protocol_info().next().expect("noise has one protocol name");
    let (peer, mut stream) = match side {
        Side::Server => config.upgrade_outbound(stream, info).await?,
        Side::Client => config.upgrade_inbound(stream, info).await?,
    };
    // Sends FIN. Its confirmation is not waited for: dropping the stream leaves that to the connection.
    let _ = future::poll_immediate(stream.close()).await;
    Ok(peer)
}

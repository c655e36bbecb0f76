//! A `/webrtc` connection that is being made.

use std::task::{Context, Poll};

use libp2p_identity::PeerId;
use web_sys::RtcDataChannel;

use super::peer_connection::PeerConnection;
use super::{Connection, Connections, Error, IceServer};
use crate::signalling::IceCandidate;

/// A peer connection and the channel that its offer was made with.
pub(crate) struct Attempt {
    pc: PeerConnection,
    init: Option<RtcDataChannel>,
}

impl Attempt {
    pub(crate) fn new(servers: &[IceServer], connections: &Connections) -> Result<Self, Error> {
        Ok(Self { pc: PeerConnection::new(servers, connections)?, init: None })
    }

    /// The offer for the peer.
    pub(crate) async fn offer(&mut self) -> Result<String, Error> {
        self.init = Some(self.pc.open_init_channel()?);
        self.pc.create_offer().await
    }

    /// Takes an offer and returns the answer for the peer.
    pub(crate) async fn answer(&mut self, offer: &str) -> Result<String, Error> {
        self.pc.answer(offer).await
    }

    /// Takes the answer to our offer.
    pub(crate) async fn accept_answer(&mut self, answer: &str) -> Result<(), Error> {
        self.pc.accept_answer(answer).await
    }

    /// Takes a candidate of the peer. One that cannot be used does not hurt the others.
    pub(crate) async fn add_candidate(&self, candidate: &IceCandidate) {
        self.pc.add_candidate(candidate).await;
    }

    /// The next candidate of ours.
    pub(crate) fn poll_candidate(&mut self, cx: &Context<'_>) -> Poll<IceCandidate> {
        self.pc.poll_candidate(cx)
    }

    /// Ready when the connection is up, or will never be.
    pub(crate) fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        self.pc.poll_connected(cx)
    }

    /// The connection, which is up, with `peer`.
    pub(crate) fn finish(self, peer: PeerId) -> Connection {
        self.pc.watch_association();
        if let Some(init) = self.init {
            init.close();
        }
        Connection::new(self.pc).with(peer)
    }
}

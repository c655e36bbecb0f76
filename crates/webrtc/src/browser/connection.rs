//! The stream muxer: libp2p streams over the data channels of one peer connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures_timer::Delay;
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p_identity::PeerId;
use send_wrapper::SendWrapper;

use super::Error;
use super::channel::BrowserChannel;
use super::peer_connection::PeerConnection;
use crate::substream::{FIN_ACK_TIMEOUT, Substream};

/// An established direct connection.
///
/// Closing or dropping it closes the peer connection, which the peer notices at once. Bytes that
/// have not been confirmed by then may be lost: await `close` of a stream where that matters.
pub struct Connection {
    pc: SendWrapper<PeerConnection>,
    /// Streams that were dropped while the peer still owes them a FIN or FIN_ACK, with their deadline.
    lingering: FuturesUnordered<BoxFuture<'static, u64>>,
}

impl Connection {
    pub(super) fn new(pc: PeerConnection) -> Self {
        Self { pc: SendWrapper::new(pc), lingering: FuturesUnordered::new() }
    }

    /// The connection, which is with `peer`.
    pub(super) fn with(self, peer: PeerId) -> Self {
        self.pc.set_peer(peer);
        self
    }

    /// An error once the connection is not up any more.
    fn check(&self, cx: &Context<'_>) -> Result<(), Error> {
        match self.pc.poll_connected(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }
}

impl StreamMuxer for Connection {
    type Substream = Substream<BrowserChannel>;
    type Error = Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Error>> {
        self.check(cx)?;
        self.pc.poll_accept(cx).map(Ok)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Error>> {
        self.check(cx)?;
        self.pc.poll_open(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.pc.close();
        Poll::Ready(Ok(()))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        self.check(cx)?;
        while let Poll::Ready(id) = self.pc.attention().poll_next(cx) {
            if self.pc.reap(id) {
                self.lingering.push(Box::pin(async move {
                    Delay::new(FIN_ACK_TIMEOUT).await;
                    id
                }));
            }
        }
        while let Poll::Ready(Some(id)) = self.lingering.poll_next_unpin(cx) {
            self.pc.abort(id);
        }
        Poll::Pending
    }
}

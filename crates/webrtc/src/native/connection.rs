//! The stream muxer: libp2p streams over the data channels of one connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::Error;
use super::channel::NativeChannel;
use super::link::LinkOwner;
use crate::substream::Substream;

/// An established connection.
///
/// Closing or dropping it closes the DTLS session, which the peer notices at once. Bytes that have not been
/// confirmed by then may be lost: await `close` of a stream where that matters.
pub struct Connection(LinkOwner);

impl Connection {
    pub(super) const fn new(link: LinkOwner) -> Self {
        Self(link)
    }

    #[cfg(test)]
    pub(super) const fn link(&self) -> &std::sync::Arc<super::link::Link> {
        &self.0.0
    }

    /// An error once the connection is not up any more.
    fn check(&self, cx: &Context<'_>) -> Result<(), Error> {
        match self.0.0.poll_connected(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }
}

impl StreamMuxer for Connection {
    type Substream = Substream<NativeChannel>;
    type Error = Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Error>> {
        self.check(cx)?;
        self.0.0.poll_accept(cx).map(Ok)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Error>> {
        self.check(cx)?;
        self.0.0.poll_open(cx).map(Ok)
    }

    /// Ready when the peer has been told.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.0.close();
        match self.check(cx) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        self.check(cx)?;
        Poll::Pending
    }
}

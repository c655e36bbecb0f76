//! A stream to a peer, and streams from peers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cdi_types::PeerId;
use futures::channel::mpsc;
use futures::io::{AsyncRead, AsyncWrite};
use libp2p::swarm::ConnectionId;

use crate::busy::Busy;
use crate::traffic::Traffic;

/// An ordered, encrypted, two-way byte stream to a peer. Dropping it resets it; close it to end it cleanly.
pub struct NetStream {
    stream: libp2p::Stream,
    traffic: Arc<Traffic>,
    /// Counts it while it is open.
    _busy: Busy,
}

impl NetStream {
    pub(crate) fn new(stream: libp2p::Stream, traffic: Arc<Traffic>, busy: Busy) -> Self {
        traffic.stream_opened();
        Self { stream, traffic, _busy: busy }
    }

    /// What is counted on its connection.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    /// The connection that it runs on.
    pub(crate) fn connection(&self) -> ConnectionId {
        self.traffic.connection()
    }
}

impl Drop for NetStream {
    fn drop(&mut self) {
        self.traffic.stream_over();
    }
}

impl fmt::Debug for NetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetStream")
    }
}

impl AsyncRead for NetStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.traffic.add_received(read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for NetStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buffer))?;
        self.traffic.add_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// The streams that peers open with one protocol. Dropping it stops accepting them.
#[derive(Debug)]
pub struct Incoming(pub(crate) mpsc::Receiver<(PeerId, NetStream)>);

impl futures::Stream for Incoming {
    type Item = (PeerId, NetStream);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

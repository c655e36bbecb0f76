//! A stream to a peer, and streams from peers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use cdi_types::PeerId;
use futures::channel::mpsc;
use futures::io::{AsyncRead, AsyncWrite};

/// An ordered, encrypted, two-way byte stream to a peer. Dropping it resets it; close it to end it cleanly.
pub struct NetStream(pub(crate) libp2p::Stream);

impl fmt::Debug for NetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetStream")
    }
}

impl AsyncRead for NetStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for NetStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// The streams that peers open with one protocol. Dropping it stops accepting them.
#[derive(Debug)]
pub struct Incoming(pub(crate) mpsc::Receiver<(PeerId, libp2p::Stream)>);

impl futures::Stream for Incoming {
    type Item = (PeerId, NetStream);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map(|next| next.map(|(peer, stream)| (peer, NetStream(stream))))
    }
}

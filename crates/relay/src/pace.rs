//! Connections whose streams forward in turn, see [`crate::line`].

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use cdi_platform::time::Instant;
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

use crate::line::{Account, Attained, Line};
use crate::metrics::Traffic;
use crate::origin::Origin;

/// A connection whose streams stand in line when the relay is busy.
pub(crate) struct Paced {
    connection: StreamMuxerBox,
    origin: Origin,
    attained: Arc<Mutex<Attained>>,
    line: Line,
    traffic: Traffic,
}

impl Paced {
    /// Paces `connection`, which comes from `origin`.
    pub(crate) fn new(connection: StreamMuxerBox, origin: Origin, line: Line, traffic: Traffic) -> Self {
        let attained = Arc::new(Mutex::new(Attained::nothing(Instant::now())));
        Self { connection, origin, attained, line, traffic }
    }

    fn stream(&self, inner: SubstreamBox) -> PacedStream {
        let account = Account::new(self.line.clone(), self.origin, self.attained.clone());
        PacedStream { inner, account, traffic: self.traffic.clone() }
    }
}

impl StreamMuxer for Paced {
    type Substream = PacedStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<PacedStream>> {
        let inner = ready!(Pin::new(&mut self.connection).poll_inbound(cx))?;
        Poll::Ready(Ok(self.stream(inner)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<PacedStream>> {
        let inner = ready!(Pin::new(&mut self.connection).poll_outbound(cx))?;
        Poll::Ready(Ok(self.stream(inner)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.connection).poll(cx)
    }
}

/// A stream that pays for what it read. What is not read fills the sender's window: it waits too.
pub(crate) struct PacedStream {
    inner: SubstreamBox,
    account: Account,
    traffic: Traffic,
}

impl AsyncRead for PacedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if ready!(this.account.poll_settle(cx)) {
            this.traffic.waited();
        }
        let bytes = ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        this.account.owe(bytes);
        this.traffic.received(bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.inner).poll_write(cx, buffer))?;
        self.traffic.sent(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

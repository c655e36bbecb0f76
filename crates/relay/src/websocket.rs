//! libp2p connections that arrive as WebSockets on the HTTP port.
//!
//! One port for page and peers means that somebody has to look at each request before knowing what it is.
//! HTTP does that anyway: a request with `Upgrade: websocket` becomes a WebSocket by the HTTP server's own
//! well-tested code, keeps the client's address for the limits per address, and is handed to the swarm by
//! this transport. The other way, guessing from the first bytes of a TCP connection and forwarding it to a
//! second listener, would parse HTTP twice and show the swarm 127.0.0.1 as everybody's address.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::{Message, WebSocket};
use futures::future::{Pending, Ready};
use futures::{Sink, Stream};
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use rw_stream_sink::RwStreamSink;
use tokio::sync::mpsc;

use crate::accept::Client;
use crate::address::web_socket_address;

/// The bytes of a libp2p connection, carried in binary messages.
pub(crate) type ByteStream = RwStreamSink<BinaryMessages>;

/// A WebSocket that a client opened.
pub(crate) struct Upgraded {
    /// The socket.
    pub(crate) socket: WebSocket,
    /// Who opened it. Held until the socket is closed, because it counts as a connection of its address.
    pub(crate) client: Client,
}

/// The transport: yields what the HTTP server upgrades, dials nobody.
pub(crate) struct Upgrades {
    upgraded: mpsc::Receiver<Upgraded>,
    listener: Option<Listener>,
}

struct Listener {
    id: ListenerId,
    address: Multiaddr,
    announced: bool,
}

impl Upgrades {
    /// A transport, and where the HTTP server puts what it upgrades.
    pub(crate) fn new() -> (Self, mpsc::Sender<Upgraded>) {
        let (sender, upgraded) = mpsc::channel(crate::limits::WEBSOCKET_BACKLOG);
        (Self { upgraded, listener: None }, sender)
    }
}

impl libp2p::Transport for Upgrades {
    type Output = ByteStream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<Result<ByteStream, io::Error>>;
    type Dial = Pending<Result<ByteStream, io::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        if self.listener.is_some() || !matches!(address.iter().last(), Some(Protocol::Ws(_))) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.listener = Some(Listener { id, address, announced: false });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listener.take_if(|l| l.id == id).is_some()
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let this = &mut *self;
        let Some(listener) = &mut this.listener else { return Poll::Pending };
        if !listener.announced {
            listener.announced = true;
            return Poll::Ready(TransportEvent::NewAddress {
                listener_id: listener.id,
                listen_addr: listener.address.clone(),
            });
        }
        match ready!(this.upgraded.poll_recv(cx)) {
            Some(Upgraded { socket, client }) => Poll::Ready(TransportEvent::Incoming {
                listener_id: listener.id,
                local_addr: listener.address.clone(),
                send_back_addr: web_socket_address(client.address),
                upgrade: futures::future::ready(Ok(RwStreamSink::new(BinaryMessages { socket, _client: client }))),
            }),
            // The HTTP server has stopped.
            None => {
                let listener_id = listener.id;
                this.listener = None;
                Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason: Ok(()) })
            }
        }
    }
}

/// The binary messages of a WebSocket. Their borders mean nothing to libp2p.
pub(crate) struct BinaryMessages {
    socket: WebSocket,
    _client: Client,
}

impl Stream for BinaryMessages {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => Some(Ok(bytes.into())),
                // The socket answers pings by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Text(_))) => Some(Err(io::Error::new(io::ErrorKind::InvalidData, "a text message"))),
                Some(Ok(Message::Close(_))) | None => None,
                Some(Err(error)) => Some(Err(io::Error::other(error))),
            });
        }
    }
}

impl Sink<Vec<u8>> for BinaryMessages {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_ready(cx).map_err(io::Error::other)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Vec<u8>) -> io::Result<()> {
        Pin::new(&mut self.socket).start_send(Message::Binary(bytes.into())).map_err(io::Error::other)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(io::Error::other)
    }
}

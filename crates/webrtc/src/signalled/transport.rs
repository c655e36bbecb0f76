//! The transport half: turns `/webrtc` dials and signalling streams of peers into connections.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::{SinkExt as _, StreamExt as _};
use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p_identity::PeerId;
use libp2p_swarm::Stream;

use super::behaviour::Behaviour;
use super::negotiation::{negotiate, within};
use super::{Error, Shared, StreamRequest, backend};
use crate::address::{is_direct_webrtc, parse_dial_address};
use crate::admission::{MAX_PENDING_HANDSHAKES, Permit};
use crate::signalling::Role;

type Handshake = BoxFuture<'static, Result<(PeerId, StreamMuxerBox), Error>>;
type Event = TransportEvent<Handshake, Error>;

/// What the behaviour tells the transport.
#[derive(Debug)]
pub(super) enum ToTransport {
    /// A peer opened a signalling stream.
    Incoming(Box<Incoming>),
    /// We can be dialled at this address.
    Reachable(Multiaddr),
    /// Not any more.
    Unreachable(Multiaddr),
}

#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) peer: PeerId,
    pub(super) stream: Stream,
    pub(super) permit: Permit,
    /// The relayed connection's local address, up to `/p2p-circuit`.
    pub(super) local_address: Multiaddr,
}

/// libp2p transport for `<relay>/p2p-circuit/webrtc/p2p/<peer>`.
///
/// Its output is already authenticated and multiplexed: the fingerprints of the DTLS certificates
/// travel over the relayed connection, whose Noise handshake has proved who the peer is.
/// Listening on `/webrtc` accepts connections by way of every relay that the swarm listens on.
pub struct Transport {
    shared: Shared,
    to_behaviour: mpsc::Sender<StreamRequest>,
    from_behaviour: mpsc::Receiver<ToTransport>,
    listener: Option<ListenerId>,
    /// Addresses announced to the listener.
    reachable: Vec<Multiaddr>,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

/// Makes both halves.
pub(super) fn pair(shared: Shared) -> (Transport, Behaviour) {
    let (to_behaviour, requests) = mpsc::channel(MAX_PENDING_HANDSHAKES);
    let (to_transport, from_behaviour) = mpsc::channel(MAX_PENDING_HANDSHAKES);
    let transport = Transport {
        shared: shared.clone(),
        to_behaviour,
        from_behaviour,
        listener: None,
        reachable: Vec::new(),
        events: VecDeque::new(),
        waker: None,
    };
    (transport, Behaviour::new(shared, requests, to_transport))
}

impl Transport {
    fn on_message(&mut self, message: ToTransport) {
        match message {
            ToTransport::Incoming(incoming) => {
                let Incoming { peer, stream, permit, local_address } = *incoming;
                let Some(listener_id) = self.listener else {
                    tracing::debug!(%peer, "signalling refused: not listening on /webrtc");
                    return;
                };
                let local_addr = local_address.with(Protocol::WebRTC);
                self.events.push_back(TransportEvent::Incoming {
                    listener_id,
                    upgrade: self.respond(peer, stream, permit),
                    // Identify tells the peer this address. It starts with the relay's, as it does where we dial:
                    // js-libp2p takes one without a host for an error and gives identify up.
                    send_back_addr: local_addr.clone().with(Protocol::P2p(peer)),
                    local_addr,
                });
            }
            ToTransport::Reachable(address) => {
                if !self.reachable.contains(&address) {
                    self.reachable.push(address.clone());
                    self.announce(address);
                }
            }
            ToTransport::Unreachable(address) => {
                self.reachable.retain(|known| *known != address);
                if let Some(listener_id) = self.listener {
                    self.events.push_back(TransportEvent::AddressExpired { listener_id, listen_addr: address });
                }
            }
        }
    }

    fn announce(&mut self, listen_addr: Multiaddr) {
        if let Some(listener_id) = self.listener {
            self.events.push_back(TransportEvent::NewAddress { listener_id, listen_addr });
        }
    }

    fn respond(&self, peer: PeerId, stream: Stream, permit: Permit) -> Handshake {
        let shared = self.shared.clone();
        backend::boxed(async move {
            let _permit = permit;
            let handshake = negotiate(peer, stream, Role::Responder, &shared);
            let connection = within(shared.config.handshake_timeout, handshake, Error::Timeout).await?;
            Ok((peer, StreamMuxerBox::new(connection)))
        })
    }
}

impl libp2p_core::Transport for Transport {
    type Output = (PeerId, StreamMuxerBox);
    type Error = Error;
    type ListenerUpgrade = Handshake;
    type Dial = Handshake;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Error>> {
        if address != Multiaddr::from(Protocol::WebRTC) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        if self.listener.is_some() {
            return Err(TransportError::Other(Error::AlreadyListening));
        }
        self.listener = Some(id);
        for address in self.reachable.clone() {
            self.announce(address);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        if self.listener != Some(id) {
            return false;
        }
        self.listener = None;
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Handshake, TransportError<Error>> {
        // Hole punching over a circuit is what this whole transport is; there is nothing to coordinate.
        if !is_direct_webrtc(&address) || options.role.is_listener() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        // "Not supported" would hand the address to the relay transport, which ignores the `/webrtc` in it.
        let target = parse_dial_address(&address).map_err(|error| TransportError::Other(error.into()))?;
        let shared = self.shared.clone();
        let mut to_behaviour = self.to_behaviour.clone();
        let dial = async move {
            let _permit = shared.admission.admit(target.peer)?;
            let handshake = async {
                let (reply, stream) = oneshot::channel();
                let request = StreamRequest { peer: target.peer, relayed: target.relayed, reply };
                to_behaviour.send(request).await.map_err(|_| Error::ShuttingDown)?;
                let stream = stream.await.map_err(|_| Error::Lost)??;
                negotiate(target.peer, stream, Role::Initiator, &shared).await
            };
            let connection = within(shared.config.handshake_timeout, handshake, Error::Timeout).await?;
            Ok((target.peer, StreamMuxerBox::new(connection)))
        };
        Ok(backend::boxed(dial))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match self.from_behaviour.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => self.on_message(message),
                // Without a behaviour nothing can arrive any more.
                Poll::Ready(None) | Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}

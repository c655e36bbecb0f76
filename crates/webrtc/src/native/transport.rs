//! The libp2p transport for `/webrtc-direct`.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use libp2p_core::Multiaddr;
use libp2p_core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p_identity::{Keypair, PeerId};
use tokio::sync::mpsc;

use super::dial::{Shared, counted, dial};
use super::listener::{Accepted, BACKLOG, Listener};
use super::places::Places;
use super::{Certificate, Config, Connection, Counters, Error, udp};
use crate::authenticate::Side;
use crate::direct::{address_of, dial_address, is_direct, parse_dial_address, parse_listen_address};
use crate::fingerprint::Fingerprint;

type Handshake = BoxFuture<'static, Result<(PeerId, Connection), Error>>;
type Event = TransportEvent<Handshake, Error>;

/// libp2p transport for `/ip4|ip6/<ip>/udp/<port>/webrtc-direct`, server and client.
///
/// Its output is authenticated and multiplexed. It must be used inside a tokio runtime. All clients of a
/// listener share one UDP port.
pub struct DirectTransport {
    shared: Arc<Shared>,
    listeners: HashMap<ListenerId, Active>,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

struct Active {
    address: Multiaddr,
    /// Dropping it stops the listener.
    accepted: mpsc::Receiver<Accepted>,
}

impl DirectTransport {
    /// A transport for the peer `identity`, whose listeners show `certificate`.
    #[must_use]
    pub fn new(identity: Keypair, certificate: Certificate, config: Config) -> Self {
        let places = Places::new(config.max_handshakes, config.max_handshakes_per_ip);
        let shared = Shared { identity, certificate, config, counters: Counters::default(), places };
        Self { shared: Arc::new(shared), listeners: HashMap::new(), events: VecDeque::new(), waker: None }
    }

    /// What became of what arrived.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters.clone()
    }

    /// The hash that the addresses of its listeners name.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.shared.certificate.fingerprint()
    }

    fn push(&mut self, event: Event) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn authenticated(&self, accepted: Accepted) -> Handshake {
        let shared = Arc::clone(&self.shared);
        async move {
            let Accepted { beginning, certificates, place: _place, .. } = accepted;
            let handshake = beginning.authenticated(&shared.identity, Side::Server, certificates);
            let connected = counted(&shared.counters, shared.config.handshake_timeout, handshake).await?;
            shared.counters.accepted();
            Ok(connected)
        }
        .boxed()
    }
}

/// The addresses of a socket that listens on `address`: those of all interfaces if it names none.
fn reachable_at(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let ips = interfaces.into_iter().filter(|interface| !interface.is_link_local()).map(|interface| interface.ip());
    ips.filter(|ip| ip.is_ipv4() == address.is_ipv4()).map(|ip| SocketAddr::new(ip, address.port())).collect()
}

impl libp2p_core::Transport for DirectTransport {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = Handshake;
    type Dial = Handshake;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Error>> {
        let Some(wanted) = parse_listen_address(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let bound = udp::bind(wanted).and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (local, socket) = bound.map_err(|error| TransportError::Other(error.into()))?;
        let (sender, accepted) = mpsc::channel(BACKLOG);
        tokio::spawn(Listener::new(Arc::clone(&self.shared), socket, local, sender).run());
        for socket in reachable_at(local) {
            let listen_addr = dial_address(socket, self.fingerprint());
            self.push(TransportEvent::NewAddress { listener_id: id, listen_addr });
        }
        self.listeners.insert(id, Active { address: address_of(local), accepted });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let is_known = self.listeners.remove(&id).is_some();
        if is_known {
            self.push(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        }
        is_known
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Handshake, TransportError<Error>> {
        // A server cannot be the one that dials: its peer has no address to send to.
        if !is_direct(&address) || options.role.is_listener() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let target = parse_dial_address(&address).map_err(|error| TransportError::Other(error.into()))?;
        Ok(dial(Arc::clone(&self.shared), target).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        let next = self.listeners.iter_mut().find_map(|(id, active)| match active.accepted.poll_recv(cx) {
            Poll::Ready(Some(accepted)) => Some((*id, active.address.clone(), accepted)),
            Poll::Ready(None) | Poll::Pending => None,
        });
        if let Some((listener_id, local_addr, accepted)) = next {
            let send_back_addr = address_of(accepted.remote);
            let upgrade = self.authenticated(accepted);
            return Poll::Ready(TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

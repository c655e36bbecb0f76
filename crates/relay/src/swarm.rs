//! The libp2p side: forwards circuits and announcements, answers the DHT, tells clients whether they can be dialled.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use cdi_net::rendezvous::RECORD_TTL;
use cdi_net::{Address, NetError, NetStream, gossip};
use cdi_platform::time::Instant;
use cdi_types::{Keypair, Network, PeerId};
use cdi_webrtc::native::DirectTransport;
use futures::StreamExt as _;
use futures::channel::mpsc;
use futures::future::Either;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour, StreamProtocol, SwarmEvent};
use libp2p::{
    Swarm, Transport as _, autonat, gossipsub, identify, kad, mdns, memory_connection_limits, noise, ping, quic, relay,
    tcp, yamux,
};

use crate::admission::Admission;
use crate::config::Config;
use crate::dht::Dht;
use crate::line::Line;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::pace::Paced;
use crate::stop::Stop;
use crate::websocket::Upgrades;
use crate::{connections, limits};

/// What a relay speaks.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    connections: connections::Behaviour,
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossip::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    streams: cdi_net::streams::Behaviour,
    autonat: autonat::v2::server::Behaviour,
    lan: Toggle<mdns::tokio::Behaviour>,
}

impl Behaviour {
    /// Takes the streams of clients that ask for STUN and TURN services.
    ///
    /// # Errors
    /// [`NetError::ProtocolTaken`] the second time.
    pub(crate) fn accept_ice(&mut self, network: Network) -> Result<mpsc::Receiver<(PeerId, NetStream)>, NetError> {
        let name = cdi_net::ice_protocol(network);
        let protocol = StreamProtocol::try_from_owned(name.clone()).map_err(|e| NetError::Start(e.to_string()))?;
        self.streams.accept(protocol).ok_or(NetError::ProtocolTaken(name))
    }
}

/// What bounds the swarm and counts for it.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) admission: Admission,
    pub(crate) line: Line,
    pub(crate) metrics: Metrics,
}

/// The swarm of a relay.
///
/// # Errors
/// [`NetError::Start`] when libp2p refuses the settings.
pub(crate) fn build(
    keypair: &Keypair,
    config: &Config,
    upgrades: Upgrades,
    webrtc: DirectTransport,
    bounds: &Bounds,
) -> Result<Swarm<Behaviour>, NetError> {
    let (key, network) = (keypair.to_libp2p(), config.network);
    let peer = key.public().to_peer_id();
    let identify = identify::Config::new(cdi_net::identify_protocol(network), key.public())
        .with_agent_version(format!("cdi-relay/{}", env!("CARGO_PKG_VERSION")))
        // Addresses that browsers cannot dial cost them a failed attempt each.
        .with_hide_listen_addrs(true)
        .with_cache_size(0);
    let ping = ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_TIMEOUT);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(connection_limits()),
        memory: memory_connection_limits::Behaviour::with_max_percentage(limits::MAX_MEMORY),
        connections: connections::Behaviour::new(limits::MAX_CONNECTIONS, bounds.metrics.clone()),
        relay: relay::Behaviour::new(peer, relay_config(&bounds.admission)),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping),
        gossip: gossip::behaviour(&key, network)?,
        streams: cdi_net::streams::Behaviour::default(),
        kad: kad_server(peer, network, &config.bootstrap)?,
        autonat: autonat::v2::server::Behaviour::default(),
        lan: config
            .lan
            .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), peer))
            .transpose()
            .map_err(|e| NetError::Start(format!("mDNS: {e}")))?
            .into(),
    };
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(limits::IDLE_TIMEOUT);
    Ok(Swarm::new(transport(&key, upgrades, webrtc, bounds.clone())?, behaviour, peer, config))
}

fn transport(
    key: &libp2p::identity::Keypair,
    upgrades: Upgrades,
    webrtc: DirectTransport,
    bounds: Bounds,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let noise = noise::Config::new(key).map_err(|e| NetError::Start(format!("noise: {e}")))?;
    let connected = upgrades
        .or_transport(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .timeout(limits::HANDSHAKE_TIMEOUT)
        .boxed();
    let connected = libp2p::Transport::map(webrtc.or_transport(connected), |either, _| match either {
        Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        Either::Right(connected) => connected,
    });
    let mut over_udp = quic::Config::new(key);
    over_udp.handshake_timeout = limits::HANDSHAKE_TIMEOUT;
    let connected = libp2p::Transport::map(
        quic::tokio::Transport::new(over_udp).or_transport(connected),
        |either, _| match either {
            Either::Left((peer, connection)) => (peer, StreamMuxerBox::new(connection)),
            Either::Right(connected) => connected,
        },
    );
    let paced = libp2p::Transport::map(connected, move |(peer, connection), endpoint| {
        let origin = Origin::of_multiaddr(endpoint.get_remote_address());
        let paced = Paced::new(connection, origin, bounds.line.clone(), bounds.metrics.traffic.clone());
        (peer, StreamMuxerBox::new(paced))
    });
    Ok(paced.boxed())
}

fn connection_limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established_per_peer(Some(limits::MAX_CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(limits::MAX_HANDSHAKES))
        .with_max_pending_outgoing(Some(limits::MAX_DIALS))
}

fn relay_config(admission: &Admission) -> relay::Config {
    // `Admission` sets the totals; libp2p's own would refuse renewals when all is taken.
    let config = relay::Config {
        max_reservations: limits::MAX_CONNECTIONS,
        max_reservations_per_peer: limits::MAX_RESERVATIONS_PER_PEER,
        reservation_duration: limits::RESERVATION_DURATION,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits::MAX_CIRCUITS,
        max_circuits_per_peer: limits::MAX_CIRCUITS,
        max_circuit_duration: limits::MAX_CIRCUIT_DURATION,
        max_circuit_bytes: limits::MAX_CIRCUIT_BYTES,
        circuit_src_rate_limiters: Vec::new(),
    };
    let mut config = config
        .reservation_rate_per_peer(limits::RESERVATION_PEER_BURST, limits::RESERVATION_PEER_INTERVAL)
        .circuit_src_per_peer(limits::CIRCUIT_PEER_BURST, limits::CIRCUIT_PEER_INTERVAL);
    // Last, because it notes what it allows.
    config.reservation_rate_limiters.push(admission.of_reservations());
    config.circuit_src_rate_limiters.push(admission.of_circuits());
    config
}

/// Keeps records for others and asks nobody: no peer is put into its table but the other relays that the operator
/// named, so that who asks here is sent there too.
fn kad_server(peer: PeerId, network: Network, others: &[Address]) -> Result<kad::Behaviour<MemoryStore>, NetError> {
    let name =
        StreamProtocol::try_from_owned(cdi_net::kad_protocol(network)).map_err(|e| NetError::Start(e.to_string()))?;
    let mut config = kad::Config::new(name);
    config
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_record_ttl(Some(RECORD_TTL))
        .set_provider_record_ttl(Some(RECORD_TTL))
        .set_periodic_bootstrap_interval(None)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None);
    let store = MemoryStoreConfig {
        max_records: limits::MAX_KAD_KEYS,
        max_value_bytes: limits::MAX_KAD_VALUE_BYTES,
        max_providers_per_key: limits::MAX_KAD_PROVIDERS,
        max_provided_keys: limits::MAX_KAD_KEYS,
    };
    let mut kad = kad::Behaviour::with_config(peer, MemoryStore::with_config(peer, store), config);
    kad.set_mode(Some(kad::Mode::Server));
    for other in others {
        let mut address = other.as_multiaddr().clone();
        if let Some(Protocol::P2p(other)) = address.pop() {
            kad.add_address(&other, address);
        }
    }
    Ok(kad)
}

/// Runs the swarm and keeps its figures.
pub(crate) struct Worker {
    swarm: Swarm<Behaviour>,
    bounds: Bounds,
    guard: gossip::Guard,
    dht: Dht,
    /// Where each peer connected from last.
    origins: HashMap<PeerId, Origin>,
}

impl Worker {
    /// A worker for a swarm that listens already. `external` is what clients are told.
    pub(crate) fn new(mut swarm: Swarm<Behaviour>, network: Network, external: &[Address], bounds: Bounds) -> Self {
        for address in external {
            swarm.add_external_address(address.as_multiaddr().clone());
        }
        Self { swarm, bounds, guard: gossip::Guard::default(), dht: Dht::new(network), origins: HashMap::new() }
    }

    /// Runs until it is asked to stop, then closes all connections cleanly.
    pub(crate) async fn run(mut self, mut stop: Stop) {
        let mut round = tokio::time::interval(limits::KAD_ROUND);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                _ = round.tick() => self.dht.clean(self.swarm.behaviour_mut().kad.store_mut()),
                () = stop.requested() => break,
            }
        }
        if tokio::time::timeout(limits::DRAIN_TIMEOUT, self.close()).await.is_err() {
            tracing::info!("connections that were still open are cut off");
        }
    }

    async fn close(&mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error says that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        while self.swarm.connected_peers().next().is_some() {
            self.swarm.select_next_some().await;
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, num_established, .. } => {
                let address = endpoint.get_remote_address();
                tracing::debug!(peer = %peer_id, %address, connections = num_established, "connected");
                self.origins.insert(peer_id, Origin::of_multiaddr(address));
                self.count();
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => {
                tracing::debug!(peer = %peer_id, connections = num_established, "disconnected");
                if num_established == 0 {
                    self.origins.remove(&peer_id);
                    self.bounds.admission.unreserve(&peer_id);
                }
                self.count();
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "a handshake failed");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => self.on_relay_event(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::InboundRequest { request })) => {
                let stored = self.dht.store(self.swarm.behaviour_mut().kad.store_mut(), request);
                if !stored {
                    self.bounds.metrics.refuse("dht_record");
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => {
                let verdict = self.guard.judge(&message, propagation_source, Instant::now());
                if verdict != gossip::Verdict::Accepted {
                    tracing::debug!(peer = %propagation_source, ?verdict, "an announcement is not passed on");
                }
                self.bounds.metrics.gossip(verdict.name());
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                let verdict = verdict.acceptance();
                gossip.report_message_validation_result(&message_id, &propagation_source, verdict);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout | ping::Failure::Other { .. }),
                ..
            })) => {
                // The first failure is not reported by libp2p: this is the second in a row.
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    fn on_relay_event(&mut self, event: &relay::Event) {
        let Bounds { admission, metrics, .. } = &self.bounds;
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, renewed: false } => {
                tracing::info!(peer = %src_peer_id, "reachable through this relay");
            }
            relay::Event::ReservationTimedOut { src_peer_id } => admission.unreserve(src_peer_id),
            relay::Event::ReservationReqDenied { src_peer_id, status } => {
                metrics.refuse("reservation");
                tracing::debug!(peer = %src_peer_id, ?status, "a reservation was denied");
            }
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                // Who is gone already has its circuits closed with the next events.
                let here = Origin::of(std::net::Ipv6Addr::LOCALHOST.into());
                admission.opened(*src_peer_id, self.origins.get(src_peer_id).copied().unwrap_or(here));
                metrics.circuits_opened.inc();
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, "a circuit was opened");
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, error } => {
                admission.closed(src_peer_id);
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, ?error, "a circuit was closed");
            }
            relay::Event::CircuitReqDenied { src_peer_id, dst_peer_id, status } => {
                metrics.refuse("circuit");
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, ?status, "a circuit was denied");
            }
            _ => {}
        }
        self.count();
    }

    fn count(&self) {
        let Bounds { admission, metrics, .. } = &self.bounds;
        let info = self.swarm.network_info();
        metrics.connections.set(info.connection_counters().num_established().into());
        metrics.health.peers.store(info.num_peers(), Ordering::Relaxed);
        metrics.health.reservations.store(admission.reservations(), Ordering::Relaxed);
        metrics.health.circuits.store(admission.circuits(), Ordering::Relaxed);
    }
}

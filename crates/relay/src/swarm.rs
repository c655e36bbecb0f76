//! The libp2p side: forwards circuits and announcements, answers the DHT. It dials nobody.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cdi_net::{Address, NetError, NetStream, gossip};
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
use libp2p::swarm::{self, NetworkBehaviour, StreamProtocol, SwarmEvent};
use libp2p::{Swarm, Transport as _, gossipsub, identify, kad, noise, ping, relay, tcp, yamux};

use crate::health::Health;
use crate::limits;
use crate::stop::Stop;
use crate::websocket::Upgrades;

/// What a relay speaks.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    streams: cdi_net::streams::Behaviour,
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

/// The swarm of a relay.
///
/// # Errors
/// [`NetError::Start`] when libp2p refuses the settings.
pub(crate) fn build(
    keypair: &Keypair,
    network: Network,
    upgrades: Upgrades,
    webrtc: DirectTransport,
) -> Result<Swarm<Behaviour>, NetError> {
    let key = keypair.to_libp2p();
    let peer = key.public().to_peer_id();
    let identify = identify::Config::new(cdi_net::identify_protocol(network), key.public())
        .with_agent_version(format!("cdi-relay/{}", env!("CARGO_PKG_VERSION")))
        // Addresses that browsers cannot dial cost them a failed attempt each.
        .with_hide_listen_addrs(true)
        .with_cache_size(0);
    let ping = ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_TIMEOUT);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(connection_limits()),
        relay: relay::Behaviour::new(peer, relay_config()),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping),
        gossip: gossip::behaviour(&key, network)?,
        kad: kad_server(peer, network)?,
        streams: cdi_net::streams::Behaviour::default(),
    };
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(limits::IDLE_TIMEOUT);
    Ok(Swarm::new(transport(&key, upgrades, webrtc)?, behaviour, peer, config))
}

fn transport(
    key: &libp2p::identity::Keypair,
    upgrades: Upgrades,
    webrtc: DirectTransport,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let noise = noise::Config::new(key).map_err(|e| NetError::Start(format!("noise: {e}")))?;
    let streamed = upgrades
        .or_transport(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .timeout(limits::HANDSHAKE_TIMEOUT);
    let both = webrtc.or_transport(streamed).map(|either, _| match either {
        Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
    });
    Ok(both.boxed())
}

fn connection_limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(Some(limits::MAX_CONNECTIONS))
        .with_max_established_per_peer(Some(limits::MAX_CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(limits::MAX_HANDSHAKES))
        // Addresses come from strangers: a relay that dialled them could be sent anywhere, its own network included.
        .with_max_pending_outgoing(Some(0))
}

fn relay_config() -> relay::Config {
    let unlimited = relay::Config {
        max_reservations: limits::MAX_RESERVATIONS,
        max_reservations_per_peer: limits::MAX_RESERVATIONS_PER_PEER,
        reservation_duration: limits::RESERVATION_DURATION,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits::MAX_CIRCUITS,
        max_circuits_per_peer: limits::MAX_CIRCUITS_PER_PEER,
        max_circuit_duration: limits::MAX_CIRCUIT_DURATION,
        max_circuit_bytes: limits::MAX_CIRCUIT_BYTES,
        circuit_src_rate_limiters: Vec::new(),
    };
    unlimited
        .reservation_rate_per_peer(limits::RESERVATION_PEER_BURST, limits::RESERVATION_PEER_INTERVAL)
        .reservation_rate_per_ip(limits::RESERVATION_IP_BURST, limits::RESERVATION_IP_INTERVAL)
        .circuit_src_per_peer(limits::CIRCUIT_PEER_BURST, limits::CIRCUIT_PEER_INTERVAL)
        .circuit_src_per_ip(limits::CIRCUIT_IP_BURST, limits::CIRCUIT_IP_INTERVAL)
}

/// Keeps records for others and asks nobody: no peer is put into its table by itself.
fn kad_server(peer: PeerId, network: Network) -> Result<kad::Behaviour<MemoryStore>, NetError> {
    let name =
        StreamProtocol::try_from_owned(cdi_net::kad_protocol(network)).map_err(|e| NetError::Start(e.to_string()))?;
    let mut config = kad::Config::new(name);
    config
        .set_kbucket_inserts(kad::BucketInserts::Manual)
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
    Ok(kad)
}

/// Runs the swarm and keeps its figures.
pub(crate) struct Worker {
    swarm: Swarm<Behaviour>,
    health: Arc<Health>,
    reserved: HashSet<PeerId>,
}

impl Worker {
    /// A worker for a swarm that listens already. `external` is what clients are told.
    pub(crate) fn new(mut swarm: Swarm<Behaviour>, external: &[Address], health: Arc<Health>) -> Self {
        for address in external {
            swarm.add_external_address(address.as_multiaddr().clone());
        }
        Self { swarm, health, reserved: HashSet::new() }
    }

    /// Runs until it is asked to stop, then closes all connections cleanly.
    pub(crate) async fn run(mut self, mut stop: Stop) {
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
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
                self.count_peers();
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => {
                tracing::debug!(peer = %peer_id, connections = num_established, "disconnected");
                self.count_peers();
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "a handshake failed");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => self.on_relay_event(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => {
                let verdict = if gossip::is_acceptable(message.data.len()) {
                    gossipsub::MessageAcceptance::Accept
                } else {
                    tracing::debug!(peer = %propagation_source, bytes = message.data.len(), "an oversize announcement");
                    gossipsub::MessageAcceptance::Reject
                };
                let gossip = &mut self.swarm.behaviour_mut().gossip;
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
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, renewed } => {
                self.reserved.insert(*src_peer_id);
                if !renewed {
                    tracing::info!(peer = %src_peer_id, "reachable through this relay");
                }
            }
            relay::Event::ReservationClosed { src_peer_id } | relay::Event::ReservationTimedOut { src_peer_id } => {
                self.reserved.remove(src_peer_id);
            }
            relay::Event::ReservationReqDenied { src_peer_id, status } => {
                tracing::warn!(peer = %src_peer_id, ?status, "a reservation was denied");
            }
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                self.health.circuits.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, "a circuit was opened");
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, .. } => {
                self.health.circuits.fetch_sub(1, Ordering::Relaxed);
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, "a circuit was closed");
            }
            relay::Event::CircuitReqDenied { src_peer_id, dst_peer_id, status } => {
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, ?status, "a circuit was denied");
            }
            _ => {}
        }
        self.health.reservations.store(self.reserved.len(), Ordering::Relaxed);
    }

    fn count_peers(&self) {
        self.health.peers.store(self.swarm.network_info().num_peers(), Ordering::Relaxed);
    }
}

//! What a node speaks: the behaviours of its swarm, each with its limits.

use std::num::NonZeroUsize;
use std::time::Duration;

use cdi_types::Network;
use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::swarm::{NetworkBehaviour, StreamProtocol};
use libp2p::{identify, kad, ping, relay};

use crate::direct_gossip::DirectGossip;
use crate::rendezvous::RECORD_TTL;
use crate::transport::{Direct, Native};
use crate::{NetError, gossip, kad_protocol, streams};

/// Connections to one peer: a relayed and a direct one in each direction.
const MAX_CONNECTIONS_PER_PEER: u32 = 4;
/// Handshakes in progress, in each direction.
const MAX_HANDSHAKES: u32 = 32;
/// Time between two pings. Two of them go unanswered before an idle link is given up, see [`crate::liveness`]. Also what
/// keeps a NAT's mapping alive: many forget after 30 s.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Time for an answer. A busy tab may take seconds.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Most records and providers that a node keeps for the DHT. It is a client, so it is asked to keep none.
const MAX_KAD_RECORDS: usize = 64;
/// Time for a DHT query.
const KAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest name of the program that is sent or read.
pub(crate) const MAX_AGENT_CHARS: usize = 128;

/// The behaviours of a node.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// First, so that a connection over the limit reaches nobody else.
    pub(crate) limits: connection_limits::Behaviour,
    /// Who is banned.
    pub(crate) bans: allow_block_list::Behaviour<BlockedPeers>,
    /// The other half of the relay client's transport.
    pub(crate) relay: relay::client::Behaviour,
    /// The other half of the transport for direct links between tabs.
    pub(crate) direct: Direct,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) gossip: DirectGossip,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) streams: streams::Behaviour,
    /// What only native nodes speak.
    pub(crate) native: Native,
}

impl Behaviour {
    /// The behaviours of the node with this identity.
    ///
    /// # Errors
    /// [`NetError::Start`] when libp2p refuses the settings.
    pub(crate) fn new(
        keypair: &Keypair,
        network: Network,
        agent: &str,
        max_connections: u32,
        parts: (relay::client::Behaviour, Direct, Native),
    ) -> Result<Self, NetError> {
        let peer = keypair.public().to_peer_id();
        let (relay, direct, native) = parts;
        let limits = ConnectionLimits::default()
            .with_max_established(Some(max_connections))
            .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
            .with_max_pending_incoming(Some(MAX_HANDSHAKES))
            .with_max_pending_outgoing(Some(MAX_HANDSHAKES));
        // No cache: it would feed every address that a peer claims into later dials.
        let identify = identify::Config::new(crate::identify_protocol(network), keypair.public())
            .with_agent_version(agent.chars().take(MAX_AGENT_CHARS).collect())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0);
        let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            bans: allow_block_list::Behaviour::default(),
            relay,
            direct,
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            gossip: DirectGossip::new(gossip::behaviour(keypair, network)?),
            kad: kad_client(peer, network)?,
            streams: streams::Behaviour::default(),
            native,
        })
    }
}

/// A client of the relays' DHT: asks, but serves nobody. Relays are its only contacts.
fn kad_client(peer: cdi_types::PeerId, network: Network) -> Result<kad::Behaviour<MemoryStore>, NetError> {
    let name = StreamProtocol::try_from_owned(kad_protocol(network)).map_err(|e| NetError::Start(e.to_string()))?;
    let mut config = kad::Config::new(name);
    config
        .set_query_timeout(KAD_TIMEOUT)
        .set_record_ttl(Some(RECORD_TTL))
        .set_provider_record_ttl(Some(RECORD_TTL))
        // The rendezvous says it again itself, when relays came up as well as from time to time.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(None)
        .set_replication_factor(NonZeroUsize::MIN.saturating_add(2));
    let store = MemoryStoreConfig {
        max_records: MAX_KAD_RECORDS,
        max_provided_keys: MAX_KAD_RECORDS,
        ..MemoryStoreConfig::default()
    };
    let mut kad = kad::Behaviour::with_config(peer, MemoryStore::with_config(peer, store), config);
    kad.set_mode(Some(kad::Mode::Client));
    Ok(kad)
}

//! The actor: owns the swarm, turns its events into ours and does what handles ask.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cdi_platform::task::{BoxFuture, BoxStream};
use cdi_platform::time::{self, Instant};
use cdi_platform::visibility::{self, Lifecycle};
use cdi_types::{Network, PeerId};
use futures::channel::{mpsc, oneshot};
use futures::future::{FutureExt as _, pending};
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, pin_mut, select};
use libp2p::gossipsub::{PublishError, TopicHash};
use libp2p::swarm::{ConnectionId, StreamProtocol, SwarmEvent};
use libp2p::{Swarm, gossipsub, identify, ping, relay};

use crate::beat::Doubt;
use crate::behaviour::{Behaviour, BehaviourEvent, MAX_AGENT_CHARS};
use crate::busy::Counts;
use crate::dials::Dials;
use crate::event::{EventSender, Events, NetEvent};
use crate::gossip::Verdict;
use crate::handle::{Command, NetArgs, NetOptions};
use crate::ice::Ice;
use crate::ladder::Ladder;
use crate::links::{Change, Links};
use crate::liveness::{self, Liveness};
use crate::quality::Quality;
use crate::relays::Relays;
use crate::rendezvous::Rendezvous;
use crate::traffic::Traffic;
use crate::transport::{self, Guard};
use crate::wake::Probes;
use crate::{Address, CircuitLimit, Incoming, LinkKind, NetError, NetStats, address, gossip};

/// Time for connections to close cleanly.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Least time between two reports of the figures of a link.
const FIGURES: Duration = Duration::from_secs(1);

/// The actor's state.
pub(crate) struct Worker {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) relays: Relays,
    pub(crate) links: Links,
    pub(crate) dials: Dials,
    pub(crate) ladder: Ladder,
    /// Whether links are made over WebRTC.
    pub(crate) direct: bool,
    pub(crate) stats: NetStats,
    pub(crate) ice: Ice,
    pub(crate) liveness: Liveness,
    /// Heartbeat streams that peers open.
    beats: Incoming,
    /// Questions whether packets come on doubtful connections.
    pub(crate) doubts: FuturesUnordered<BoxFuture<'static, Doubt>>,
    /// While there are heartbeats.
    ticks: Option<BoxStream<'static, ()>>,
    /// When figures of links are told again.
    figures_due: Option<Instant>,
    pub(crate) quality: Quality,
    pub(crate) rendezvous: Rendezvous,
    pub(crate) busy: Counts,
    pub(crate) probes: Probes,
    pub(crate) network: Network,
    /// Whether the local network is trusted with addresses.
    pub(crate) lan: bool,
    _guard: Guard,
    topic: TopicHash,
    commands: mpsc::Receiver<Command>,
    events: EventSender,
}

impl Worker {
    /// Builds the swarm and starts to listen.
    ///
    /// # Errors
    /// [`NetError::Start`] or [`NetError::Listen`].
    pub(crate) fn new(args: NetArgs, commands: mpsc::Receiver<Command>) -> Result<(Self, Events), NetError> {
        let keypair = args.keypair.to_libp2p();
        let peer = keypair.public().to_peer_id();
        let NetOptions { store, more_relays, max_connections, lan, direct } = args.options;
        let parts = transport::build(&keypair, lan)?;
        let own = (parts.relay, parts.direct, parts.native);
        let behaviour = Behaviour::new(&keypair, args.network, &args.agent, max_connections, own)?;
        let mut swarm = Swarm::new(parts.transport, behaviour, peer, transport::config());
        let accept_direct = direct.then(|| Address::from(transport::accept_direct()));
        for address in accept_direct.into_iter().chain(args.listen) {
            let listening = swarm.listen_on(address.as_multiaddr().clone());
            listening.map_err(|e| NetError::Listen { address, reason: root_cause(&e) })?;
        }
        // The key spreads the nodes' waiting times; they need no secrecy.
        let [a, b, c, d, e, f, g, h, ..] = args.keypair.public().to_bytes();
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let mut relays = Relays::new(args.relays, seed, Instant::now());
        for address in more_relays {
            relays.add(address, None);
        }
        for relay in relays.peers() {
            swarm.behaviour_mut().limits.bypass_peer_id(&relay);
        }
        let protocol = StreamProtocol::try_from_owned(crate::beat_protocol(args.network));
        let protocol = protocol.map_err(|e| NetError::Start(e.to_string()))?;
        let beats = swarm.behaviour_mut().streams.accept(protocol).map(Incoming);
        let beats = beats.ok_or_else(|| NetError::Start("the heartbeat is taken".to_owned()))?;
        let (sender, events) = EventSender::new();
        let mut worker = Self {
            busy: swarm.behaviour().streams.open_streams(),
            quality: Quality::new(store, max_connections, Instant::now()),
            rendezvous: Rendezvous::default(),
            network: args.network,
            probes: Probes::default(),
            lan,
            swarm,
            relays,
            links: Links::default(),
            dials: Dials::default(),
            ladder: Ladder::default(),
            direct,
            stats: NetStats::default(),
            ice: Ice::new(args.network, args.ice_servers)?,
            liveness: Liveness::default(),
            beats,
            doubts: FuturesUnordered::new(),
            ticks: None,
            figures_due: None,
            _guard: parts.guard,
            topic: gossip::topic(args.network).hash(),
            commands,
            events: sender,
        };
        worker.apply_ice();
        Ok((worker, events))
    }

    /// Runs until it is told to stop, or until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        self.restore().await;
        let mut lifecycle = visibility::lifecycle().fuse();
        loop {
            self.retry(Instant::now());
            self.tell_figures(Instant::now());
            let due = [
                self.relays.next_due(),
                self.dials.next_deadline(),
                self.ladder.next_due(),
                self.ice.next_due(),
                self.liveness.next_sweep(),
                self.figures_due,
                self.rendezvous.next_due(),
                self.probes.next_due(),
                Some(self.quality.next_due()),
            ];
            let deadline = due.into_iter().flatten().min();
            match (self.liveness.is_beating(), &self.ticks) {
                (true, None) => self.ticks = Some(time::steady(liveness::BEAT)),
                (false, Some(_)) => self.ticks = None,
                _ => {}
            }
            let ticks = &mut self.ticks;
            let tick = async {
                match ticks {
                    Some(ticks) => ticks.next().await,
                    None => pending().await,
                }
            }
            .fuse();
            let timer = async {
                match deadline {
                    Some(deadline) => time::sleep(deadline.saturating_duration_since(Instant::now())).await,
                    None => pending().await,
                }
            }
            .fuse();
            pin_mut!(timer, tick);
            select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = self.commands.next() => match command {
                    Some(Command::Shutdown { respond_to }) => {
                        self.close().await;
                        let _ = respond_to.send(());
                        return;
                    }
                    Some(command) => self.on_command(command),
                    None => return self.close().await,
                },
                answer = self.ice.answered() => self.on_ice(answer),
                beat = self.beats.next().fuse() => {
                    // The behaviour holds the other end: it does not end.
                    if let Some((_, stream)) = beat {
                        self.on_beat_stream(stream, None);
                    }
                }
                doubt = self.doubts.select_next_some() => self.on_doubt(doubt),
                _ = tick => self.beat(),
                event = lifecycle.next() => if let Some(Lifecycle::Online | Lifecycle::Resumed | Lifecycle::Shown) = event {
                    self.wake(Instant::now());
                },
                () = timer => self.sweep(),
            }
        }
    }

    /// Closes all connections cleanly, so that the peers notice at once.
    async fn close(&mut self) {
        self.keep().await;
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error says that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let timeout = time::sleep(CLOSE_TIMEOUT).fuse();
        pin_mut!(timeout);
        while self.swarm.connected_peers().next().is_some() {
            select! {
                _ = self.swarm.select_next_some() => {}
                () = timeout => return,
            }
        }
    }

    pub(crate) fn emit(&mut self, event: NetEvent) {
        self.events.send(event, &mut self.stats);
    }

    fn on_command(&mut self, command: Command) {
        // A response whose receiver is gone interests nobody.
        match command {
            Command::Publish { data, respond_to } => {
                let _ = respond_to.send(self.publish(data));
            }
            Command::Open { peer, protocol, respond_to } => {
                if let Some(connection) = self.links.best(&peer) {
                    self.stats.streams_opened += 1;
                    self.swarm.behaviour_mut().streams.open(peer, connection, protocol, respond_to);
                }
            }
            Command::Accept { protocol, respond_to } => {
                let _ = respond_to.send(self.swarm.behaviour_mut().streams.accept(protocol).map(Incoming));
            }
            Command::Dial { peer, respond_to } => self.dial(peer, respond_to),
            Command::DialAddress { address, respond_to } => self.dial_address(address, respond_to),
            Command::Disconnect { peer } => {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::SetRelays { addresses } => self.set_relays(addresses),
            Command::Report { peer, delivered } => self.outcome(peer, delivered),
            Command::Ban { peer, length } => self.ban(peer, Some(length)),
            Command::Unban { peer } => self.unban(&peer),
            Command::Bans { respond_to } => {
                let _ = respond_to.send(self.bans());
            }
            Command::Links { respond_to } => {
                let links = self.links.all().into_iter().map(|link| self.scored(link)).collect();
                let _ = respond_to.send(links);
            }
            Command::Beat { stream, watched } => self.on_beat_stream(stream, watched),
            Command::IceServers { respond_to } => {
                let _ = respond_to.send(self.ice.servers());
            }
            Command::Stats { respond_to } => {
                let (streams_accepted, streams_dropped) = self.swarm.behaviour().streams.counts();
                let heartbeats = self.liveness.heartbeats();
                let _ = respond_to.send(NetStats { streams_accepted, streams_dropped, heartbeats, ..self.stats });
            }
            Command::SideChannel { peer, named, id, respond_to } => {
                let direct = &self.swarm.behaviour().direct;
                let _ = respond_to.send(transport::side_channel(direct, peer, named, id));
            }
            Command::Wake => self.wake(Instant::now()),
            Command::Shutdown { .. } => unreachable!("`run` takes it"),
        }
    }

    fn publish(&mut self, data: Bytes) -> Result<(), NetError> {
        let published = self.swarm.behaviour_mut().gossip.publish(self.topic.clone(), data);
        match published {
            Ok(_) => self.stats.published += 1,
            // A node may be the first of its network.
            Err(PublishError::NoPeersSubscribedToTopic) => {
                self.stats.published += 1;
                self.stats.published_to_nobody += 1;
            }
            Err(error) => return Err(NetError::Publish(error.to_string())),
        }
        Ok(())
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.stats.connections += 1;
                let Some(traffic) = self.swarm.behaviour().streams.traffic(connection_id) else { return };
                self.liveness.opened(connection_id, peer_id, traffic.clone(), now);
                let (address, link) = address::of_endpoint(&endpoint);
                if endpoint.is_dialer() && !self.relays.contains(&peer_id) {
                    self.note_good(peer_id, &address, link);
                }
                self.on_connected(peer_id, connection_id, address, link, traffic);
                // The dialler closes the circuits, so that both sides do not race.
                if link == LinkKind::Direct && endpoint.is_dialer() {
                    self.ladder.drain(peer_id, now);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                if num_established == 0 && self.ice.forget(&peer_id) {
                    self.apply_ice();
                }
                let broke = cause.is_some() | self.ladder.take_silent(connection_id);
                let reason = cause.map_or_else(|| "the relay closed the connection".to_owned(), |e| root_cause(&e));
                if let Some((lost, listener)) = self.relays.connection_closed(connection_id, now) {
                    self.swarm.remove_listener(listener);
                    self.on_relay_lost(lost, reason);
                }
                self.liveness.closed(connection_id);
                let was_used = broke && self.busy.of(&peer_id) > 0;
                let change = self.links.closed(&peer_id, connection_id);
                self.on_change(peer_id, change);
                if change == Some(Change::Down) && was_used {
                    // Whoever talks to it is spared the wait for a way around.
                    self.dial(peer_id, oneshot::channel().0);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_failed(connection_id, &root_cause(&error), now);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.emit(NetEvent::Listening(address.into())),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(lost) = self.relays.listener_closed(listener_id, now) {
                    let reason = reason.map_or_else(|e| root_cause(&e), |()| "the reservation ended".to_owned());
                    self.on_relay_lost(lost, reason);
                }
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event, now),
            _ => {}
        }
    }

    fn on_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        address: Address,
        link: LinkKind,
        traffic: Arc<Traffic>,
    ) {
        self.dials.address_reached(connection, peer);
        if let Some(index) = self.relays.connected(connection, peer) {
            self.swarm.behaviour_mut().limits.bypass_peer_id(&peer);
            self.ask_ice(index);
            self.reserve(index);
        }
        if self.relays.contains(&peer) {
            return;
        }
        let change = self.links.opened(peer, connection, address, link, traffic);
        self.on_change(peer, change);
        self.dials.reached(&peer, connection, link);
        self.make_room(peer);
    }

    fn on_change(&mut self, peer: PeerId, change: Option<Change>) {
        match change {
            Some(Change::Up(link) | Change::Link(link)) if self.direct => {
                self.ladder.linked(peer, link, Instant::now());
            }
            Some(Change::Up(_) | Change::Link(_)) => {}
            Some(Change::Down) => self.ladder.gone(&peer),
            None => return,
        }
        match change {
            Some(Change::Up(link)) => self.emit(NetEvent::PeerUp { peer, link }),
            Some(Change::Link(link)) => self.emit(NetEvent::PeerLink { peer, link }),
            Some(Change::Down) => self.emit(NetEvent::PeerDown { peer }),
            None => {}
        }
        // A change of kind is told at once.
        self.figures_due = None;
    }

    /// Tells what changed about links, at most once a second.
    fn tell_figures(&mut self, now: Instant) {
        if self.figures_due.is_some_and(|due| now < due) {
            return;
        }
        for info in self.links.take_changed() {
            let info = self.scored(info);
            self.emit(NetEvent::Link(info));
        }
        self.figures_due = (!self.links.is_empty()).then(|| now + FIGURES);
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent, now: Instant) {
        match event {
            BehaviourEvent::Relay(relay::client::Event::ReservationReqAccepted { relay_peer_id, limit, .. }) => {
                let limit = limit.map(|l| CircuitLimit { bytes: l.data_in_bytes(), duration: l.duration() });
                self.links.limit(relay_peer_id, limit);
                self.on_reserved(relay_peer_id, now);
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                let verdict = self.judge(&message, propagation_source);
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(&message_id, &propagation_source, verdict.acceptance());
                if let (Verdict::Accepted, Some(source)) = (verdict, message.source) {
                    self.emit(NetEvent::Gossip { source, data: message.data.into() });
                }
            }
            BehaviourEvent::Kad(event) => self.on_kad_event(event),
            BehaviourEvent::Native(event) => self.on_neighbours(transport::neighbours(event)),
            BehaviourEvent::Gossip(gossipsub::Event::Subscribed { peer_id, topic }) if topic == self.topic => {
                self.emit(NetEvent::Neighbour { peer: peer_id });
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                if !self.relays.contains(&peer_id) {
                    let agent = info.agent_version.chars().take(MAX_AGENT_CHARS).collect();
                    self.emit(NetEvent::Identified { peer: peer_id, agent });
                    self.on_told(peer_id, info.listen_addrs, now);
                }
                self.check_family(peer_id, &info.protocol_version);
            }
            BehaviourEvent::Ping(event) => self.on_ping(&event),
            _ => {}
        }
    }

    /// Peers were found in the local network.
    fn on_neighbours(&mut self, found: Vec<Address>) {
        for address in found {
            let unknown = address.peer().is_some_and(|peer| self.links.link(&peer).is_none());
            if unknown {
                // Nobody waits for the outcome.
                self.dial_address(address, oneshot::channel().0);
            }
        }
    }

    fn on_ping(&mut self, event: &ping::Event) {
        match event.result {
            Ok(rtt) => {
                self.liveness.heard(event.connection, Instant::now());
                self.links.measured(&event.peer, rtt);
                self.relays.measured(&event.peer, rtt);
                if !self.relays.contains(&event.peer) {
                    self.quality.scores.measured(event.peer, rtt, Instant::now());
                    self.emit(NetEvent::Rtt { peer: event.peer, rtt });
                }
            }
            Err(ping::Failure::Unsupported) => self.liveness.no_pings(event.connection),
            // The first failure is not reported by libp2p, so this is the second in a row: the other end is
            // gone, and nothing else would notice before the connection is used.
            Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => {
                self.stats.pings_unanswered += 1;
                self.outcome(event.peer, false);
                self.break_off(event.connection);
            }
        }
    }
}

/// The innermost cause of an error, on one line and of bounded length: remote peers have a hand in it.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

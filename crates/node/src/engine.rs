//! The actor of a node: commands in, events out, and the heartbeat.

use std::time::Duration;

use cdi_net::{Address, Events, Net, NetArgs, NetEvent, NetOptions};
use cdi_platform::Place;
use cdi_platform::http::{self, Limits};
use cdi_platform::kv::KeyValue;
use cdi_platform::port::Port;
use cdi_platform::time::{Instant, Ticker, sleep};
use cdi_platform::{tab, task};
use cdi_swarm::registry::{HEARTBEAT_MS, Observed};
use cdi_types::advert::Tier;
use cdi_types::relay::{MAX_RELAY_BYTES, RelayInfo};
use cdi_types::{Cid, Keypair, LayerRange, Network, PeerId};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, select};
use serde::{Deserialize, Serialize};

use crate::announce::{announce, believe};
use crate::answer::Asker;
use crate::compute::{Compute, StartArgs};
use crate::handle::{Handle, Order};
use crate::host::STORE;
use crate::shared::{LinkState, Model, Node, Protocol, Shared, link_view};
use crate::text::Text;
use crate::view::{Command, Connection, Event, HostLayers, Link, ModelView, PeerView};
use crate::{answer, coverage, host, relocate, serve, worker_path};

/// Commands that wait for the engine.
const COMMANDS: usize = 32;
/// Events that wait for the user interface.
const EVENTS: usize = 1_024;
/// How often the user sees changed figures of peers, and silent nodes are looked for.
const REFRESH: Duration = Duration::from_millis(500);
/// First and longest pause between attempts to reach the relay's web server.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Swarms up to this size greet newcomers: everybody announces itself at once instead of at its next heartbeat.
const GREETING_NODES: usize = 32;
/// Hosts that this node keeps a connection to, so that a session starts at once.
const WARM_LINKS: usize = 16;

/// How to start a node.
#[derive(Debug)]
pub struct NodeArgs {
    /// The node's key.
    pub keypair: Keypair,
    /// The network to join.
    pub network: Network,
    /// Where the relay serves HTTP, without a slash at the end, e.g. `http://127.0.0.1:8080`.
    pub relay: String,
    /// Where settings are kept.
    pub place: Place,
    /// What tells this node's settings from those of other tabs of the same profile.
    pub slot: String,
    /// The compute half.
    pub worker: Port,
    /// Starts the text half, when there is something to ask.
    pub text: crate::text::Start,
    /// Most bytes of weights to hold. A node without any only asks, and the others do not hear of it.
    pub budget_bytes: u64,
    /// Most bytes of blocks to store.
    pub store_bytes: u64,
    /// Most bytes of keys and values of all sessions.
    pub kv_bytes: u64,
    /// What the user wants to compute with; the faster one when nothing is said.
    pub prefer: Option<Tier>,
}

/// Starts a node. The second result is everything that it tells its user.
///
/// # Errors
/// [`cdi_net::NetError`] when the network cannot be started.
pub fn start(args: NodeArgs) -> Result<(Handle, mpsc::Receiver<Event>), cdi_net::NetError> {
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let (events, event_queue) = mpsc::channel(EVENTS);
    task::spawn(run(args, command_queue, events));
    Ok((Handle::new(commands), event_queue))
}

async fn run(args: NodeArgs, commands: mpsc::Receiver<Order>, mut events: mpsc::Sender<Event>) {
    let me = args.keypair.public().peer_id();
    // Without a reader there is nobody to tell; the engine then ends with its commands.
    let _gone = events.send(Event::Identity { peer: me }).await;
    let settings = Settings::open(&args).await;
    let relay = find_relay(&args, &settings, &mut events).await;
    let net_args = NetArgs {
        keypair: args.keypair.clone(),
        network: args.network,
        relays: parsed(&relay.addresses),
        ice_servers: Vec::new(),
        listen: Vec::new(),
        agent: concat!("cdi/", env!("CARGO_PKG_VERSION")).to_owned(),
        options: NetOptions {
            store: KeyValue::open(&args.place, &args.network.store("net")).await.ok(),
            more_relays: relay.bootstrap.iter().filter_map(|a| a.parse::<Address>().ok()).collect(),
            ..NetOptions::default()
        },
    };
    let (net, net_events) = match Net::start(net_args) {
        Ok(started) => started,
        Err(error) => {
            let text = format!("The network could not be started: {error}. Reload the page.");
            let _gone = events.send(Event::Error(text)).await;
            return;
        }
    };
    let node = Shared::new(
        me,
        net,
        Compute::new(args.worker),
        Text::new(args.text),
        events,
        settings,
        crate::shared::Limits {
            network: args.network,
            keypair: args.keypair,
            compute: StartArgs {
                network: args.network,
                gateways: vec![args.relay.clone()],
                store_bytes: args.store_bytes,
                store: tab::recall(STORE).and_then(|number| number.parse().ok()),
                kv_bytes: args.kv_bytes,
                prefer: args.prefer,
            },
            budget_bytes: args.budget_bytes,
            relay: args.relay,
        },
    );
    node.state().relay_addresses = relay.addresses;
    let boot = task::spawn(boot(node.clone(), relay.models)).abort_on_drop();
    let served =
        [Protocol::Session, Protocol::Activations].map(|p| task::spawn(accept(node.clone(), p)).abort_on_drop());
    let channels = task::spawn(worker_path::accept(node.clone())).abort_on_drop();
    let engine = Engine { node, answer: None, greet: false };
    engine.run(commands, net_events).await;
    drop((boot, served, channels));
}

/// Asks the relay how to reach it; until it answers, what it said last time will do.
async fn find_relay(args: &NodeArgs, settings: &Settings, events: &mut mpsc::Sender<Event>) -> RelayInfo {
    let mut pause = RETRY.0;
    loop {
        let reason = match relay_info(&args.relay, args.network).await {
            Ok((info, body)) => {
                settings.put("relay", &body).await;
                return info;
            }
            Err(reason) => reason,
        };
        tracing::warn!(%reason, "no relay");
        let _gone = events.send(Event::Connection(Connection::Offline { reason })).await;
        let known = settings.get("relay").await.and_then(|body| serde_json::from_slice::<RelayInfo>(&body).ok());
        if let Some(info) = known {
            return info;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// The relay is gone: when its web server answers, it may have come back as somebody else, whom to dial from now on.
async fn ask_again(node: Node) {
    let answer = relay_info(&node.limits.relay, node.limits.network).await;
    let known = node.state().relay_addresses.clone();
    match answer {
        Ok((info, body)) if info.addresses != known => {
            tracing::info!(peer = info.peer_id, "the relay is another one now");
            node.settings.put("relay", &body).await;
            let _stopped = node.net.set_relays(parsed(&info.addresses)).await;
            node.state().relay_addresses = info.addresses;
        }
        Ok(_) => {}
        Err(reason) => tracing::debug!(%reason, "the relay does not answer"),
    }
    node.state().asking_relay = false;
}

fn parsed(addresses: &[String]) -> Vec<Address> {
    addresses.iter().filter_map(|a| a.parse().ok()).collect()
}

/// What the relay says of itself, and the bytes of it; or in words why it is no use.
async fn relay_info(relay: &str, network: Network) -> Result<(RelayInfo, Vec<u8>), String> {
    let url = format!("{relay}/relay.json");
    let body = http::get(&url, Limits::bytes(MAX_RELAY_BYTES), |_| ()).await.map_err(|e| format!("the relay {e}"))?;
    let info: RelayInfo =
        serde_json::from_slice(&body).map_err(|e| format!("the relay's answer makes no sense: {e}"))?;
    if info.network == network {
        Ok((info, body))
    } else {
        Err(format!("the relay serves another network, {}", info.network))
    }
}

/// Brings up the compute half, reads the model, and hosts again what this tab hosted before.
async fn boot(node: Node, models: Vec<String>) {
    if let Err(error) = host::start_compute(&node).await {
        return node.emit(Event::Error(error.to_string())).await;
    }
    let Some(id) = models.first().and_then(|m| m.parse::<Cid>().ok()) else {
        return node.emit(Event::Error("The relay offers no model.".to_owned())).await;
    };
    let mut pause = RETRY.0;
    let info = loop {
        match node.compute.open_model(id).await {
            Ok(info) => break info,
            Err(error) => {
                node.emit(Event::Error(format!("The model cannot be read yet: {error}. Trying again."))).await;
                sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    };
    let view = ModelView {
        id,
        name: info.name.clone(),
        layers: info.layers,
        context: info.context,
        weight_bytes: info.weight_bytes,
    };
    let tell = {
        let mut state = node.state();
        state.model = Some(Model { id, info });
        // What others hold can be shown now.
        state.dirty = true;
        state.tell_model.take()
    };
    // The node itself holds the receiver.
    let _told = tell.map(|tell| tell.send(()));
    node.emit(Event::Model(view)).await;
    announce(&node).await;
    if let Some(earlier) = node.settings.hosting().await {
        host::host(&node, earlier.wish(), Some(earlier.layers)).await;
    }
}

async fn accept(node: Node, protocol: Protocol) {
    match node.net.accept(&protocol.name(node.limits.network)).await {
        Ok(mut incoming) => {
            while let Some((peer, stream)) = incoming.next().await {
                serve::accept(node.clone(), peer, protocol, node.wire(peer, protocol, stream));
            }
        }
        Err(error) => tracing::error!(%error, "streams are not accepted"),
    }
}

struct Engine {
    node: Node,
    /// Stops the current answer when dropped.
    answer: Option<oneshot::Sender<()>>,
    /// Whether somebody joined who has not heard of this node yet.
    greet: bool,
}

impl Engine {
    async fn run(mut self, mut commands: mpsc::Receiver<Order>, net: Events) {
        let mut net = net.fuse();
        let mut refresh = Ticker::every(REFRESH);
        let mut announced = Instant::now();
        loop {
            select! {
                command = commands.next() => match command {
                    Some(Order::Command(command)) => self.command(command).await,
                    Some(Order::Ask(ask, sender, stopped)) => {
                        let asker = Asker::Caller(sender);
                        task::spawn(answer::answer(self.node.clone(), ask, asker, stopped));
                    }
                    None => return self.node.net.shutdown().await,
                },
                event = net.next() => match event {
                    Some(event) => self.network(event).await,
                    None => return,
                },
                () = refresh.tick().fuse() => {
                    relocate::consider(&self.node);
                    let now_ms = self.node.now_ms();
                    let gone = self.node.state().registry.evict(now_ms);
                    self.node.state().dirty |= !gone.is_empty();
                    if std::mem::take(&mut self.greet) || announced.elapsed() >= Duration::from_millis(HEARTBEAT_MS) {
                        announced = Instant::now();
                        announce(&self.node).await;
                        coverage::look(&self.node);
                        task::spawn(host::measure(self.node.clone()));
                    }
                    let dirty = std::mem::take(&mut self.node.state().dirty);
                    if dirty {
                        let peers = peers(&self.node);
                        self.node.emit(Event::Peers(peers)).await;
                    }
                }
            }
        }
    }

    async fn command(&mut self, command: Command) {
        let node = self.node.clone();
        match command {
            Command::Host(wish) => {
                task::spawn(async move { host::host(&node, wish, None).await });
            }
            Command::StopHosting => host::stop(&node).await,
            Command::PauseHosting => host::pause(&node, true).await,
            Command::ResumeHosting => host::pause(&node, false).await,
            Command::PrepareToAsk => {
                task::spawn(answer::prepare(node));
            }
            Command::Ask(ask) => {
                let (stop, stopped) = oneshot::channel();
                // Dropping the earlier sender stops the earlier answer.
                self.answer = Some(stop);
                task::spawn(answer::answer(node.clone(), ask, Asker::User(node), stopped));
            }
            Command::StopAnswer => self.answer = None,
            Command::Visibility { hidden } => {
                node.state().hidden = hidden;
                if !hidden {
                    // Whatever went stale while timers were clamped is tried again at once.
                    let _stopped = node.net.wake().await;
                }
                announce(&node).await;
            }
        }
        self.node.state().dirty = true;
    }

    async fn network(&mut self, event: NetEvent) {
        let node = &self.node;
        match event {
            NetEvent::RelayUp { transport, .. } => {
                node.state().relay_up = Some(Instant::now());
                node.emit(Event::Connection(Connection::Connected { link: transport.to_owned() })).await;
                announce(node).await;
            }
            // Another relay does.
            NetEvent::RelayDown { others_up: 1.., .. } => {}
            NetEvent::RelayDown { reason, .. } => {
                node.state().relay_up = None;
                node.emit(Event::Connection(Connection::Offline { reason })).await;
                if !std::mem::replace(&mut node.state().asking_relay, true) {
                    task::spawn(ask_again(node.clone()));
                }
            }
            NetEvent::PeerUp { peer, link } | NetEvent::PeerLink { peer, link } => {
                self.node.state().dirty = true;
                node.state().links.entry(peer).or_insert(LinkState::new(link)).kind = link;
            }
            NetEvent::Link(info) => {
                self.node.state().dirty = true;
                node.state().links.insert(info.peer, LinkState::from(&info));
            }
            NetEvent::PeerDown { peer } => {
                self.node.state().dirty = true;
                let mut state = node.state();
                state.links.remove(&peer);
                state.worker_bytes.remove(&peer);
                state.registry.lost(&peer);
            }
            NetEvent::Rtt { peer, rtt } => {
                if let Some(link) = node.state().links.get_mut(&peer) {
                    link.rtt_ms = Some(rtt.as_secs_f32() * 1e3);
                }
            }
            // Somebody listens who did not before: it should not have to wait for the next heartbeat.
            NetEvent::Neighbour { .. } => announce(node).await,
            NetEvent::Gossip { source, data } => match believe(node, source, &data) {
                Ok(Observed::Refreshed | Observed::Ignored) => {}
                Ok(observed) => {
                    self.node.state().dirty = true;
                    self.greet |=
                        observed == Observed::Joined && node.state().registry.nodes().count() < GREETING_NODES;
                    self.warm_up(source);
                }
                Err(error) => {
                    let ignored = {
                        let mut state = node.state();
                        state.disbelieved += 1;
                        state.disbelieved
                    };
                    tracing::debug!(%source, %error, ignored, "announcement ignored");
                }
            },
            NetEvent::Lagged => self.relink().await,
            NetEvent::Listening(_) | NetEvent::Identified { .. } => {}
        }
    }

    /// Connects to a host before it is needed. Of two hosts only one dials, so that they do not cross.
    fn warm_up(&self, peer: PeerId) {
        let node = self.node.clone();
        let wanted = {
            let state = node.state();
            let serves = state.registry.nodes().any(|(p, advert)| *p == peer && !advert.shards.is_empty());
            let mine = state.hosting.layers.is_none() || node.me < peer;
            serves && mine && state.links.len() < WARM_LINKS && !state.links.contains_key(&peer)
        };
        if wanted {
            task::spawn(async move {
                if let Err(error) = node.net.dial(peer).await {
                    tracing::debug!(%peer, %error, "not connected ahead of time");
                }
            });
        }
    }

    /// Events were lost: the links are asked for.
    async fn relink(&mut self) {
        let Ok(links) = self.node.net.links().await else { return };
        self.node.state().links = links.iter().map(|info| (info.peer, LinkState::from(info))).collect();
        self.node.state().dirty = true;
    }
}

/// The user's picture of the peers, this node first.
fn peers(node: &Node) -> Vec<PeerView> {
    let state = node.state();
    let model = state.model.as_ref().map(|m| m.id);
    let link = |peer: &PeerId| {
        if *peer == node.me { Some(Link::Local) } else { state.links.get(peer).map(|l| link_view(l.kind)) }
    };
    let mut peers: Vec<PeerView> = state
        .registry
        .nodes()
        .map(|(peer, advert)| PeerView {
            peer: *peer,
            this: *peer == node.me,
            link: link(peer),
            layers: model.and_then(|m| advert.shards_of(&m).find(|s| s.ready).map(|s| s.layers)),
            tier: advert.tier,
            hidden: advert.hidden,
            rtt_ms: state.links.get(peer).and_then(|l| l.rtt_ms),
            received_bytes: state.links.get(peer).map_or(0, |l| l.received_bytes),
            sent_bytes: state.links.get(peer).map_or(0, |l| l.sent_bytes),
            worker_bytes: state.worker_bytes.get(peer).copied().unwrap_or_default(),
            limit_bytes: state.links.get(peer).and_then(|l| l.limit_bytes),
        })
        .collect();
    peers.sort_by_key(|p| !p.this);
    peers
}

/// What outlives a reload. Failures cost comfort, not function: they are logged.
#[derive(Debug)]
pub(crate) struct Settings {
    store: Option<KeyValue>,
    slot: String,
}

/// What this tab hosted before it was reloaded.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Hosted {
    pub(crate) layers: LayerRange,
    /// The user's limit; none for the default.
    pub(crate) at_most: Option<u32>,
}

impl Hosted {
    fn wish(self) -> HostLayers {
        self.at_most.map_or(HostLayers::Auto, HostLayers::Exactly)
    }
}

impl Settings {
    async fn open(args: &NodeArgs) -> Self {
        let store = KeyValue::open(&args.place, &args.network.store("settings")).await;
        let store = store.inspect_err(|error| tracing::warn!(%error, "settings are not kept")).ok();
        Self { store, slot: args.slot.clone() }
    }

    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.store.as_ref()?.get(key).await.ok()?
    }

    async fn put(&self, key: &str, value: &[u8]) {
        if let Some(store) = &self.store
            && let Err(error) = store.put(key, value).await
        {
            tracing::warn!(%error, "setting not kept");
        }
    }

    async fn hosting(&self) -> Option<Hosted> {
        serde_json::from_slice(&self.get(&format!("hosting-{}", self.slot)).await?).ok()
    }

    pub(crate) async fn set_hosting(&self, hosted: Option<Hosted>) {
        let key = format!("hosting-{}", self.slot);
        match (hosted, &self.store) {
            (Some(hosted), _) => {
                if let Ok(value) = serde_json::to_vec(&hosted) {
                    self.put(&key, &value).await;
                }
            }
            (None, Some(store)) => {
                if let Err(error) = store.delete(&key).await {
                    tracing::warn!(%error, "setting not removed");
                }
            }
            (None, None) => {}
        }
    }
}

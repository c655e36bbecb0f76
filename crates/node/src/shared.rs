//! What all tasks of a node share: its handles, and what it knows of the swarm.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdi_net::{LinkInfo, LinkKind, Net, NetStream};
use cdi_platform::task::{self, AbortOnDrop};
use cdi_platform::time::Instant;
use cdi_swarm::registry::Registry;
use cdi_swarm::relocation::Relocation;
use cdi_types::advert::Tier;
use cdi_types::session::{FRAME_HEADER_BYTES, MAX_CONTROL_BYTES, MAX_FRAME_PAYLOAD_BYTES};
use cdi_types::{Cid, Keypair, LayerRange, Network, PeerId};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt as _, SinkExt as _, future};

use crate::compute::protocol::{ModelInfo, StageKey};
use crate::compute::{Compute, StartArgs};
use crate::engine::{Hosted, Settings};
use crate::guests::Guests;
use crate::lane::Lanes;
use crate::serve;
use crate::text::Text;
use crate::uplink::Uplink;
use crate::view::{Event, HostLayers, Link, Progress, SpeedView};
use crate::wire::{Lost, Wire};
use crate::worker_path::WorkerPath;

/// What a libp2p stream is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Control messages between a client and a stage.
    Session,
    /// Rows from a stage to its successor.
    Activations,
}

impl Protocol {
    /// Its name on a network.
    pub(crate) fn name(self, network: Network) -> String {
        network.protocol(match self {
            Self::Session => "session",
            Self::Activations => "activations",
        })
    }

    /// Largest message in bytes.
    pub(crate) const fn limit(self) -> usize {
        match self {
            Self::Session => MAX_CONTROL_BYTES,
            Self::Activations => FRAME_HEADER_BYTES + MAX_FRAME_PAYLOAD_BYTES,
        }
    }
}

/// The handle that every task holds.
pub(crate) type Node = Arc<Shared>;

/// See [`Node`].
pub(crate) struct Shared {
    pub(crate) me: PeerId,
    pub(crate) net: Net,
    pub(crate) compute: Compute,
    pub(crate) text: Text,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    /// The links that peers hold to this node.
    pub(crate) guests: Guests,
    /// Channels of the compute half.
    pub(crate) worker_path: WorkerPath,
    /// How fast rows leave this node.
    pub(crate) uplink: Arc<Uplink>,
    /// Done once the model is known.
    pub(crate) model_known: future::Shared<oneshot::Receiver<()>>,
    /// Held while layers are fetched and loaded: one load at a time.
    pub(crate) loading: futures::lock::Mutex<()>,
    /// One sender for all tasks: every clone would add a place to the queue.
    events: futures::lock::Mutex<mpsc::Sender<Event>>,
    state: Mutex<State>,
    next_number: AtomicU64,
    started: Instant,
}

/// What the node was started with.
pub(crate) struct Limits {
    pub(crate) network: Network,
    pub(crate) keypair: Keypair,
    pub(crate) compute: StartArgs,
    /// Most bytes of weights to hold.
    pub(crate) budget_bytes: u64,
    /// Where the relay serves HTTP.
    pub(crate) relay: String,
}

/// What the node knows. Locked for moments only, never across a wait.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) links: BTreeMap<PeerId, LinkState>,
    pub(crate) model: Option<Model>,
    pub(crate) tier: Option<Tier>,
    pub(crate) kernel_id: String,
    pub(crate) hosting: Hosting,
    pub(crate) hidden: bool,
    /// Whether the user's picture of the peers is out of date.
    pub(crate) dirty: bool,
    /// Since when the relay is reached.
    pub(crate) relay_up: Option<Instant>,
    /// Where the relay is dialled.
    pub(crate) relay_addresses: Vec<String>,
    /// Whether the relay's web server is being asked who the relay is.
    pub(crate) asking_relay: bool,
    /// Sequence number of the last advert.
    pub(crate) sequence: u64,
    /// Announcements of others that were malformed, forged or stale.
    pub(crate) disbelieved: u64,
    /// Answers that this node is asking for now.
    pub(crate) answers: usize,
    /// Progress of the last load.
    pub(crate) progress: Option<Progress>,
    /// How fast this node computes, as far as the user knows.
    pub(crate) speed: Option<SpeedView>,
    /// Whether the compute half is being asked for that.
    pub(crate) measuring: bool,
    /// Whether a lost device is being replaced, and what it held loaded again.
    pub(crate) recovering: bool,
    /// Whether there is no back end until a lost one is replaced.
    pub(crate) restarting: bool,
    /// Completes [`Shared::model_known`].
    pub(crate) tell_model: Option<oneshot::Sender<()>>,
    /// Bytes that went from compute half to compute half, by peer.
    pub(crate) worker_bytes: BTreeMap<PeerId, u64>,
    /// Whose turn it is to write to each peer.
    pub(crate) lanes: Lanes,
    /// Running stages.
    pub(crate) stages: HashMap<StageKey, RunningStage>,
    /// Whether this node should host other layers.
    pub(crate) relocation: Relocation,
    /// Layers that too few nodes held at the last look.
    pub(crate) scarce: Vec<LayerRange>,
}

/// A stage that this node runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunningStage {
    /// What it computes.
    pub(crate) layers: LayerRange,
    /// Positions of cache that it reserved.
    pub(crate) positions: u32,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkState {
    pub(crate) kind: LinkKind,
    pub(crate) rtt_ms: Option<f32>,
    /// Bytes of streams.
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// What a relay lets through.
    pub(crate) limit_bytes: Option<u64>,
}

impl LinkState {
    /// A link of which only its kind is known yet.
    pub(crate) const fn new(kind: LinkKind) -> Self {
        Self { kind, rtt_ms: None, received_bytes: 0, sent_bytes: 0, limit_bytes: None }
    }
}

impl From<&LinkInfo> for LinkState {
    fn from(info: &LinkInfo) -> Self {
        Self {
            kind: info.link,
            rtt_ms: info.rtt.map(|rtt| rtt.as_secs_f32() * 1e3),
            received_bytes: info.received_bytes,
            sent_bytes: info.sent_bytes,
            limit_bytes: info.limit.and_then(|limit| limit.bytes),
        }
    }
}

/// The model that the swarm runs.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) id: Cid,
    pub(crate) info: ModelInfo,
}

/// What this node gives to the swarm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosting {
    /// How much the user allows; `None` while not hosting.
    pub(crate) wish: Option<HostLayers>,
    /// The layers held, or claimed while they are fetched.
    pub(crate) layers: Option<LayerRange>,
    /// Whether they are served.
    pub(crate) ready: bool,
    /// Serves nobody new.
    pub(crate) paused: bool,
    /// Milliseconds of one token through them, measured.
    pub(crate) decode_ms: f32,
    /// Most layers that fit the memory budget.
    pub(crate) fits: u32,
    /// Layers that are being fetched in place of the held ones.
    pub(crate) moving: Option<LayerRange>,
    /// Whether layers that were given up are kept for the sessions that began on them.
    pub(crate) leaving: bool,
}

impl State {
    /// Positions of KV cache over all hosted layers that this node can still give to sessions, of `kv_bytes`
    /// altogether.
    pub(crate) fn kv_room(&self, kv_bytes: u64) -> u32 {
        let (Some(model), Some(held)) = (&self.model, self.hosting.layers.filter(|_| self.hosting.ready)) else {
            return 0;
        };
        let a_layer = u64::from(model.info.kv_bytes_per_layer);
        let reserved = |s: &RunningStage| a_layer * u64::from(s.layers.count()) * u64::from(s.positions);
        let free = kv_bytes.saturating_sub(self.stages.values().map(reserved).sum());
        let by_bytes = free / (a_layer * u64::from(held.count())).max(1);
        let stages = serve::MAX_STAGES.saturating_sub(self.stages.len()) as u64;
        let by_stages = stages.saturating_mul(model.info.context.into());
        u32::try_from(by_bytes.min(by_stages)).unwrap_or(u32::MAX)
    }

    /// Measured milliseconds of one layer and one token in this node.
    pub(crate) fn local_layer_ms(&self) -> Option<f64> {
        let layers = self.hosting.layers.filter(|_| self.hosting.ready && self.hosting.decode_ms > 0.0)?;
        Some(f64::from(self.hosting.decode_ms) / f64::from(layers.count()))
    }
}

impl Hosting {
    /// How many further layers this node would take on for a session that would otherwise die.
    pub(crate) fn spare(&self) -> u32 {
        let held = self.layers.map_or(0, LayerRange::count);
        let most = match self.wish {
            Some(HostLayers::Auto) => self.fits,
            Some(HostLayers::Exactly(layers)) => layers.min(self.fits),
            None => 0,
        };
        let settled = self.ready && !self.paused && self.moving.is_none() && !self.leaving;
        if settled { most.saturating_sub(held) } else { 0 }
    }
}

impl Shared {
    pub(crate) fn new(
        me: PeerId,
        net: Net,
        compute: Compute,
        text: Text,
        events: mpsc::Sender<Event>,
        settings: Settings,
        limits: Limits,
    ) -> Node {
        let (tell_model, model_known) = oneshot::channel();
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "natively it is Send and Sync; in a browser nothing leaves its thread"
        )]
        Arc::new(Self {
            me,
            net,
            compute,
            text,
            settings,
            limits,
            guests: Guests::default(),
            worker_path: WorkerPath::default(),
            uplink: Arc::default(),
            model_known: model_known.shared(),
            loading: futures::lock::Mutex::new(()),
            events: futures::lock::Mutex::new(events),
            state: Mutex::new(State { tell_model: Some(tell_model), ..State::default() }),
            next_number: AtomicU64::new(1),
            started: Instant::now(),
        })
    }

    /// Milliseconds on a clock that never goes back.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Keeps what is hosted now for the next visit of this tab.
    pub(crate) async fn remember_hosting(&self) {
        let hosted = {
            let state = self.state();
            let at_most = match state.hosting.wish {
                Some(HostLayers::Exactly(layers)) => Some(layers),
                _ => None,
            };
            state.hosting.layers.filter(|_| state.hosting.ready).map(|layers| Hosted { layers, at_most })
        };
        self.settings.set_hosting(hosted).await;
    }

    /// The state, for a moment.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that is used once.
    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Layers of the model that this node's memory has room for.
    pub(crate) fn fits(&self, model: &Model) -> u32 {
        let layer_bytes = model.info.weight_bytes.div_ceil(u64::from(model.info.layers)).max(1);
        u32::try_from(self.limits.budget_bytes / layer_bytes).unwrap_or(u32::MAX).min(model.info.layers)
    }

    /// Tells the user; waits while the user's queue is full, so that nothing is lost.
    pub(crate) async fn emit(&self, event: Event) {
        // Without a reader there is nobody to tell.
        let _gone = self.events.lock().await.send(event).await;
    }

    /// A link to a node, which may be this one.
    pub(crate) async fn connect(self: &Arc<Self>, peer: PeerId, protocol: Protocol) -> Result<Wire, Lost> {
        if peer == self.me {
            let (here, there) = Wire::pair();
            serve::accept(self.clone(), peer, protocol, there);
            return Ok(here);
        }
        let opened = self.net.open_stream(peer, &protocol.name(self.limits.network)).await;
        match opened {
            Ok(stream) => Ok(self.wire(peer, protocol, stream).holding(self.watch(peer))),
            Err(error) => {
                tracing::info!(%peer, %error, "no stream");
                Err(Lost)
            }
        }
    }

    /// A link over a stream to or from `peer`.
    pub(crate) fn wire(&self, peer: PeerId, protocol: Protocol, stream: NetStream) -> Wire {
        let lane = self.state().lanes.to(peer);
        Wire::over(stream, protocol.limit(), lane, self.uplink.clone())
    }

    /// Has the loss of `peer` noticed within a second, until the result is dropped.
    fn watch(&self, peer: PeerId) -> AbortOnDrop {
        let net = self.net.clone();
        let watch = task::spawn(async move {
            match net.watch(peer).await {
                Ok(_watch) => future::pending().await,
                // A loss is noticed by pings then, or the link is gone already.
                Err(error) => tracing::debug!(%peer, %error, "no heartbeat"),
            }
        });
        watch.abort_on_drop()
    }

    /// How `peer` is reached.
    pub(crate) fn link(&self, peer: &PeerId) -> Option<Link> {
        if *peer == self.me {
            return Some(Link::Local);
        }
        self.state().links.get(peer).map(|l| link_view(l.kind))
    }
}

/// The user's word for a kind of link.
pub(crate) const fn link_view(kind: LinkKind) -> Link {
    match kind {
        LinkKind::Direct => Link::Direct,
        LinkKind::Relayed => Link::Relayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_sessions_is_what_is_really_left() {
        let info = ModelInfo {
            name: String::new(),
            layers: 8,
            hidden_bytes: 512,
            context: 512,
            end_of_text: Vec::new(),
            weight_bytes: 0,
            kv_bytes_per_layer: 100,
        };
        let model = Some(Model { id: cdi_types::block::raw_cid(b"model"), info });
        let mut state = State { model, ..State::default() };
        assert_eq!(state.kv_room(1_000_000), 0, "not hosting");
        state.hosting = Hosting { layers: LayerRange::new(0, 3).ok(), ready: true, ..Hosting::default() };
        // A position takes 400 bytes.
        assert_eq!(state.kv_room(1_000_000), 2_500);
        assert_eq!(state.kv_room(u64::MAX), 64 * 512, "the number of stages bounds it too");
        let stage = RunningStage { layers: LayerRange::new(0, 1).expect("a range"), positions: 500 };
        state.stages.insert(StageKey { session: [1; 16], layer: 0 }, stage);
        assert_eq!(state.kv_room(1_000_000), 2_250);
        state.stages.insert(StageKey { session: [2; 16], layer: 0 }, RunningStage { positions: 5_000, ..stage });
        assert_eq!(state.kv_room(1_000_000), 0);
    }
}

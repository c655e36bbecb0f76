//! What all tasks of a node share: its handles, and what it knows of the swarm.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdi_net::{LinkKind, Net};
use cdi_swarm::registry::Registry;
use cdi_types::advert::Tier;
use cdi_types::session::{FRAME_HEADER_BYTES, MAX_CONTROL_BYTES, MAX_FRAME_PAYLOAD_BYTES};
use cdi_types::{Cid, LayerRange, Network, PeerId};
use futures::SinkExt as _;
use futures::channel::mpsc;

use crate::compute::Compute;
use crate::compute::protocol::{ModelInfo, StageKey};
use crate::serve;
use crate::view::{Event, HostLayers, Link};
use crate::wire::{Lost, Wire};

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
    pub(crate) network: Network,
    pub(crate) net: Net,
    pub(crate) compute: Compute,
    events: mpsc::Sender<Event>,
    state: Mutex<State>,
    next_number: AtomicU64,
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
    /// Layers loaded for this node's own questions or for others.
    pub(crate) loaded: Option<LayerRange>,
    /// Running stages, and where their input goes.
    pub(crate) stages: HashMap<StageKey, mpsc::Sender<serve::Input>>,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkState {
    pub(crate) kind: LinkKind,
    pub(crate) rtt_ms: Option<f32>,
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
        if self.ready && !self.paused { most.saturating_sub(held) } else { 0 }
    }
}

impl Shared {
    pub(crate) fn new(
        me: PeerId,
        network: Network,
        net: Net,
        compute: Compute,
        events: mpsc::Sender<Event>,
    ) -> Node {
        let state = Mutex::default();
        Arc::new(Self { me, network, net, compute, events, state, next_number: AtomicU64::new(1) })
    }

    /// The state, for a moment.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that is used once.
    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the user; waits while the user's queue is full, so that nothing is lost.
    pub(crate) async fn emit(&self, event: Event) {
        // Without a reader there is nobody to tell.
        let _gone = self.events.clone().send(event).await;
    }

    /// A link to a node, which may be this one.
    pub(crate) async fn connect(self: &Arc<Self>, peer: PeerId, protocol: Protocol) -> Result<Wire, Lost> {
        if peer == self.me {
            let (here, there) = Wire::pair();
            serve::accept(self.clone(), peer, protocol, there);
            return Ok(here);
        }
        let opened = self.net.open_stream(peer, &protocol.name(self.network)).await;
        match opened {
            Ok(stream) => Ok(Wire::over(stream, protocol.limit())),
            Err(error) => {
                tracing::info!(%peer, %error, "no stream");
                Err(Lost)
            }
        }
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

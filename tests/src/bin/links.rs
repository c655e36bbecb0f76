//! A page that only has links: the network of a tab as the product runs it, driven from outside. Scripts find its
//! functions on `Peer`; `tests/interop/pages/links.html` loads it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cdi_net::{Address, Events, LinkKind, Net, NetArgs, NetEvent};
use cdi_platform::time::{Instant, timeout};
use cdi_tests::streams;
use cdi_tests::worker_path::{self, BOTH, ECHO, Path, SINK};
use cdi_types::{Keypair, Network, PeerId};
use futures::StreamExt as _;
use futures::lock::Mutex;
use wasm_bindgen::prelude::*;

/// Only a broken program takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    cdi_platform::log::init("info");
}

/// A node without engine.
#[wasm_bindgen]
pub struct Peer {
    net: Net,
    /// Read by whoever waits for something; the queue holds more than a test makes.
    events: Mutex<Events>,
    seen: RefCell<Seen>,
    /// Its worker, once it has one.
    path: RefCell<Option<Arc<Path>>>,
}

/// Runs in a worker: measures over the channel that its page hands over.
///
/// # Errors
/// The channel broke.
#[wasm_bindgen]
pub async fn work() -> Outcome<()> {
    Ok(worker_path::work().await?)
}

/// What the events said so far.
#[derive(Default)]
struct Seen {
    relays: Vec<PeerId>,
    links: BTreeMap<PeerId, LinkKind>,
    agents: BTreeMap<PeerId, String>,
    neighbours: Vec<PeerId>,
    /// Who announced something, and the size of it.
    heard: BTreeMap<PeerId, usize>,
}

impl Seen {
    fn take(&mut self, event: NetEvent) {
        match event {
            NetEvent::RelayUp { peer, .. } => self.relays.push(peer),
            NetEvent::PeerUp { peer, link } | NetEvent::PeerLink { peer, link } => drop(self.links.insert(peer, link)),
            NetEvent::PeerDown { peer } => drop(self.links.remove(&peer)),
            NetEvent::Identified { peer, agent } => drop(self.agents.insert(peer, agent)),
            NetEvent::Neighbour { peer } => self.neighbours.push(peer),
            NetEvent::Gossip { source, data } => drop(self.heard.insert(source, data.len())),
            _ => {}
        }
    }
}

type Outcome<T> = Result<T, JsError>;

#[wasm_bindgen]
impl Peer {
    /// Starts a node that keeps to these relays.
    ///
    /// # Errors
    /// An address that is none, or a network that does not start.
    pub async fn start(relays: Vec<String>) -> Outcome<Peer> {
        let args = NetArgs {
            keypair: Keypair::from_seed(&cdi_platform::random::seed()),
            network: Network::Testnet,
            relays: relays.iter().map(|relay| address(relay)).collect::<Outcome<_>>()?,
            listen: Vec::new(),
            ice_servers: Vec::new(),
            agent: "cdi-tests".to_owned(),
            options: cdi_net::NetOptions::default(),
        };
        let (net, events) = Net::start(args)?;
        streams::serve(&net).await?;
        Ok(Self { net, events: Mutex::new(events), seen: RefCell::default(), path: RefCell::default() })
    }

    /// Its peer id.
    #[must_use]
    pub fn id(&self) -> String {
        self.net.peer().to_string()
    }

    /// Waits for a reservation.
    ///
    /// # Errors
    /// None came in time.
    pub async fn join(&self) -> Outcome<()> {
        self.until(|seen| (!seen.relays.is_empty()).then_some(())).await
    }

    /// Reaches a peer; returns how long that took and how it is reached.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn dial(&self, peer: &str) -> Outcome<String> {
        let begin = Instant::now();
        let link = timeout(PATIENCE, self.net.dial(id(peer)?)).await??;
        Ok(dialled(begin, link))
    }

    /// Reaches whoever answers at an address; returns how long that took and how it is reached.
    ///
    /// # Errors
    /// Nobody answers.
    #[wasm_bindgen(js_name = dialAddress)]
    pub async fn dial_address(&self, text: &str) -> Outcome<String> {
        let begin = Instant::now();
        let peer = timeout(PATIENCE, self.net.dial_address(address(text)?)).await??;
        let link = self.net.links().await?.iter().find(|l| l.peer == peer).map(|l| l.link);
        Ok(dialled(begin, link.ok_or_else(|| JsError::new("gone again"))?))
    }

    /// Waits until a peer is reached in this way: `Direct` or `Relayed`.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn connected(&self, peer: &str, link: &str) -> Outcome<()> {
        let peer = id(peer)?;
        self.until(|seen| seen.links.get(&peer).filter(|kind| format!("{kind:?}") == link).map(drop)).await
    }

    /// Waits until a peer is gone.
    ///
    /// # Errors
    /// It stays.
    pub async fn disconnected(&self, peer: &str) -> Outcome<()> {
        let peer = id(peer)?;
        self.until(|seen| (!seen.links.contains_key(&peer)).then_some(())).await
    }

    /// Closes all connections to a peer.
    ///
    /// # Errors
    /// The network has stopped.
    pub async fn disconnect(&self, peer: &str) -> Outcome<()> {
        Ok(self.net.disconnect(id(peer)?).await?)
    }

    /// Which program a peer says that it runs.
    ///
    /// # Errors
    /// It does not say in time.
    pub async fn identify(&self, peer: &str) -> Outcome<String> {
        let peer = id(peer)?;
        self.until(|seen| seen.agents.get(&peer).cloned()).await
    }

    /// Waits until a peer listens to announcements.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn neighbour(&self, peer: &str) -> Outcome<()> {
        let peer = id(peer)?;
        self.until(|seen| seen.neighbours.contains(&peer).then_some(())).await
    }

    /// Announces that many bytes.
    ///
    /// # Errors
    /// They are too many.
    pub async fn publish(&self, bytes: usize) -> Outcome<()> {
        let mut data = vec![0; bytes];
        cdi_platform::random::fill(&mut data);
        Ok(self.net.publish(Bytes::from(data)).await?)
    }

    /// Waits for an announcement of a peer; returns its size.
    ///
    /// # Errors
    /// None comes in time.
    pub async fn heard(&self, peer: &str) -> Outcome<usize> {
        let peer = id(peer)?;
        self.until(|seen| seen.heard.get(&peer).copied()).await
    }

    /// Announcements dropped so far because they were too large.
    ///
    /// # Errors
    /// The network has stopped.
    pub async fn oversize(&self) -> Outcome<f64> {
        Ok(u32::try_from(self.net.stats().await?.gossip_oversize)?.into())
    }

    /// See [`streams::echo`].
    ///
    /// # Errors
    /// [`streams::StreamFailure`].
    pub async fn echo(&self, peer: &str, bytes: usize) -> Outcome<f64> {
        Ok(timeout(PATIENCE, streams::echo(&self.net, id(peer)?, bytes)).await??)
    }

    /// See [`streams::measure_echo`].
    ///
    /// # Errors
    /// [`streams::StreamFailure`].
    #[wasm_bindgen(js_name = measureEcho)]
    pub async fn measure_echo(&self, peer: &str, bytes: usize, rounds: usize) -> Outcome<Vec<f64>> {
        Ok(streams::measure_echo(&self.net, id(peer)?, bytes, rounds).await?)
    }

    /// See [`streams::measure_send`].
    ///
    /// # Errors
    /// [`streams::StreamFailure`].
    #[wasm_bindgen(js_name = measureSend)]
    pub async fn measure_send(&self, peer: &str, bytes: u32) -> Outcome<f64> {
        Ok(streams::measure_send(&self.net, id(peer)?, bytes.into()).await?)
    }

    /// See [`streams::measure_both`].
    ///
    /// # Errors
    /// [`streams::StreamFailure`].
    #[wasm_bindgen(js_name = measureBoth)]
    pub async fn measure_both(&self, peer: &str, bytes: u32) -> Outcome<f64> {
        Ok(streams::measure_both(&self.net, id(peer)?, bytes.into()).await?)
    }

    /// Starts a worker, the module at `url`, and takes channels for it.
    ///
    /// # Errors
    /// It does not start.
    #[wasm_bindgen(js_name = startWorker)]
    pub async fn start_worker(&self, url: &str) -> Outcome<()> {
        let path = Path::start(self.net.clone(), url).await?;
        *self.path.borrow_mut() = Some(path);
        Ok(())
    }

    /// Makes a channel from this page's worker to a peer's.
    ///
    /// # Errors
    /// There is none.
    #[wasm_bindgen(js_name = connectWorkers)]
    pub async fn connect_workers(&self, peer: &str) -> Outcome<()> {
        Ok(timeout(PATIENCE, self.worker()?.connect(&self.net, id(peer)?)).await??)
    }

    /// As [`Self::measure_echo`], from worker to worker.
    ///
    /// # Errors
    /// The channel broke.
    #[wasm_bindgen(js_name = workerEcho)]
    pub async fn worker_echo(&self, bytes: u32, rounds: u32) -> Outcome<Vec<f64>> {
        Ok(self.worker()?.measure(ECHO, bytes, rounds).await?)
    }

    /// As [`Self::measure_send`], from worker to worker.
    ///
    /// # Errors
    /// The channel broke.
    #[wasm_bindgen(js_name = workerSend)]
    pub async fn worker_send(&self, bytes: u32) -> Outcome<f64> {
        Ok(self.worker()?.measure(SINK, bytes, 1).await?.into_iter().sum())
    }

    /// As [`Self::measure_both`], from worker to worker.
    ///
    /// # Errors
    /// The channel broke.
    #[wasm_bindgen(js_name = workerBoth)]
    pub async fn worker_both(&self, bytes: u32) -> Outcome<f64> {
        Ok(self.worker()?.measure(BOTH, bytes, 1).await?.into_iter().sum())
    }

    fn worker(&self) -> Outcome<Arc<Path>> {
        self.path.borrow().clone().ok_or_else(|| JsError::new("no worker"))
    }

    /// Closes all connections and stops.
    pub async fn stop(&self) {
        self.net.shutdown().await;
    }

    /// Reads events until `found` finds something in what they said.
    async fn until<T>(&self, found: impl Fn(&Seen) -> Option<T>) -> Outcome<T> {
        let search = async {
            let mut events = self.events.lock().await;
            loop {
                if let Some(found) = found(&self.seen.borrow()) {
                    return Ok(found);
                }
                let event = events.next().await.ok_or_else(|| JsError::new("the network has stopped"))?;
                self.seen.borrow_mut().take(event);
            }
        };
        timeout(PATIENCE, search).await?
    }
}

fn dialled(begin: Instant, link: LinkKind) -> String {
    format!("{link:?} {}", begin.elapsed().as_secs_f64() * 1e3)
}

fn id(text: &str) -> Outcome<PeerId> {
    Ok(text.parse()?)
}

fn address(text: &str) -> Outcome<Address> {
    Ok(text.parse()?)
}

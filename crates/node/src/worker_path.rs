//! The worker path at the page: channels that the compute halves of two nodes use without their pages.
//!
//! The page agrees on a channel with the peer's page, hands it over to its compute half, and hears once a second what it
//! carried. Who offers a channel opens the links on it: a stage to its successor. Where there is none (a browser that
//! cannot hand channels over, a relayed link, a peer that does not offer it) rows take the page's streams.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cdi_net::{Lease, NetStream, worker_channel_protocol};
use cdi_platform::channel::is_transferable;
use cdi_platform::task::{self, BoxFuture};
use cdi_platform::time::{Instant, timeout};
use cdi_types::PeerId;
use cdi_types::channel::{ChannelLink, ids};
use futures::{FutureExt as _, StreamExt as _, future, select};

use crate::compute::Parts;
use crate::compute::protocol::{Answer, Ask, ChannelFigures, Via};
use crate::shared::Node;

/// How long a stage waits for a channel before its rows take the stream.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a worker may take to hear the other one.
const GREETING: Duration = Duration::from_secs(5);
/// A peer with which there is no channel is not asked again for so long.
const RETRY: Duration = Duration::from_secs(10);
/// Channels of one peer that are accepted: the second takes the place of one that is about to end.
const MAX_PER_PEER: usize = 2;
/// Answers of a channel that wait: one a second.
const REPORTS: usize = 16;

/// A channel that this node offered, as far as it has come.
type Opening = future::Shared<BoxFuture<'static, Option<Arc<OpenChannel>>>>;

/// The channels of a node.
pub(crate) struct WorkerPath {
    /// Whether this browser can hand channels over.
    possible: bool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// To successors, with the time of the attempt.
    offered: HashMap<PeerId, (Instant, Opening)>,
    /// How many were offered to anybody: no id is used twice in a row.
    attempts: usize,
    /// From predecessors: their numbers at the compute half, once they are there.
    accepted: HashMap<PeerId, HashMap<u16, Option<u64>>>,
}

/// A channel that is up.
#[derive(Debug)]
pub(crate) struct OpenChannel {
    number: u64,
    id: u16,
    links: AtomicU32,
    over: AtomicBool,
}

impl OpenChannel {
    /// A new link on it, for the successor and for the compute half.
    pub(crate) fn link(&self) -> (ChannelLink, Via) {
        let link = self.links.fetch_add(1, Ordering::Relaxed);
        (ChannelLink { id: self.id, link }, Via { number: self.number, link })
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Default for WorkerPath {
    fn default() -> Self {
        Self { possible: is_transferable(), table: Mutex::default() }
    }
}

impl WorkerPath {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole between any two statements.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the rows of a predecessor's link come, when it named a channel of its own.
    pub(crate) fn accepted(&self, peer: PeerId, channel: ChannelLink) -> Option<Via> {
        let number = *self.table().accepted.get(&peer)?.get(&channel.id)?;
        Some(Via { number: number?, link: channel.link })
    }

    /// Counts a channel of `peer`, unless there are too many or it is there already.
    fn admit(&self, peer: PeerId, id: u16) -> bool {
        let mut table = self.table();
        let of_peer = table.accepted.entry(peer).or_default();
        of_peer.len() < MAX_PER_PEER && of_peer.insert(id, None).is_none()
    }

    fn forget(&self, peer: PeerId, id: u16) {
        let mut table = self.table();
        if let Some(of_peer) = table.accepted.get_mut(&peer) {
            of_peer.remove(&id);
            if of_peer.is_empty() {
                table.accepted.remove(&peer);
            }
        }
    }
}

/// A channel to a successor; nothing where rows are to take the stream. A stage that will need one may ask ahead of time.
pub(crate) async fn channel_to(node: &Node, peer: PeerId) -> Option<Arc<OpenChannel>> {
    if peer == node.me || !node.worker_path.possible {
        return None;
    }
    let opening = opening(node, peer);
    timeout(PATIENCE, opening).await.ok().flatten().filter(|channel| !channel.is_over())
}

fn opening(node: &Node, peer: PeerId) -> Opening {
    let mut table = node.worker_path.table();
    table.offered.retain(|_, (begun, opening)| match opening.peek() {
        None => true,
        Some(Some(channel)) => !channel.is_over(),
        Some(None) => begun.elapsed() < RETRY,
    });
    if let Some((_, opening)) = table.offered.get(&peer) {
        return opening.clone();
    }
    table.attempts += 1;
    let free = ids(&node.me, &peer).count().max(1);
    let id = ids(&node.me, &peer).nth(table.attempts % free).unwrap_or_default();
    let opening: BoxFuture<'static, _> = Box::pin(offer(node.clone(), peer, id));
    let opening = opening.shared();
    table.offered.insert(peer, (Instant::now(), opening.clone()));
    task::spawn(opening.clone().map(drop));
    opening
}

async fn offer(node: Node, peer: PeerId, id: u16) -> Option<Arc<OpenChannel>> {
    let (end, lease) = match node.net.offer_channel(peer, id).await {
        Ok(agreed) => agreed,
        Err(error) => {
            tracing::debug!(%peer, %error, "rows take the stream");
            return None;
        }
    };
    let number = node.number();
    let ask = Ask::Channel { number, offered: true };
    let mut parts = node.compute.converse(ask, Some(end), REPORTS).await.ok()?;
    if !heard(&mut parts, &Answer::Up).await {
        tracing::info!(%peer, "a worker channel that carries nothing");
        close(&node, number).await;
        return None;
    }
    let channel = Arc::new(OpenChannel { number, id, links: AtomicU32::new(1), over: AtomicBool::new(false) });
    tracing::info!(%peer, id, "rows will go from worker to worker");
    let kept = channel.clone();
    task::spawn(async move {
        keep(&node, peer, number, parts, lease).await;
        kept.over.store(true, Ordering::Relaxed);
    });
    Some(channel)
}

/// Takes the channels that peers offer, where this browser can use them.
pub(crate) async fn accept(node: Node) {
    if !node.worker_path.possible {
        return;
    }
    match node.net.accept(&worker_channel_protocol(node.limits.network)).await {
        Ok(mut incoming) => {
            while let Some((peer, stream)) = incoming.next().await {
                task::spawn(accepted(node.clone(), peer, stream));
            }
        }
        Err(error) => tracing::error!(%error, "no worker channels are accepted"),
    }
}

async fn accepted(node: Node, peer: PeerId, stream: NetStream) {
    let mut offered = match node.net.offered_channel(peer, stream).await {
        Ok(offered) => offered,
        Err(error) => return tracing::debug!(%peer, %error, "a worker channel is refused"),
    };
    let id = offered.id;
    let (number, end) = (node.number(), offered.end.take());
    if !node.worker_path.admit(peer, id) {
        return tracing::info!(%peer, id, "a worker channel too many");
    }
    let ask = Ask::Channel { number, offered: false };
    if let Ok(mut parts) = node.compute.converse(ask, end, REPORTS).await {
        if heard(&mut parts, &Answer::Attached).await {
            // Before the peer can name it in a greeting.
            node.worker_path.table().accepted.entry(peer).or_default().insert(id, Some(number));
            match offered.accept(peer).await {
                Ok(lease) => keep(&node, peer, number, parts, lease).await,
                Err(error) => tracing::debug!(%peer, %error, "a worker channel that nobody waits for"),
            }
        }
        close(&node, number).await;
    }
    node.worker_path.forget(peer, id);
}

/// Waits for an answer of the compute half.
async fn heard(parts: &mut Parts, wanted: &Answer) -> bool {
    let search = async {
        while let Some((answer, _)) = parts.next().await {
            if answer == *wanted {
                return true;
            }
        }
        false
    };
    timeout(GREETING, search).await.unwrap_or(false)
}

/// Counts what the channel carries until it, or the agreement on it, ends; then both do.
async fn keep(node: &Node, peer: PeerId, number: u64, mut parts: Parts, mut lease: Lease) {
    let mut told = ChannelFigures::default();
    loop {
        let figures = select! {
            part = parts.next() => match part {
                Some((Answer::Figures(figures), _)) => figures,
                Some((Answer::ChannelClosed { figures, violation }, _)) => {
                    count(node, peer, &lease, told, figures);
                    if let Some(violation) = violation {
                        tracing::info!(%peer, %violation, "a worker channel is closed");
                        let _stopped = node.net.report(peer, false).await;
                    }
                    return;
                }
                Some(_) => continue,
                None => return,
            },
            () = lease.over().fuse() => return close(node, number).await,
        };
        count(node, peer, &lease, told, figures);
        told = figures;
    }
}

/// Counts what is new in a report.
fn count(node: &Node, peer: PeerId, lease: &Lease, told: ChannelFigures, now: ChannelFigures) {
    let new = |figure: fn(&ChannelFigures) -> u64| figure(&now).saturating_sub(figure(&told));
    let (received, sent) = (new(|f| f.received_bytes), new(|f| f.sent_bytes));
    lease.count(received, sent, (received > 0).then(|| Duration::from_millis(now.silent_ms)));
    let bulk = usize::try_from(new(|f| f.bulk_bytes)).unwrap_or(usize::MAX);
    node.uplink.sent(bulk, Duration::from_micros(new(|f| f.bulk_us)));
    let mut state = node.state();
    *state.worker_bytes.entry(peer).or_default() += received + sent;
    state.dirty = true;
}

async fn close(node: &Node, number: u64) {
    // A compute half that is gone has closed it.
    let _gone = node.compute.tell(Ask::CloseChannel { number }, Vec::new()).await;
}

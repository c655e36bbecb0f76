//! Stages that this node runs, for others and for itself: the page's half.
//!
//! The stage itself runs in the compute half (`compute/stage.rs`). Here its layers are made ready and its links are
//! kept: what the client says goes to the stage and back, and so do rows where no channel carries them
//! (`worker_path.rs`). Whatever a peer sends ends at worst its own session.

use std::time::Duration;

use cdi_platform::task::{self, AbortOnDrop};
use cdi_platform::time::{Ticker, timeout};
use cdi_types::session::{Control, Hello, Open, Refusal, Welcome};
use cdi_types::{PeerId, cbor};
use futures::future::{FusedFuture as _, OptionFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, select};

use crate::compute::protocol::{Answer, Ask, Failure, StageKey, Via};
use crate::compute::{Parts, Taken};
use crate::host;
use crate::shared::{Node, Protocol, RunningStage};
use crate::wire::Wire;
use crate::worker_path::channel_to;

/// Most stages that run at once.
pub(crate) const MAX_STAGES: usize = 64;
/// How long a peer may take to say what it wants.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// How often a client hears that layers are still being fetched.
const PREPARING: Duration = Duration::from_secs(1);
/// Frames of a link that the compute half has not taken yet; a predecessor that is further ahead waits.
const FRAMES: usize = 16;
/// What a stage says that may wait for a link: a token for each position of a long session, and frames within the
/// successor's credit.
const SAYINGS: usize = 4096;

/// Serves one link that a peer opened, unless it has too many.
pub(crate) fn accept(node: Node, peer: PeerId, protocol: Protocol, wire: Wire) {
    let Some(guest) = node.guests.admit(peer) else {
        let refused = node.guests.refused();
        return tracing::info!(%peer, refused, "a link too many");
    };
    task::spawn(async move {
        match protocol {
            Protocol::Session => session(node, peer, wire).await,
            Protocol::Activations => activations(node, peer, wire).await,
        }
        drop(guest);
    });
}

/// Keeps a predecessor's link to the stage that it names, and passes its rows on where they come this way.
async fn activations(node: Node, peer: PeerId, mut wire: Wire) {
    let Ok(Some(first)) = timeout(FIRST_MESSAGE, wire.recv()).await else { return };
    let hello: Hello = match cbor::decode(&first) {
        Ok(hello) => hello,
        Err(error) => return tracing::info!(%peer, %error, "activations without a greeting"),
    };
    let stage = StageKey { session: hello.session, layer: hello.layer };
    let (welcome, link) = match greeted(&node, peer, stage, hello).await {
        Some((welcome, link)) => (welcome, Some(link)),
        None => (Welcome::Refused, None),
    };
    let Ok(answer) = cbor::encode(&welcome) else { return };
    if wire.send(answer).await.is_err() {
        return;
    }
    let Some((link, mut parts)) = link else { return };
    let mut taking: FuturesUnordered<Taken> = FuturesUnordered::new();
    loop {
        let room = taking.len() < FRAMES;
        select! {
            bytes = OptionFuture::from(room.then(|| wire.recv().fuse())) => {
                let Some(bytes) = bytes.flatten() else { return };
                let Ok(taken) = node.compute.tell(Ask::Frame { stage, link }, bytes).await else { return };
                taking.push(taken);
            }
            _ = taking.select_next_some() => {}
            // Something else when the stage ended, or a newer link has taken the place of this one.
            part = parts.next() => {
                let Some((Answer::Credit(have), _)) = part else { return };
                let Ok(credit) = cbor::encode(&Welcome::Have(have)) else { return };
                if wire.send(credit).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Introduces a predecessor to a stage; returns the stage's answer and the link. Nothing when the stage refuses.
async fn greeted(node: &Node, peer: PeerId, stage: StageKey, hello: Hello) -> Option<(Welcome, (u64, Parts))> {
    if !node.state().stages.contains_key(&stage) {
        return None;
    }
    let via = match hello.channel {
        // One that is gone here is about to be gone there.
        Some(channel) => Some(node.worker_path.accepted(peer, channel)?),
        None => None,
    };
    let mut parts = node.compute.converse(Ask::Hello { stage, hello, via }, None, SAYINGS).await.ok()?;
    match parts.next().await? {
        (Answer::Welcome { link, welcome }, _) if welcome != Welcome::Refused => Some((welcome, (link, parts))),
        _ => None,
    }
}

/// Serves a client's control link from its first message to its end.
async fn session(node: Node, peer: PeerId, mut wire: Wire) {
    let Ok(Some(first)) = timeout(FIRST_MESSAGE, wire.recv()).await else { return };
    let Ok(Control::Open(open)) = Control::decode(&first) else {
        return tracing::info!(%peer, "a session must begin with a request");
    };
    let refusal = match prepare(&node, peer, *open, &mut wire).await {
        Ok(Some(open)) => match run(&node, peer, open, &mut wire).await {
            Ok(()) => return,
            Err(refusal) => refusal,
        },
        Ok(None) => return,
        Err(refusal) => refusal,
    };
    let (attempt, reason) = refusal;
    if let Ok(message) = (Control::Refused { attempt, reason }).encode() {
        let _gone = wire.send(message).await;
    }
}

type Refused = (u32, Refusal);

/// Checks a request and fetches layers if they are missing. `None` when the client left.
async fn prepare(node: &Node, peer: PeerId, mut open: Open, wire: &mut Wire) -> Result<Option<Open>, Refused> {
    let refuse = |open: &Open, refusal| (open.attempt, refusal);
    let model = node.state().model.clone().filter(|m| m.id == open.model);
    let Some(model) = model else { return Err(refuse(&open, Refusal::NotHeld)) };
    let last = open.layers.end() == model.info.layers;
    if open.layers.end() > model.info.layers || open.next.is_some() == last {
        return Err(refuse(&open, Refusal::Invalid("layers and successor do not fit the model".to_owned())));
    }
    let key = StageKey { session: open.session, layer: open.layers.first() };
    {
        let state = node.state();
        if state.stages.len() >= MAX_STAGES || state.stages.contains_key(&key) {
            return Err(refuse(&open, Refusal::Full));
        }
        if peer != node.me && state.hosting.paused {
            return Err(refuse(&open, Refusal::NotHeld));
        }
    }
    let mut holding = Box::pin(host::ensure(node.clone(), open.layers, peer == node.me).fuse());
    let mut still = Ticker::every(PREPARING);
    loop {
        select! {
            held = holding => match held {
                Ok(()) => break,
                Err(error) => {
                    tracing::info!(%peer, layers = %open.layers, %error, "cannot take on the layers");
                    return Err(refuse(&open, Refusal::NotHeld));
                }
            },
            message = wire.recv().fuse() => match message.map(|m| Control::decode(&m)) {
                // The route changed while the layers were being fetched.
                Some(Ok(Control::Open(newer))) if newer.layers == open.layers && newer.attempt > open.attempt => {
                    open = *newer;
                }
                Some(Ok(Control::Query)) => reply(wire, Control::Held { have: 0 }).await,
                _ => return Ok(None),
            },
            () = still.tick().fuse() => {
                let progress = node.state().progress.unwrap_or_default();
                let (done_bytes, total_bytes) = (progress.done_bytes, progress.total_bytes);
                reply(wire, Control::Preparing { done_bytes, total_bytes }).await;
            }
        }
    }
    Ok(Some(open))
}

async fn reply(wire: &mut Wire, message: Control) {
    if let Ok(bytes) = message.encode() {
        // A client that is gone shows at the next read.
        let _gone = wire.send(bytes).await;
    }
}

/// Runs a stage until its client leaves or it fails.
///
/// # Errors
/// The refusal to send when it cannot begin.
async fn run(node: &Node, peer: PeerId, open: Open, wire: &mut Wire) -> Result<(), Refused> {
    let stage = StageKey { session: open.session, layer: open.layers.first() };
    let (attempt, layers, positions) = (open.attempt, open.layers, open.max_positions);
    if node.state().stages.contains_key(&stage) {
        return Err((attempt, Refusal::Full));
    }
    if let Some(next) = open.next.as_ref().and_then(|next| PeerId::from_bytes(next).ok()) {
        // Agreed upon while the other stages are being opened.
        let node = node.clone();
        task::spawn(async move { drop(channel_to(&node, next).await) });
    }
    let kernel_id = node.state().kernel_id.clone();
    let ask = Ask::RunStage { open: Box::new(open), kernel_id };
    node.state().stages.insert(stage, RunningStage { layers, positions });
    let began = begin(node, stage, ask, wire).await;
    node.state().stages.remove(&stage);
    match began {
        Ok(None | Some(Answer::Done)) => Ok(()),
        // The client was told.
        Ok(Some(answer)) => {
            ended(node, peer, &answer);
            Ok(())
        }
        Err(Answer::Refused(refusal)) => Err((attempt, refusal)),
        Err(answer) => {
            ended(node, peer, &answer);
            Err((attempt, Refusal::Full))
        }
    }
}

/// Notes why a stage ended by itself.
fn ended(node: &Node, peer: PeerId, answer: &Answer) {
    tracing::info!(%peer, ?answer, "a stage ended");
    if matches!(answer, Answer::Failed { kind: Failure::DeviceLost, .. }) {
        host::device_lost(node);
    }
}

/// Has the compute half run a stage; returns its last word, an error if that was its first.
async fn begin(node: &Node, stage: StageKey, ask: Ask, wire: &mut Wire) -> Result<Option<Answer>, Answer> {
    let gone = |_| Answer::Refused(Refusal::Full);
    let mut parts = node.compute.converse(ask, None, SAYINGS).await.map_err(gone)?;
    match parts.next().await {
        Some((Answer::Control, granted)) => {
            // A client that is gone shows at the next read.
            let _gone = wire.send(granted).await;
            Ok(serve(node, stage, parts, wire).await)
        }
        Some((answer, _)) => Err(answer),
        None => Err(Answer::Refused(Refusal::Full)),
    }
}

/// Passes messages between a stage and its client; returns the stage's last word, unless the client left before.
async fn serve(node: &Node, stage: StageKey, mut parts: Parts, wire: &mut Wire) -> Option<Answer> {
    let mut next: Option<AbortOnDrop> = None;
    // One message of the client at a time: it waits for the stage, not the page for it.
    let mut taking: OptionFuture<Taken> = None.into();
    loop {
        let room = taking.is_terminated();
        select! {
            bytes = OptionFuture::from(room.then(|| wire.recv().fuse())) => match bytes.flatten() {
                Some(bytes) => taking = Some(node.compute.tell(Ask::Control { stage }, bytes).await.ok()?).into(),
                None => break,
            },
            _ = taking => {}
            part = parts.next() => match part {
                Some((Answer::Control, bytes)) => if wire.send(bytes).await.is_err() {
                    break;
                },
                Some((Answer::Connect { link, peer, hello }, _)) => {
                    let work = connect(node.clone(), stage, link, peer, hello);
                    // Any earlier link ends here.
                    drop(next.replace(task::spawn(work).abort_on_drop()));
                }
                Some((last, _)) => return Some(last),
                None => break,
            },
        }
    }
    // The compute half may be gone, and the stage with it. What it still computes is waited for: its memory is not free
    // before.
    let _gone = node.compute.tell(Ask::EndStage { stage }, Vec::new()).await;
    while parts.next().await.is_some() {}
    None
}

/// Keeps the link to the successor, and reports its answer and its loss.
async fn connect(node: Node, stage: StageKey, link: u64, peer: Vec<u8>, hello: Hello) {
    if let Some((wire, welcome, via)) = greet(&node, &peer, hello).await {
        let refused = welcome == Welcome::Refused;
        let ask = Ask::Connected { stage, link, welcome, via };
        let Ok(parts) = node.compute.converse(ask, None, SAYINGS).await else { return };
        if refused || carry(&node, stage, link, wire, parts).await {
            return;
        }
    }
    // A stage that is over needs no news.
    let _over = node.compute.tell(Ask::NextLost { stage, link }, Vec::new()).await;
}

/// Carries rows and credit, unless a channel does; returns whether the stage itself ended the link.
async fn carry(node: &Node, stage: StageKey, link: u64, mut wire: Wire, mut parts: Parts) -> bool {
    loop {
        select! {
            part = parts.next() => {
                let Some((Answer::Frame { bulk }, bytes)) = part else { return true };
                let sent = if bulk { wire.send_bulk(bytes).await } else { wire.send(bytes).await };
                if sent.is_err() {
                    return false;
                }
            }
            credit = wire.recv().fuse() => {
                let Some(Ok(Welcome::Have(have))) = credit.map(|bytes| cbor::decode(&bytes)) else { return false };
                if node.compute.tell(Ask::Credit { stage, link, have }, Vec::new()).await.is_err() {
                    return true;
                }
            }
        }
    }
}

async fn greet(node: &Node, peer: &[u8], mut hello: Hello) -> Option<(Wire, Welcome, Option<Via>)> {
    let peer = PeerId::from_bytes(peer).ok()?;
    let (channel, via) = channel_to(node, peer).await.map(|channel| channel.link()).unzip();
    hello.channel = channel;
    let mut wire = node.connect(peer, Protocol::Activations).await.ok()?;
    wire.send(cbor::encode(&hello).ok()?).await.ok()?;
    let answer = timeout(FIRST_MESSAGE, wire.recv()).await.ok()??;
    Some((wire, cbor::decode(&answer).ok()?, via))
}

//! Stages that this node runs, for others and for itself.
//!
//! One task a stage drives [`Stage`]: it reads the client's control link, takes rows from the predecessor's
//! link, runs the kernels and sends rows to the successor's. Whatever a peer sends ends at worst its own
//! session.

use std::time::Duration;

use cdi_platform::task::{self, AbortOnDrop};
use cdi_platform::time::{Ticker, timeout};
use cdi_swarm::stage::{Action, Output, Stage, Work, WorkInput};
use cdi_types::session::{Control, Frame, Hello, Open, Refusal, Welcome};
use cdi_types::{PeerId, cbor};
use futures::channel::{mpsc, oneshot};
use futures::future::{Fuse, FusedFuture as _};
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, select};

use crate::compute::protocol::StageKey;
use crate::compute::{ComputeError, Step, Stepped};
use crate::host;
use crate::shared::{Node, Protocol, RunningStage};
use crate::wire::Wire;

/// Most stages that run at once.
pub(crate) const MAX_STAGES: usize = 64;
/// How long a peer may take to say what it wants.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// How often a client hears that layers are still being fetched.
const PREPARING: Duration = Duration::from_secs(1);
/// Credits on their way to a predecessor. It cannot cause more: it may send rows for four, then it needs one.
const CREDITS: usize = 8;
/// Input that waits for a stage; a predecessor that is further ahead waits.
const INPUT_QUEUE: usize = 16;

type Kernels = Fuse<task::BoxFuture<'static, Result<Stepped, ComputeError>>>;

/// What reaches a stage besides its client's messages. `link` names the link it came by.
pub(crate) enum Input {
    /// A predecessor opened a link.
    Hello {
        link: u64,
        hello: Hello,
        respond_to: oneshot::Sender<Welcome>,
        /// Positions up to which rows are computed, for the predecessor.
        credits: mpsc::Sender<u32>,
    },
    /// Rows, or what was sent in their place.
    Frame { link: u64, frame: Result<Frame, cdi_types::session::FrameError> },
    /// The successor answered.
    Welcome { link: u64, welcome: Welcome },
    /// The successor has computed the rows before this position.
    Credit { link: u64, have: u32 },
    /// The successor is gone.
    NextLost { link: u64 },
}

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

/// Passes a predecessor's rows to the stage that it names.
async fn activations(node: Node, peer: PeerId, mut wire: Wire) {
    let Ok(Some(first)) = timeout(FIRST_MESSAGE, wire.recv()).await else { return };
    let hello: Hello = match cbor::decode(&first) {
        Ok(hello) => hello,
        Err(error) => return tracing::info!(%peer, %error, "activations without a greeting"),
    };
    let key = StageKey { session: hello.session, layer: hello.layer };
    let stage = node.state().stages.get(&key).map(|stage| stage.inputs.clone());
    let link = node.number();
    let (credits, mut given) = mpsc::channel(CREDITS);
    let welcome = match &stage {
        Some(stage) => {
            let (respond_to, response) = oneshot::channel();
            // A stage that ended meanwhile drops the greeting, and with it the response.
            let _ended = stage.clone().send(Input::Hello { link, hello, respond_to, credits }).await;
            response.await.unwrap_or(Welcome::Refused)
        }
        None => Welcome::Refused,
    };
    let Ok(answer) = cbor::encode(&welcome) else { return };
    if wire.send(answer).await.is_err() || welcome == Welcome::Refused {
        return;
    }
    let Some(mut stage) = stage else { return };
    loop {
        let sent = select! {
            bytes = wire.recv().fuse() => {
                let Some(bytes) = bytes else { return };
                stage.send(Input::Frame { link, frame: Frame::decode(&bytes) }).await.is_ok()
            }
            // None when the stage ended, or a newer link has taken the place of this one.
            have = given.next() => {
                let Some(Ok(credit)) = have.map(|have| cbor::encode(&Welcome::Have(have))) else { return };
                wire.send(credit).await.is_ok()
            }
        };
        if !sent {
            return;
        }
    }
}

/// Serves a client's control link from its first message to its end.
async fn session(node: Node, peer: PeerId, mut wire: Wire) {
    let Ok(Some(first)) = timeout(FIRST_MESSAGE, wire.recv()).await else { return };
    let Ok(Control::Open(open)) = Control::decode(&first) else {
        return tracing::info!(%peer, "a session must begin with a request");
    };
    let refusal = match prepare(&node, peer, *open, &mut wire).await {
        Ok(Some((stage, key))) => return run(&node, peer, stage, key, wire).await,
        Ok(None) => return,
        Err(refusal) => refusal,
    };
    let (attempt, reason) = refusal;
    if let Ok(message) = (Control::Refused { attempt, reason }).encode() {
        let _gone = wire.send(message).await;
    }
}

type Refused = (u32, Refusal);

/// Checks a request, fetches layers if they are missing, and reserves the cache. `None` when the client left.
async fn prepare(
    node: &Node,
    peer: PeerId,
    mut open: Open,
    wire: &mut Wire,
) -> Result<Option<(Stage, StageKey)>, Refused> {
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
    let (attempt, layers, positions) = (open.attempt, open.layers, open.max_positions);
    let hidden_bytes = model.info.hidden_bytes as usize;
    let stage = Stage::new(open, hidden_bytes, model.info.context).map_err(|refusal| (attempt, refusal))?;
    match node.compute.open_stage(key, model.id, layers, positions).await {
        Ok(()) => Ok(Some((stage, key))),
        Err(error) => {
            tracing::info!(%peer, %error, "no room for a session");
            if error.is_device_lost() {
                host::device_lost(node);
            }
            Err((attempt, Refusal::Full))
        }
    }
}

async fn reply(wire: &mut Wire, message: Control) {
    if let Ok(bytes) = message.encode() {
        // A client that is gone shows at the next read.
        let _gone = wire.send(bytes).await;
    }
}

/// Drives a stage until its client leaves or it fails.
async fn run(node: &Node, client: PeerId, stage: Stage, key: StageKey, wire: Wire) {
    let (inputs, input_queue) = mpsc::channel(INPUT_QUEUE);
    let (layers, positions) = (stage.open().layers, stage.open().max_positions);
    node.state().stages.insert(key, RunningStage { layers, positions, inputs: inputs.clone() });
    let granted = Action::Reply(stage.granted(&node.state().kernel_id));
    let for_others = client != node.me;
    node.state().served.sessions += u64::from(for_others);
    let mut runner = Runner {
        node: node.clone(),
        stage,
        key,
        wire,
        inputs,
        kernels: Fuse::terminated(),
        inbound: None,
        next: None,
        for_others,
    };
    if runner.apply(vec![granted]).await {
        runner.serve(input_queue).await;
    }
    node.state().stages.remove(&key);
    if let Err(error) = node.compute.close_stage(key).await {
        tracing::debug!(%error, "stage not closed");
    }
}

struct Runner {
    node: Node,
    stage: Stage,
    key: StageKey,
    wire: Wire,
    inputs: mpsc::Sender<Input>,
    kernels: Kernels,
    /// The predecessor's current link, and the way back; rows by any other are stale.
    inbound: Option<(u64, mpsc::Sender<u32>)>,
    next: Option<NextLink>,
    /// Whether the client is another node.
    for_others: bool,
}

/// The link to the successor.
struct NextLink {
    link: u64,
    frames: mpsc::Sender<Frame>,
    _task: AbortOnDrop,
}

impl Runner {
    async fn serve(&mut self, mut input_queue: mpsc::Receiver<Input>) {
        loop {
            let actions = select! {
                message = self.wire.recv().fuse() => match message {
                    Some(bytes) => self.control(&bytes),
                    None => return,
                },
                input = input_queue.next() => match input {
                    Some(input) => self.input(input),
                    None => return,
                },
                result = &mut self.kernels => self.computed(result),
            };
            if !self.apply(actions).await {
                return;
            }
        }
    }

    fn control(&mut self, bytes: &[u8]) -> Vec<Action> {
        match Control::decode(bytes) {
            Ok(Control::Open(open)) => {
                let kernel_id = self.node.state().kernel_id.clone();
                self.stage.reopen(*open, &kernel_id)
            }
            Ok(Control::Tokens { position, ids, .. }) => self.stage.tokens(position, &ids),
            Ok(Control::Query) => vec![Action::Reply(self.stage.status())],
            Ok(Control::Close) => vec![Action::End],
            Ok(_) | Err(_) => {
                let message = "a message that only a stage may send, or none at all".to_owned();
                vec![Action::Reply(Control::Failed { message, retriable: false }), Action::End]
            }
        }
    }

    fn input(&mut self, input: Input) -> Vec<Action> {
        let current = |next: &Option<NextLink>, link| next.as_ref().is_some_and(|n| n.link == link);
        match input {
            Input::Hello { link, hello, respond_to, credits } => {
                let welcome = self.stage.hello(&hello);
                if welcome != Welcome::Refused {
                    self.inbound = Some((link, credits));
                }
                // A predecessor that is gone already opens another link, or the client replaces it.
                let _gone = respond_to.send(welcome);
                Vec::new()
            }
            Input::Frame { link, .. } if self.inbound.as_ref().is_none_or(|(current, _)| *current != link) => {
                Vec::new()
            }
            Input::Frame { frame: Ok(frame), .. } => self.stage.frame(&frame),
            Input::Frame { frame: Err(error), .. } => {
                vec![Action::Reply(Control::Failed { message: error.to_string(), retriable: false }), Action::End]
            }
            Input::Welcome { link, welcome } if current(&self.next, link) => self.stage.next_welcome(&welcome),
            Input::Credit { link, have } if current(&self.next, link) => self.stage.next_credit(have),
            Input::NextLost { link } if current(&self.next, link) => {
                self.next = None;
                self.stage.next_lost()
            }
            Input::Welcome { .. } | Input::Credit { .. } | Input::NextLost { .. } => Vec::new(),
        }
    }

    fn computed(&mut self, result: Result<Stepped, ComputeError>) -> Vec<Action> {
        let before = held(&self.stage);
        let actions = self.take_in(result);
        if self.for_others {
            self.node.state().served.tokens += u64::from(held(&self.stage).saturating_sub(before));
        }
        actions
    }

    fn take_in(&mut self, result: Result<Stepped, ComputeError>) -> Vec<Action> {
        match result {
            Ok(Stepped::Rows(rows)) => self.stage.computed(Output::Rows(rows)),
            Ok(Stepped::Tokens(tokens)) => self.stage.computed(Output::Tokens(tokens)),
            Err(error) => {
                let retriable = true;
                if error.is_device_lost() {
                    host::device_lost(&self.node);
                }
                vec![Action::Reply(Control::Failed { message: error.to_string(), retriable }), Action::End]
            }
        }
    }

    /// Does what the stage asks for; `false` when it is over.
    async fn apply(&mut self, actions: Vec<Action>) -> bool {
        for action in actions {
            match action {
                Action::Reply(message) => {
                    let Ok(bytes) = message.encode() else { return false };
                    if self.wire.send(bytes).await.is_err() {
                        return false;
                    }
                }
                Action::Compute(work) => self.kernels = self.step(work),
                Action::ConnectNext { peer, hello } => self.connect_next(&peer, hello),
                Action::SendNext(frame) => {
                    // The queue holds a frame for each reserved position: it cannot be full.
                    let sent = self.next.as_mut().is_some_and(|next| next.frames.try_send(frame).is_ok());
                    if !sent {
                        tracing::debug!("rows for a successor that is gone");
                    }
                }
                Action::Credit(have) => {
                    if let Some((_, credits)) = &mut self.inbound {
                        // A predecessor that is gone needs none.
                        let _gone = credits.try_send(have);
                    }
                }
                Action::End => return false,
            }
        }
        true
    }

    fn step(&self, work: Work) -> Kernels {
        debug_assert!(self.kernels.is_terminated(), "a stage computes one piece at a time");
        let (tokens, rows) = match work.input {
            WorkInput::Tokens(ids) => (Some(ids), Vec::new()),
            WorkInput::Rows(rows) => (None, rows),
        };
        let sample = work.sample_from.map(|from| (from, self.stage.open().sampling));
        let step = Step { stage: self.key, start: work.start, tokens, rows, sample };
        let compute = self.node.compute.clone();
        let kernels: task::BoxFuture<'static, _> = Box::pin(async move { compute.step(step).await });
        kernels.fuse()
    }

    fn connect_next(&mut self, peer: &[u8], hello: Hello) {
        let link = self.node.number();
        let (frames, queue) = mpsc::channel(self.stage.open().max_positions as usize);
        let work = next(self.node.clone(), peer.to_vec(), hello, link, queue, self.inputs.clone());
        self.next = Some(NextLink { link, frames, _task: task::spawn(work).abort_on_drop() });
    }
}

/// Positions that a stage has computed.
fn held(stage: &Stage) -> u32 {
    match stage.status() {
        Control::Held { have } => have,
        _ => 0,
    }
}

/// Carries rows to the successor, and reports its answer and its loss.
async fn next(
    node: Node,
    peer: Vec<u8>,
    hello: Hello,
    link: u64,
    mut frames: mpsc::Receiver<Frame>,
    mut inputs: mpsc::Sender<Input>,
) {
    if let Some((mut wire, welcome)) = greet(&node, &peer, &hello).await {
        let refused = welcome == Welcome::Refused;
        let told = inputs.send(Input::Welcome { link, welcome }).await;
        if refused || told.is_err() {
            return;
        }
        loop {
            select! {
                frame = frames.next() => {
                    let Some(frame) = frame else { return };
                    let bulk = frame.rows > 1;
                    let bytes = frame.encode();
                    let sent = if bulk { wire.send_bulk(bytes).await } else { wire.send(bytes).await };
                    if sent.is_err() {
                        break;
                    }
                }
                credit = wire.recv().fuse() => {
                    let Some(Ok(Welcome::Have(have))) = credit.map(|bytes| cbor::decode(&bytes)) else { break };
                    if inputs.send(Input::Credit { link, have }).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
    // A stage that is over needs no news.
    let _over = inputs.send(Input::NextLost { link }).await;
}

async fn greet(node: &Node, peer: &[u8], hello: &Hello) -> Option<(Wire, Welcome)> {
    let peer = PeerId::from_bytes(peer).ok()?;
    let mut wire = node.connect(peer, Protocol::Activations).await.ok()?;
    wire.send(cbor::encode(hello).ok()?).await.ok()?;
    let answer = timeout(FIRST_MESSAGE, wire.recv()).await.ok()??;
    Some((wire, cbor::decode(&answer).ok()?))
}
